"""The main job: weights and two frames to ONNX files, engines, manifests, verdicts and a report in one folder.

    from refine_export.pipeline import run
    from refine_export.recipe import Recipe

    print(run(Recipe()).report["status"])

A second run reuses every file whose fingerprint (inputs, options, versions) is unchanged. An interrupted run leaves
whole files only, and the next one makes the rest.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.artifacts import Artifact, artifact_from_file
from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.data.frame_source import Source, source_from_options
from refine_export.data.images import FramePair, padded
from refine_export.errors import RequestError, UnavailableError
from refine_export.export.export_file import export_file
from refine_export.export.export_options import ExportOptions
from refine_export.export.reference_network import GRAPHS_OF, check_graph, reference_network
from refine_export.jobs.bisect_file import bisect_file
from refine_export.jobs.engines import engines_of, missing_tensorrt
from refine_export.jobs.judge import RunResult, judge
from refine_export.jobs.load_inputs import check_same_weights, check_weights, load_checkpoint, load_sources
from refine_export.jobs.recipe import Recipe
from refine_export.lower.calibration_feeds import Calibration
from refine_export.lower.lower_options import LowerOptions, lowered_suffix
from refine_export.lower.lowered_file import LoweredFile, check_output, lower_file
from refine_export.report.data import Shortfall
from refine_export.signature import GraphName, parse_size
from refine_export.support.files import make_folder, user_path
from refine_export.support.progress import Progress, Silent
from refine_export.support.text import size_text
from refine_export.validate.runtimes import artifact_of

if TYPE_CHECKING:
    from torch import nn


def run(recipe: Recipe, progress: Progress | None = None) -> RunResult:
    """Do the main job.

    Raises:
        RequestError: the weights, frames or options can't be used.
        UnavailableError: torch, ONNX Runtime or another package is missing.
    """
    progress = progress or Silent()
    started = time.perf_counter()
    folder = user_path(recipe.run.output)
    make_folder(folder)
    sources = load_sources(recipe, progress)
    checkpoint = load_checkpoint(recipe, progress)
    graphs = _graphs(recipe, checkpoint)
    network = functools.cache(lambda: reference_network(checkpoint))
    files = _exported(graphs, network, checkpoint, _sized(recipe.export, sources.first.pair), folder, progress)
    calibration = Calibration(source=sources.first, checkpoint=lambda: checkpoint)
    files, shortfalls = _with_lowered(files, recipe.lower, calibration, progress)
    engines, unbuilt = _with_engines(files, network, checkpoint, sources.first, recipe, progress)
    return judge(
        [*files, *engines],
        checkpoint,
        network,
        sources,
        recipe.validate,
        folder,
        progress,
        started=started,
        shortfalls=[*shortfalls, *unbuilt],
        require=recipe.run.require,
    )


def export(recipe: Recipe, progress: Progress | None = None) -> tuple[Artifact, ...]:
    """Write the ONNX files and their manifests, or reuse them; nothing is compared.

    Raises:
        RequestError: as in `run`.
        UnavailableError: torch or another package is missing.
    """
    progress = progress or Silent()
    folder = user_path(recipe.run.output)
    make_folder(folder)
    checkpoint = load_checkpoint(recipe, progress)
    graphs = _graphs(recipe, checkpoint)
    options = recipe.export
    if not options.dynamic and options.size is None:
        options = _sized(options, load_sources(recipe, progress).first.pair)
    network = functools.cache(lambda: reference_network(checkpoint))
    files = _exported(graphs, network, checkpoint, options, folder, progress)
    return tuple(artifact for _, artifact in files)


def lower(
    source: Path,
    output: Path,
    recipe: Recipe,
    *,
    feeds: Sequence[Path] = (),
    size: str | None = None,
    without_warp: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> LoweredFile:
    """Lower one FP32 ONNX file, of this tool or another.

    Args:
        source: the file.
        output: what to write.
        recipe: its `lower` section is used; `frames`, `scene` and `checkpoint` for the calibration.
        feeds: .npz files to calibrate with, instead.
        size: HEIGHTxWIDTH at which a dynamic file is calibrated.
        without_warp: the graph is known to sample nothing.
        force: overwrite `output`.
        progress: told of each step.

    Raises:
        RequestError: the file, the feeds or the options can't be used, or `output` is there.
        UnavailableError: a package is missing.
    """
    progress = progress or Silent()
    check_output(source, output, force=force)
    try:
        parsed = None if size is None else parse_size(size)
    except ValueError as error:
        raise RequestError(str(error)) from error
    frames = source_from_options(recipe.frames, recipe.scene)
    calibration = Calibration(
        source=frames,
        checkpoint=functools.cache(lambda: load_checkpoint(recipe, progress)),
        files=tuple(feeds),
        size=parsed,
    )
    return lower_file(source, output, recipe.lower, calibration, progress, without_warp=without_warp)


def validate_files(
    paths: Sequence[Path],
    recipe: Recipe,
    folder: Path | None,
    progress: Progress | None = None,
    *,
    force: bool = False,
    locate: bool = False,
) -> RunResult:
    """Compare ONNX files, of this tool or others, and engines with the reference; a report is written to `folder`.

    A file that says that it was made from other weights is refused, unless `force` is given. With `locate` the report
    says where each ONNX file that failed goes wrong (see `bisect_file`).

    Raises:
        RequestError: a file is not one of the graphs that the weights make, or as in `run`.
        UnavailableError: as in `run`.
    """
    progress = progress or Silent()
    started = time.perf_counter()
    if folder is not None:
        make_folder(folder)
    files = [(path, artifact_of(path)) for path in dict.fromkeys(paths)]
    sources = load_sources(recipe, progress)
    checkpoint = load_checkpoint(recipe, progress)
    for path, artifact in files:
        if force:
            check_weights(path, artifact, checkpoint)
        else:
            check_same_weights(path, artifact, checkpoint, advice=", or compare it all the same with --force")
    network = functools.cache(lambda: reference_network(checkpoint))
    return judge(
        files,
        checkpoint,
        network,
        sources,
        recipe.validate,
        folder,
        progress,
        started=started,
        require=recipe.run.require,
        locate=(lambda path: bisect_file(path, recipe, force=force, progress=progress).to_dict()) if locate else None,
    )


def _exported(
    graphs: Sequence[GraphName],
    network: Callable[[], nn.Module],
    checkpoint: Checkpoint,
    options: ExportOptions,
    folder: Path,
    progress: Progress,
) -> list[tuple[Path, Artifact]]:
    files = []
    for graph in graphs:
        path = folder / f"{graph}.onnx"
        with progress.step(f"export {graph}") as say:
            artifact = export_file(network, checkpoint, graph, options, path)
            say("reused: nothing that it depends on has changed" if artifact.reused else artifact.sizes)
        files.append((path, artifact))
    return files


def _with_lowered(
    files: list[tuple[Path, Artifact]], options: LowerOptions, calibration: Calibration, progress: Progress
) -> tuple[list[tuple[Path, Artifact]], list[Shortfall]]:
    """Each FP32 file with the one that it is lowered to behind it, and what could not be done."""
    if options.precision == "fp32" and options.gridsample == "native":
        return files, []
    found, shortfalls = [], []
    for path, artifact in files:
        found.append((path, artifact))
        output = path.with_suffix(f".{lowered_suffix(options)}.onnx")
        try:
            lowered = lower_file(path, output, options, calibration, progress)
        except UnavailableError as error:  # the FP32 file is whole, and the verdict on it is made
            shortfalls.append(Shortfall(what=output.name, status="not compared", reason=f"it was not made: {error}"))
            continue
        made = artifact_from_file(output)
        found.append(
            (
                output,
                dataclasses.replace(made, file=output.name, reused=lowered.reused, seconds=lowered.seconds),
            )
        )
        if not lowered.passed:
            reason = "it misses its target of accuracy, though every region of it is FP32"
            shortfalls.append(Shortfall(what=output.name, status="failed", reason=reason))
    return found, shortfalls


def _with_engines(
    files: Sequence[tuple[Path, Artifact]],
    network: Callable[[], nn.Module],
    checkpoint: Checkpoint,
    source: Source,
    recipe: Recipe,
    progress: Progress,
) -> tuple[list[tuple[Path, Artifact]], list[Shortfall]]:
    """The engine of each graph, where TensorRT and a GPU are; else that they are missing."""
    if (missing := missing_tensorrt()) is not None:
        required = "trt" in recipe.run.require
        return [], [Shortfall(what="TensorRT", status="not compared", reason=missing, counts=required)]
    return engines_of(files, network, checkpoint, source, recipe, progress)


def _graphs(recipe: Recipe, checkpoint: Checkpoint) -> tuple[GraphName, ...]:
    if recipe.run.graphs:
        return tuple(check_graph(checkpoint.architecture, graph) for graph in dict.fromkeys(recipe.run.graphs))
    main: tuple[GraphName, ...] = ("refine", "interpolator", "interpolator_m")
    return tuple(graph for graph in main if graph in GRAPHS_OF[checkpoint.architecture])


def _sized(options: ExportOptions, pair: FramePair) -> ExportOptions:
    """A static export without a size gets that of the frames."""
    if options.dynamic or options.size is not None:
        return options
    return dataclasses.replace(options, size=size_text(padded(pair).size))
