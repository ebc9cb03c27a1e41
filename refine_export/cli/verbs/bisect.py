"""`bisect`: where a file goes wrong."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from refine_export.cli.render.console import make_progress
from refine_export.cli.render.render_bisect import print_bisected
from refine_export.cli.verbs.finish import print_json, recipe_with_options
from refine_export.cli.verbs.shared_options import CheckpointOption, FramesOption, JsonOption, QuietOption, RecipeOption
from refine_export.errors import RequestError
from refine_export.validate.validate_options import Runtime

_RUNTIMES = ", ".join(get_args(Runtime))


def bisect(
    file: Annotated[Path, typer.Argument(help="An ONNX file, FP32 or lowered.")],
    checkpoint: CheckpointOption = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="ONNX file to compare with. Default: FP32, exported from the weights."),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help=f"Of FILE: {_RUNTIMES}. Default: by its types.")
    ] = None,
    against_runtime: Annotated[
        str | None, typer.Option("--against-runtime", help="Of the reference. Default: by its types.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="For a file that takes any. Default: the frames'.")
    ] = None,
    frames: FramesOption = None,
    feed: Annotated[
        list[Path] | None, typer.Option("--feed", metavar="NPZ", help="An array for each input; repeat.")
    ] = None,
    recipe: RecipeOption = None,
    force: Annotated[bool, typer.Option("--force", help="Compare with weights that FILE was not made from.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the first node whose result its inputs and its type do not explain. Exit code 1 if there is one."""
    from refine_export.jobs import bisect_file

    found = bisect_file.bisect_file(
        file,
        recipe_with_options(recipe, checkpoint=checkpoint, frames=frames),
        against=against,
        runtime=_runtime(runtime),
        against_runtime=_runtime(against_runtime),
        size=size,
        feeds=feed or (),
        force=force,
        progress=make_progress(quiet or as_json),
    )
    if as_json:
        print_json(found.to_dict())
    else:
        print_bisected(found)
    if found.first is not None:
        raise typer.Exit(1)


def _runtime(name: str | None) -> Runtime | None:
    for known in get_args(Runtime):
        if name == known:
            runtime: Runtime = known
            return runtime
    if name is not None:
        raise RequestError(f"there is no runtime {name!r}; expected one of {_RUNTIMES}")
    return None
