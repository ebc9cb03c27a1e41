"""`validate`: files against the reference."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from refine_export.cli.render.console import make_progress
from refine_export.cli.verbs.finish import finish, recipe_with_options, require_from
from refine_export.cli.verbs.shared_options import (
    CheckpointOption,
    FramesOption,
    JsonOption,
    QuietOption,
    RecipeOption,
    RequireOption,
)
from refine_export.validate.validate_options import Runtime


def validate(
    files: Annotated[list[Path], typer.Argument(help="ONNX files of the graphs, from any tool, and engines.")],
    checkpoint: CheckpointOption = None,
    frames: FramesOption = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="PATH", help="A folder of frames, a video or an .npz; repeat for several."),
    ] = None,
    max_pairs: Annotated[
        int | None, typer.Option("--max-pairs", help="Most pairs of each folder or video. Default: all.")
    ] = None,
    recipe: RecipeOption = None,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="HxW", help="Also at this size (dynamic files); repeat for several."),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            help=f"{', '.join(get_args(Runtime))}; repeat for several. Default: by the file's types.",
            autocompletion=lambda: list(get_args(Runtime)),
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compare files that were made from other weights too.")
    ] = False,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Search ONNX files that fail for the node where they go wrong.")
    ] = False,
    require: RequireOption = None,
    allow_host_code: Annotated[
        bool, typer.Option("--allow-host-code", help="Run engines that bring code for this host; trust them first.")
    ] = False,
    float64: Annotated[bool, typer.Option("--float64", help="Compute the reference in float64.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Folder for report.html and report.json.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare ONNX files and engines with the torch reference on the checkpoint's weights."""
    from refine_export.jobs import main_job as pipeline

    chosen = recipe_with_options(
        recipe,
        checkpoint=checkpoint,
        frames=frames,
        inputs=inputs,
        max_pairs=max_pairs,
        sizes=size,
        runtimes=runtime,
        reference="float64" if float64 else None,
        require=require_from(require),
        allow_host_code=allow_host_code or None,
    )
    result = pipeline.validate_files(files, chosen, report, make_progress(quiet or as_json), force=force, locate=bisect)
    finish(result.report, result.folder, as_json)
