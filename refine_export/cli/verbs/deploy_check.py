"""`deploy check`: find faults of a model repository before a server loads it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from refine_export.cli.exit_codes import show
from refine_export.cli.render.print_files import print_preflight
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption
from refine_export.deploy.preflight.preflight_options import PreflightOptions


@stage_options(PreflightOptions)
def deploy_check(
    repository: Annotated[Path, typer.Argument(help="A model repository of Triton's, of this tool or any other.")],
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Check a repository and print the findings."""
    from refine_export.deploy.preflight.preflight import check_repository  # needs onnx, which --help does not

    show(check_repository(repository, **options), as_json, print_preflight)
