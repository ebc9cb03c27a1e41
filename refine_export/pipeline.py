"""The main job: weights and two frames to ONNX files, manifests, verdicts and a report in one folder.

    from refine_export.pipeline import run
    from refine_export.recipe import Recipe

    print(run(Recipe()).report["status"])

A second run reuses every file whose fingerprint (inputs, options, versions) is unchanged. An interrupted run leaves
whole files only, and the next one makes the rest.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export import __version__
from refine_export.atomic import make_folder, user_path
from refine_export.checkpoint import Checkpoint, checkpoint_from_options
from refine_export.checkpoint import describe as describe_checkpoint
from refine_export.environment import COMPARERS, machine, versions
from refine_export.errors import RequestError
from refine_export.evidence import gather
from refine_export.export import ExportOptions
from refine_export.frames import FramePair, padded, padded_size
from refine_export.manifest import fingerprint
from refine_export.network import GRAPHS_OF, check_graph, reference_network
from refine_export.onnx_file import Artifact, artifact_from_file, export_file
from refine_export.progress import Progress, Silent
from refine_export.recipe import Recipe
from refine_export.report.data import Report
from refine_export.report.folder import earlier_report, write_report
from refine_export.signature import GraphName, parse_size
from refine_export.source import Source, source_from_options
from refine_export.validate import ValidateOptions, overall

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a job found out."""

    folder: Path | None
    """Where `report.html` and `report.json` are, if they were written."""
    report: dict[str, Any]
    """The content of `report.json`."""
    reused: bool
    """Nothing had changed since the last run."""


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
    source = load_source(recipe, progress)
    checkpoint = load_checkpoint(recipe, progress)
    graphs = _graphs(recipe, checkpoint)
    network = functools.cache(lambda: reference_network(checkpoint))
    files = _exported(graphs, network, checkpoint, _sized(recipe.export, source.pair), folder, progress)
    return _validated(files, checkpoint, network, source, recipe.validate, folder, started, progress)


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
        options = _sized(options, load_source(recipe, progress).pair)
    network = functools.cache(lambda: reference_network(checkpoint))
    files = _exported(graphs, network, checkpoint, options, folder, progress)
    return tuple(artifact for _, artifact in files)


def validate_files(
    paths: Sequence[Path], recipe: Recipe, folder: Path | None, progress: Progress | None = None
) -> RunResult:
    """Compare ONNX files, of this tool or others, with the reference; a report is written where a folder is given.

    Raises:
        RequestError: a file is not one of the graphs that the weights make, or as in `run`.
        UnavailableError: as in `run`.
    """
    progress = progress or Silent()
    started = time.perf_counter()
    if folder is not None:
        make_folder(folder)
    files = [(path, artifact_from_file(path)) for path in dict.fromkeys(paths)]
    source = load_source(recipe, progress)
    checkpoint = load_checkpoint(recipe, progress)
    for path, artifact in files:
        _check_weights(path, artifact, checkpoint)
    network = functools.cache(lambda: reference_network(checkpoint))
    return _validated(files, checkpoint, network, source, recipe.validate, folder, started, progress)


def load_checkpoint(recipe: Recipe, progress: Progress) -> Checkpoint:
    """The recipe's weights."""
    with progress.step("load the weights") as say:
        checkpoint = checkpoint_from_options(recipe.checkpoint)
        say(f"{checkpoint.architecture}, {checkpoint.source}")
    return checkpoint


def load_source(recipe: Recipe, progress: Progress) -> Source:
    """The recipe's pictures, or the procedural scene with its true middle frame."""
    with progress.step("load the frames" if recipe.frames.pair else "draw the frames") as say:
        source = source_from_options(recipe.frames, recipe.scene)
        height, width = source.pair.size
        fed = padded_size(height, width)
        more = "" if fed == (height, width) else f", padded to {fed[0]}x{fed[1]}"
        say(f"{source.pair.name}, {height}x{width} (height x width){more}")
    return source


