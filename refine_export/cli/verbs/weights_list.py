"""`weights list`: released weights."""

import refine_export as rx
from refine_export.cli.exit_codes import print_json
from refine_export.cli.render.print_files import print_weights
from refine_export.cli.verbs.shared_options import JsonOption


def weights_list(as_json: JsonOption = False) -> None:
    """Print a line for each of the released weights."""
    weights = rx.list_weights()
    if as_json:
        print_json([one.to_dict() for one in weights])
    else:
        print_weights(weights)
