"""`run`: weights and two frames to ONNX files, engines, manifests, verdicts and a report in one folder.

    import refine_export as rx

    print(rx.run(output="out").status)

A second run reuses every file whose fingerprint (inputs, options, versions) is unchanged. An interrupted run leaves
only complete files; the next run produces the rest.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from refine_export.artifacts import Artifact, artifact_from_file
from refine_export.engine.build_options import BuildOptions
from refine_export.errors import UnavailableError
from refine_export.export.reference_network import signature_of_checkpoint
from refine_export.jobs.build_engine import build_engines, engine_targets
from refine_export.jobs.commands import commands_of
from refine_export.jobs.export_graphs import chosen_graphs, export_graphs
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, JobInputs, job_inputs
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.jobs.validation_report import ValidationReport, report_on
from refine_export.lower.calibration_feeds import Calibration
from refine_export.lower.lower_options import LowerOptions, lowered_suffix
from refine_export.lower.lowered_file import lower_file
from refine_export.report.report_data import Shortfall
from refine_export.signature import fitting_size
from refine_export.support.files import make_folder, user_path
from refine_export.support.progress import Progress


@takes_options("run", "frames", "export", "lower", "build", "validate", "checkpoint.refine")
def run(
    *,
    checkpoint: AnyPath | None = None,
    frames: tuple[AnyPath, AnyPath] | None = None,
    recipe: AnyRecipe = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> ValidationReport:
    """Export, lower, build, validate and report.

    Args:
        checkpoint: the weights. Defaults to released RIFE 4.0.
        frames: two pictures to compare on. Defaults to the sample.
        recipe: Recipe object or path; explicit options override it.
        force: overwrite ONNX files in the output folder that this tool did not write.
        progress: receives each step.
        options: fields of all stages' options, such as `output`, the folder.

    Raises:
        RequestError: the weights, frames or options cannot be used.
        UnavailableError: torch, ONNX Runtime or another package is missing.
    """
    started = time.perf_counter()
    inputs = job_inputs(recipe, progress, checkpoint, frames, **options)
    folder = user_path(inputs.recipe.run.output)
    make_folder(folder)
    _ = inputs.checkpoint, inputs.sources  # loaded, or refused, before the first long step
    _check_sizes(inputs)
    targets, missing = engine_targets(inputs.recipe)
    exported = [
        (one.path, one.artifact)
        for one in export_graphs(inputs, force=force, suffixes=("", _suffix(inputs.recipe.lower)))
    ]
    files, shortfalls = _with_lowered(exported, inputs)
    engines, unbuilt = build_engines(files, targets, inputs)
    shortfalls += [*missing, *unbuilt]
    return report_on([*files, *engines], inputs, folder, started=started, shortfalls=shortfalls)


def _check_sizes(inputs: JobInputs) -> None:
    """Refuse sizes of the validation and of engines that do not fit the padding of a graph.

    Raises:
        RequestError: `wrong-size`.
    """
    export, build = inputs.recipe.export, inputs.recipe.build
    for graph in chosen_graphs(inputs) if export.dynamic else ():
        unit = signature_of_checkpoint(inputs.checkpoint, graph, export.scale).multiple_of
        inputs.recipe.validate.sizes_at(unit)
        for size in (build.min_size, build.opt_size, build.max_size):
            if size is not None:
                fitting_size(size, unit, default=size == BuildOptions.opt_size)


def _suffix(options: LowerOptions) -> str:
    """Return the part of the lowered files' names before `.onnx`; empty where nothing is lowered."""
    unchanged = lowered_suffix(options) == "fp32"
    return "" if unchanged else f".{lowered_suffix(options)}"


def _with_lowered(
    files: list[tuple[Path, Artifact]], inputs: JobInputs
) -> tuple[list[tuple[Path, Artifact]], list[Shortfall]]:
    """Return each FP32 file with the one that it is lowered to behind it, and what could not be done."""
    options = inputs.recipe.lower
    if not (suffix := _suffix(options)):
        return files, []
    calibration = Calibration(source=lambda: inputs.sources.first, checkpoint=lambda: inputs.checkpoint)
    found, shortfalls = [], []
    for path, artifact in files:
        found.append((path, artifact))
        output = path.with_suffix(f"{suffix}.onnx")
        try:
            commands = commands_of("lower", inputs.recipe, {"onnx": path})
            lowered = lower_file(path, output, options, calibration, inputs.progress, commands=commands)
        except UnavailableError as error:  # the FP32 file is whole, and a verdict on it can be given
            shortfalls.append(Shortfall(what=output.name, status="not compared", reason=f"it was not made: {error}"))
            continue
        made = artifact_from_file(output)
        found.append(
            (output, dataclasses.replace(made, file=output.name, reused=lowered.reused, seconds=lowered.seconds))
        )
        if not lowered.passed:
            reason = "it misses its target of accuracy, though every region of it is FP32"
            shortfalls.append(Shortfall(what=output.name, status="failed", reason=reason))
    return found, shortfalls
