"""`build`: compile ONNX to a TensorRT engine, compared with torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_files import print_engine
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import EngineForceOption, JsonOption, QuietOption, RecipeOption


@stage_options("checkpoint.path", "checkpoint.refine", "frames.pair", "build")
def build(
    file: Annotated[Path, typer.Argument(help="An ONNX file of one of the graphs, FP32 or lowered.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The engine to write.")],
    recipe: RecipeOption = None,
    fp32: Annotated[
        Path | None,
        typer.Option("--fp32", help="What FILE was lowered from, for the last fallback. Default: by its manifest."),
    ] = None,
    force: EngineForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Build an engine and print how it was proven."""
    progress = make_progress(quiet or as_json)
    made = rx.build(file, output=output, recipe=recipe, fp32=fp32, force=force, progress=progress, **options)
    show(made, as_json, print_engine)
