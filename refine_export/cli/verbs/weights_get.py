"""`weights get`: fetch released weights."""

from typing import Annotated

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.verbs.shared_options import JsonOption, QuietOption


def weights_get(
    name: Annotated[str, typer.Argument(help="rife-4.0 or hdv3: see `weights list`.")],
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch weights and print the path of the file."""
    fetched = rx.fetch_weights(name, progress=make_progress(quiet or as_json))
    show(fetched, as_json, lambda weights: typer.echo(weights.path))
