"""`deploy check`: find faults of a model repository before a server loads it."""

from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.exit_codes import show
from refine_export.cli.render.print_files import print_preflight
from refine_export.cli.verbs.shared_options import JsonOption


def deploy_check(
    repository: Annotated[Path, typer.Argument(help="A model repository of Triton's, of this tool or any other.")],
    triton_release: Annotated[
        str | None,
        typer.Option("--triton-release", metavar="YY.MM", help="Container that is to serve it, such as 26.06."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a repository and print the findings."""
    from refine_export.deploy.preflight.preflight import check_repository  # needs onnx, which --help does not

    show(check_repository(repository, release=triton_release), as_json, print_preflight)
