"""`bisect`: find the first wrong node of a file."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_verdicts import print_bisected
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, QuietOption, RecipeOption
from refine_export.runners.runtime_names import Runtime

_RUNTIMES = ", ".join(get_args(Runtime))


@stage_options("checkpoint.path", "checkpoint.refine", "frames.pair")
def bisect(
    file: Annotated[Path, typer.Argument(help="An ONNX file, FP32 or lowered.")],
    against: Annotated[
        Path | None,
        typer.Option("--against", help="ONNX file to compare with. Default: FP32, exported from the weights."),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help=f"Runs FILE: {_RUNTIMES}. Default: by its types.")
    ] = None,
    against_runtime: Annotated[
        str | None, typer.Option("--against-runtime", help="Runs the reference. Default: by its types.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="For a file that takes any. Default: the frames'.")
    ] = None,
    feed: Annotated[
        list[Path] | None, typer.Option("--feed", metavar="NPZ", help="An array for each input; repeat.")
    ] = None,
    recipe: RecipeOption = None,
    force: Annotated[bool, typer.Option("--force", help="Compare with weights that FILE was not made from.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Bisect a file and print where it goes wrong."""
    found = rx.bisect(
        file,
        against=against,
        runtime=runtime,  # type: ignore[arg-type]  # checked there
        against_runtime=against_runtime,  # type: ignore[arg-type]
        size=size,
        feeds=feed or (),
        recipe=recipe,
        force=force,
        progress=make_progress(quiet or as_json),
        **options,
    )
    show(found, as_json, print_bisected)