def _check_weights(path: Path, artifact: Artifact, checkpoint: Checkpoint) -> None:
    """Refuse a file that these weights can't be the reference of, and say where its own are."""
    try:
        check_graph(checkpoint.architecture, artifact.graph)
    except RequestError as error:
        advice = f"; {path} was made from {artifact.checkpoint}" if artifact.checkpoint else ""
        if checkpoint.seeded:
            advice += "; no checkpoint was given, so the reference has seeded weights: give --checkpoint"
        raise RequestError(f"{error}{advice}") from error


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


def _graphs(recipe: Recipe, checkpoint: Checkpoint) -> tuple[GraphName, ...]:
    if recipe.run.graphs:
        return tuple(check_graph(checkpoint.architecture, graph) for graph in dict.fromkeys(recipe.run.graphs))
    main: tuple[GraphName, ...] = ("refine", "interpolator", "interpolator_m")
    return tuple(graph for graph in main if graph in GRAPHS_OF[checkpoint.architecture])


def _sized(options: ExportOptions, pair: FramePair) -> ExportOptions:
    """A static export without a size gets that of the frames."""
    if options.dynamic or options.size is not None:
        return options
    return dataclasses.replace(options, size="x".join(map(str, padded(pair).size)))


def _validated(
    files: list[tuple[Path, Artifact]],
    checkpoint: Checkpoint,
    network: Callable[[], nn.Module],
    source: Source,
    options: ValidateOptions,
    folder: Path | None,
    started: float,
    progress: Progress,
) -> RunResult:
    pair = source.pair
    artifacts = tuple(artifact for _, artifact in files)
    environment = versions(COMPARERS) | machine()
    key = fingerprint(
        [(artifact.file, artifact.sha256) for artifact in artifacts],
        checkpoint.sha256,
        (pair.name, pair.sha256),
        options,
        environment,
    )
    if folder is not None and (earlier := earlier_report(folder, key)) is not None:
        with progress.step("validate") as say:
            say("reused: nothing that it depends on has changed")
        return RunResult(folder=folder, report=earlier, reused=all(artifact.reused for artifact in artifacts))
    evidence = gather(network(), files, source, options, progress)
    report = Report(
        status=overall(comparison.verdict.status for comparison in evidence.comparisons),
        tool_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        pair={"name": pair.name, "size": list(pair.size), "sha256": list(pair.sha256)},
        checkpoint=describe_checkpoint(checkpoint),
        reference=evidence.reference,
        thresholds={"max_abs": options.max_abs, "psnr_db": options.psnr_db},
        artifacts=artifacts,
        comparisons=evidence.comparisons,
        notes=(*_notes(pair, checkpoint, artifacts, options), *evidence.notes),
        environment=environment,
        fingerprint=key,
    )
    if folder is not None:
        with progress.step("write the report") as say:
            write_report(folder, report, evidence.pictures, evidence.frames)
            say(str(folder / "report.html"))
    return RunResult(folder=folder, report=report.as_json(), reused=False)


def _notes(
    pair: FramePair, checkpoint: Checkpoint, artifacts: Sequence[Artifact], options: ValidateOptions
) -> list[str]:
    notes = []
    if pair.size != padded_size(*pair.size):
        sizes = ["x".join(map(str, size)) for size in (pair.size, padded_size(*pair.size))]
        notes.append(
            f"The frames of {sizes[0]} are padded to {sizes[1]} for the networks; places count from the top left."
        )
    if checkpoint.seeded:
        notes.append(
            f"The weights are {checkpoint.source}: the frame between is no real interpolation. What is compared, "
            "torch with the ONNX file, does not depend on that; give --checkpoint for trained weights."
        )
    for artifact in artifacts:
        _, height, width = artifact.fixed
        others = [size for size in options.sizes if height and width and parse_size(size) != (height, width)]
        if others:
            notes.append(f"{artifact.file} is for {height}x{width} alone: not compared at {', '.join(others)}.")
        made_from = artifact.checkpoint_sha256
        if made_from is None:
            notes.append(f"{artifact.file} does not say which weights it was made from.")
        elif made_from != checkpoint.sha256:
            notes.append(
                f"{artifact.file} was made from other weights (sha256 {made_from[:12]}) than the reference's "
                f"({checkpoint.sha256[:12]}, {checkpoint.source})."
            )
    return notes
