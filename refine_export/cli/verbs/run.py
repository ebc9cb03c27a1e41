"""`run`: the main job."""

from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.render.console import make_progress
from refine_export.cli.verbs.finish import finish, recipe_with_options, require_from
from refine_export.cli.verbs.shared_options import (
    CheckpointOption,
    DynamicOption,
    FramesOption,
    GraphOption,
    JsonOption,
    QuietOption,
    RecipeOption,
    RequireOption,
)


def run(
    recipe: RecipeOption = None,
    frames: FramesOption = None,
    checkpoint: CheckpointOption = None,
    graph: GraphOption = None,
    dynamic: DynamicOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for all that is made.")] = None,
    require: RequireOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export, validate and report: the main job. Without arguments, on sample frames and default weights."""
    from refine_export.jobs import main_job as pipeline

    chosen = recipe_with_options(
        recipe,
        checkpoint=checkpoint,
        frames=frames,
        graphs=graph,
        dynamic=dynamic,
        output=output,
        require=require_from(require),
    )
    result = pipeline.run(chosen, make_progress(quiet or as_json))
    finish(result.report, result.folder, as_json)
