"""`doctor`: what this machine can do."""

from refine_export.cli.render.console import print_checks
from refine_export.cli.verbs.finish import print_json
from refine_export.cli.verbs.shared_options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine can do, and the command that adds what is missing."""
    import dataclasses

    from refine_export.doctor.diagnosis import diagnose

    checks = diagnose()
    if as_json:
        print_json([dataclasses.asdict(check) for check in checks])
    else:
        print_checks(checks)
