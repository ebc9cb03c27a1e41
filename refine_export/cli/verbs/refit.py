"""`refit`: new weights into an engine."""

from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.render.console import make_progress
from refine_export.cli.render.render_engine import print_engine
from refine_export.cli.verbs.finish import print_json, recipe_with_options
from refine_export.cli.verbs.shared_options import (
    CheckpointOption,
    ForceOption,
    FramesOption,
    JsonOption,
    QuietOption,
    RecipeOption,
)


def refit(
    plan: Annotated[Path, typer.Argument(help="An engine that was built with --refittable or --strip-weights.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file with the weights, lowered as the engine's own was.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The plan to write; it may be the one that is read.")],
    checkpoint: CheckpointOption = None,
    frames: FramesOption = None,
    recipe: RecipeOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put new weights into an engine without a rebuild, compared with torch; needs TensorRT and a GPU."""
    from refine_export.jobs import engines as engine_jobs

    chosen = recipe_with_options(recipe, checkpoint=checkpoint, frames=frames)
    made = engine_jobs.refit(plan, file, output, chosen, force=force, progress=make_progress(quiet or as_json))
    if as_json:
        print_json(made.as_json())
    else:
        print_engine(made)
