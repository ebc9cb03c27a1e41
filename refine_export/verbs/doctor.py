"""`doctor`: what this machine can do."""

from refine_export.console import print_checks
from refine_export.verbs.common import print_json
from refine_export.verbs.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine can do, and the command that adds what is missing."""
    import dataclasses

    from refine_export.doctor import diagnose

    checks = diagnose()
    if as_json:
        print_json([dataclasses.asdict(check) for check in checks])
    else:
        print_checks(checks)
