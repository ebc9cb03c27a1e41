"""`validate`: files against the reference."""

from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_verdicts import print_report
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, QuietOption, RecipeOption


@stage_options("checkpoint.path", "checkpoint.refine", "frames", "validate", "run.require")
def validate(
    files: Annotated[list[Path], typer.Argument(help="ONNX files of the graphs, from any tool, and engines.")],
    recipe: RecipeOption = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Search ONNX files that fail for the node where they go wrong.")
    ] = False,
    float64: Annotated[bool, typer.Option("--float64", help="Compute the reference in float64.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Folder for report.html and report.json.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compare files that were made from other weights too.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Validate files and print the report."""
    result = rx.validate(
        files,
        report=report,
        locate=bisect,
        recipe=recipe,
        force=force,
        progress=make_progress(quiet or as_json),
        reference="float64" if float64 else None,
        **options,
    )
    show(result, as_json, print_report)
