"""`deploy triton`: artifacts to a model repository."""

from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.print_files import print_deployed
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption
from refine_export.deploy.triton.deploy_options import TritonOptions


@stage_options(TritonOptions)
def deploy_triton(
    artifacts: Annotated[
        list[Path],
        typer.Argument(help="ONNX files and engines of the graphs; several of one graph are its versions."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model repository to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a repository that is there.")] = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Write a model repository and print what is in it."""
    show(rx.deploy_triton(artifacts, output=output, force=force, **options), as_json, print_deployed)
