"""`lower`: FP32 ONNX to FP16."""

from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.render.console import make_progress, print_lowered
from refine_export.cli.verbs.finish import print_json, recipe_with_options
from refine_export.cli.verbs.shared_options import (
    CalibrateOption,
    CalibrationSizeOption,
    CheckpointOption,
    ExplainOption,
    ForceOption,
    FramesOption,
    GridSampleOption,
    IoOption,
    JsonOption,
    MaxErrorOption,
    PrecisionOption,
    QuietOption,
    RecipeOption,
    TargetPsnrOption,
    WithoutWarpOption,
)


def lower(
    file: Annotated[Path, typer.Argument(help="An FP32 ONNX file, from any tool.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    precision: PrecisionOption = None,
    io: IoOption = None,
    gridsample: GridSampleOption = None,
    target_psnr: TargetPsnrOption = None,
    max_error: MaxErrorOption = None,
    calibrate: CalibrateOption = None,
    size: CalibrationSizeOption = None,
    frames: FramesOption = None,
    checkpoint: CheckpointOption = None,
    recipe: RecipeOption = None,
    without_warp: WithoutWarpOption = False,
    explain: ExplainOption = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn FP32 ONNX into strongly typed FP16 whose warp coordinates stay FP32."""
    from refine_export.jobs import main_job as pipeline

    chosen = recipe_with_options(
        recipe,
        checkpoint=checkpoint,
        frames=frames,
        precision=precision,
        io=io,
        gridsample=gridsample,
        target_psnr=target_psnr,
        max_error=max_error,
    )
    result = pipeline.lower(
        file,
        output,
        chosen,
        feeds=calibrate or (),
        size=size,
        without_warp=without_warp,
        force=force,
        progress=make_progress(quiet or as_json),
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print_lowered(result, explain=explain)
    if not result.passed:
        raise typer.Exit(1)
