"""`deploy check`: what is wrong with a model repository, before a server sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.output import print_json
from refine_export.cli.render.print_files import print_findings
from refine_export.cli.verbs.shared_options import JsonOption


def check(
    repository: Annotated[Path, typer.Argument(help="A model repository of Triton's, of this tool or any other.")],
    triton_release: Annotated[
        str | None,
        typer.Option("--triton-release", metavar="YY.MM", help="Container that is to serve it, such as 26.06."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find what a Triton server would refuse in a model repository, or accept and then do wrong."""
    import dataclasses

    from refine_export.deploy.preflight.preflight import check_repository
    from refine_export.graph.lint_rules import Finding

    checked = check_repository(repository, release=triton_release)
    if as_json:
        print_json(
            {
                "repository": str(repository),
                "triton_release": triton_release,
                "passed": checked.passed,
                "models": checked.models,
                "findings": [dataclasses.asdict(one) for one in checked.findings],
            }
        )
    else:
        found: dict[str, list[Finding]] = {str(repository / name): [] for name in ("", *checked.models)}
        for one in checked.findings:
            shown = Finding(
                rule=one.rule,
                severity=one.severity,
                node=one.where,
                message=one.message,
                why=one.why,
                fix=one.fix,
            )
            found.setdefault(str(repository / one.model), []).append(shown)
        print_findings(found)
    if not checked.passed:
        raise typer.Exit(1)
