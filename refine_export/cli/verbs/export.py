"""`export`: checkpoint to ONNX."""

from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.render.console import make_progress, print_artifacts
from refine_export.cli.verbs.finish import print_json, recipe_with_options
from refine_export.cli.verbs.shared_options import (
    CheckpointOption,
    DynamicOption,
    GraphOption,
    JsonOption,
    QuietOption,
    RecipeOption,
    SizeOption,
)


def export(
    checkpoint: CheckpointOption = None,
    graph: GraphOption = None,
    dynamic: DynamicOption = None,
    size: SizeOption = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Frame pairs per call of a static file.")] = None,
    recipe: RecipeOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the ONNX files.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write ONNX files (opset 18) with a manifest beside each, without validation."""
    from refine_export.jobs import main_job as pipeline

    chosen = recipe_with_options(
        recipe, checkpoint=checkpoint, graphs=graph, dynamic=dynamic, size=size, batch=batch, output=output
    )
    artifacts = pipeline.export(chosen, make_progress(quiet or as_json))
    if as_json:
        import dataclasses

        print_json([dataclasses.asdict(artifact) for artifact in artifacts])
    else:
        print_artifacts(Path(chosen.run.output), artifacts)
