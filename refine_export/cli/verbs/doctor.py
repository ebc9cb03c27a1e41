"""`doctor`: show what this machine can run."""

from refine_export.cli.exit_codes import print_json
from refine_export.cli.render.print_files import print_checks
from refine_export.cli.verbs.shared_options import JsonOption
from refine_export.support.text import json_safe


def doctor(as_json: JsonOption = False) -> None:
    """Print what this machine can do."""
    from refine_export.doctor.diagnosis import diagnose  # needs onnx, which --help does not

    checks = diagnose()
    if as_json:
        print_json(json_safe(checks))
    else:
        print_checks(checks)
