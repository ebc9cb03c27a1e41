"""`refit`: new weights into an engine."""

from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_files import print_engine
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import EngineForceOption, JsonOption, QuietOption, RecipeOption


@stage_options("checkpoint.path", "frames.pair")
def refit(
    engine: Annotated[Path, typer.Argument(help="An engine that was built with --refittable or --strip-weights.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file with the weights, lowered as the engine's own was.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The engine to write; it may be the one read.")],
    recipe: RecipeOption = None,
    force: EngineForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Refit an engine and print how it was proven."""
    progress = make_progress(quiet or as_json)
    made = rx.refit(engine, file, output=output, recipe=recipe, force=force, progress=progress, **options)
    show(made, as_json, print_engine)
