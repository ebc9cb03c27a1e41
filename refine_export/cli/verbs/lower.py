"""`lower`: FP32 ONNX to FP16."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_files import print_lowered
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, OwnForceOption, QuietOption, RecipeOption


@stage_options("lower", "frames.pair", "checkpoint.path", "checkpoint.refine")
def lower(
    file: Annotated[Path, typer.Argument(help="An FP32 ONNX file, from any tool.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    calibrate: Annotated[
        list[Path] | None,
        typer.Option("--calibrate", metavar="NPZ", help="An array for each input; repeat. Default: sample frames."),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="Size to calibrate a dynamic file at.")
    ] = None,
    recipe: RecipeOption = None,
    without_warp: Annotated[bool, typer.Option("--without-warp", help="The graph samples nothing.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print every node's type and the reason.")] = False,
    force: OwnForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Lower a file and print what became of it."""
    result = rx.lower(
        file,
        output=output,
        feeds=calibrate or (),
        size=size,
        without_warp=without_warp,
        recipe=recipe,
        force=force,
        progress=make_progress(quiet or as_json),
        **options,
    )
    show(result, as_json, partial(print_lowered, explain=explain))
