"""`validate`: ONNX files and engines against the torch reference on the checkpoint's weights."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from refine_export.engine.engine_manifest import artifact_from_path, check_version
from refine_export.jobs.bisect_file import bisect
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, job_inputs, path_of, paths_of
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.jobs.validation_report import ValidationReport, report_on
from refine_export.support.files import make_folder
from refine_export.support.progress import Progress


@takes_options("validate", "frames", "run.require", "checkpoint.refine")
def validate(
    files: AnyPath | Sequence[AnyPath],
    *,
    checkpoint: AnyPath | None = None,
    frames: tuple[AnyPath, AnyPath] | None = None,
    report: str | os.PathLike[str] | None = None,
    locate: bool = False,
    recipe: AnyRecipe = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> ValidationReport:
    """Compare ONNX files, of this tool or others, and engines with the reference.

    Args:
        files: paths, or results of `export`, `lower` and `build`.
        checkpoint: the weights of the reference.
        frames: two pictures to compare on. Defaults to the sample.
        report: folder for report.html and report.json. Defaults to no report.
        locate: for each failing ONNX file, find the first wrong node and add it to the report.
        recipe: Recipe object or path; explicit options override it.
        force: compare files that were made from other weights too.
        progress: receives each step.
        options: fields of `ValidateOptions` and `FramesOptions`, and `require`.

    Raises:
        RequestError: no file is given; a file is not one of the graphs that the weights make, or was made from other
            weights; weights, frames or options cannot be used.
        UnavailableError: torch, ONNX Runtime or another package is missing.
    """
    started = time.perf_counter()
    inputs = job_inputs(recipe, progress, checkpoint, frames, **options)
    folder = None if report is None else path_of(report)
    if folder is not None:
        make_folder(folder)
    known = [(path, artifact_from_path(path)) for path in dict.fromkeys(paths_of(files))]
    for path, artifact in known:
        if artifact.engine is not None:
            check_version(path)
    advice = ", or compare it all the same with --force"
    known = [
        (path, inputs.check_graph(path, one) if force else inputs.check_weights(path, one, advice=advice))
        for path, one in known
    ]
    for _, artifact in known:
        inputs.recipe.validate.sizes_at(artifact.multiple_of)
    return report_on(
        known,
        inputs,
        folder,
        started=started,
        locate=(lambda path: bisect(path, recipe=inputs.recipe, force=force, progress=progress).to_dict())
        if locate
        else None,
    )
