"""`lower`: an FP32 ONNX file to strongly typed FP16 whose warp coordinates stay FP32."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from refine_export.errors import RecipeError
from refine_export.jobs.commands import commands_of
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, any_paths_of, job_inputs, path_of
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.lower.calibration_feeds import Calibration
from refine_export.lower.lowered_file import LoweredFile, check_output, lower_file
from refine_export.signature import parse_size
from refine_export.support.progress import Progress


@takes_options("lower", "checkpoint.refine")
def lower(
    onnx: AnyPath,
    *,
    output: str | os.PathLike[str],
    checkpoint: AnyPath | None = None,
    frames: tuple[AnyPath, AnyPath] | None = None,
    feeds: Sequence[AnyPath] = (),
    size: str | None = None,
    without_warp: bool = False,
    recipe: AnyRecipe = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> LoweredFile:
    """Lower one FP32 ONNX file, of this tool or another.

    Args:
        onnx: the file, or the result of `export`.
        output: the ONNX file to write; its manifest, with every node's type and reason, is written beside it.
        checkpoint: weights that estimate flows and features for calibration, where the file is one of the graphs.
        frames: two pictures to calibrate with. Defaults to the sample.
        feeds: .npz files to calibrate with instead, each with an array for each input.
        size: HEIGHTxWIDTH at which a dynamic file is calibrated.
        without_warp: confirm that the graph has no sampler.
        recipe: Recipe object or path; explicit options override it.
        force: overwrite `output`.
        progress: receives each step.
        options: fields of `LowerOptions`.

    Raises:
        RequestError: the file, the feeds or the options cannot be used, or `output` is there.
        UnavailableError: a package is missing.
    """
    inputs = job_inputs(recipe, progress, checkpoint, frames, **options)
    source, target = path_of(onnx), path_of(output)
    files = tuple(any_paths_of(feeds))
    check_output(source, target, force=force, others=[*files, *inputs.files])
    calibration = Calibration(
        source=lambda: inputs.sources.first,
        checkpoint=lambda: inputs.checkpoint,
        files=files,
        size=checked_size(size),
    )
    commands = commands_of("lower", inputs.recipe, {"onnx": source}, feeds=files, size=size, without_warp=without_warp)
    return lower_file(
        source,
        target,
        inputs.recipe.lower,
        calibration,
        inputs.progress,
        without_warp=without_warp,
        commands=commands,
    )


def checked_size(size: str | None) -> tuple[int, int] | None:
    """Return height and width.

    Raises:
        RecipeError: `wrong-option`.
    """
    try:
        return None if size is None else parse_size(size)
    except ValueError as error:
        raise RecipeError(str(error), code="wrong-option", option="size") from error
