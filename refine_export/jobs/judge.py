"""Files and a reference to verdicts and a report."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export import __version__
from refine_export.accuracy.limits import limits_name
from refine_export.artifacts import Artifact
from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.checkpoint.checkpoint import describe as describe_checkpoint
from refine_export.data.frame_source import Sources
from refine_export.jobs.run_comparisons import gather
from refine_export.report.data import Comparison, Report, Shortfall
from refine_export.report.grouping import judge_groups
from refine_export.report.report_files import earlier_report, write_report
from refine_export.signature import parse_size
from refine_export.support.environment import COMPARERS, machine, versions
from refine_export.support.manifest import fingerprint
from refine_export.support.progress import Progress
from refine_export.validate.comparison import overall
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from torch import nn


MOST_LOCATED = 4
"""Files that failed and are searched for the place."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a job found out."""

    folder: Path | None
    """Where `report.html` and `report.json` are, if they were written."""
    report: dict[str, Any]
    """The content of `report.json`."""
    reused: bool
    """Nothing had changed since the last run."""


def judge(
    files: Sequence[tuple[Path, Artifact]],
    checkpoint: Checkpoint,
    network: Callable[[], nn.Module],
    sources: Sources,
    options: ValidateOptions,
    folder: Path | None,
    progress: Progress,
    *,
    started: float,
    shortfalls: Sequence[Shortfall] = (),
    require: Sequence[str] = (),
    locate: Callable[[Path], Mapping[str, Any]] | None = None,
) -> RunResult:
    """Compare files with the reference network and report, or reuse a report that passed.

    Args:
        files: each with what it is.
        checkpoint: the weights of the reference.
        network: gives the reference network; not called where the report is reused.
        sources: the frames and arrays.
        options: of the validation.
        folder: for the report; none is written without one.
        progress: told of each step.
        started: when the job began, by `time.perf_counter`.
        shortfalls: what is missing or failed already.
        require: runtimes, `torch`, `ort` and `trt`, by which something has to be compared.
        locate: finds where an ONNX file that failed goes wrong, for the report.

    Raises:
        RequestError: the reference gives NaN, or the report can't be written.
    """
    pair = sources.first.pair
    artifacts = tuple(artifact for _, artifact in files)
    environment = versions(COMPARERS) | machine()
    key = fingerprint(
        [(artifact.file, artifact.sha256) for artifact in artifacts],
        checkpoint.sha256,
        (pair.name, pair.sha256, sources.sha256),
        options,
        environment,
        list(shortfalls),
        sorted(require),
    )
    if folder is not None and (earlier := earlier_report(folder, key)) is not None:
        with progress.step("validate") as say:
            say("reused: nothing that it depends on has changed")
        return RunResult(folder=folder, report=earlier, reused=all(artifact.reused for artifact in artifacts))
    evidence = gather(network(), files, sources, options, progress)
    failed = {comparison.file for comparison in evidence.comparisons if comparison.verdict.status == "failed"}
    wrong = [path for path, one in files if one.file in failed and one.engine is None] if locate else []
    located = tuple(dict(locate(path)) for path in wrong[:MOST_LOCATED]) if locate else ()
    shortfalls = (*shortfalls, *_unmet(require, evidence.comparisons, shortfalls))
    groups = tuple(one.group for one in judge_groups(evidence.comparisons, options))
    report = Report(
        status=overall([*[group.status for group in groups], *[short.status for short in shortfalls if short.counts]]),
        tool_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        pair=_described(sources),
        checkpoint=describe_checkpoint(checkpoint),
        reference=evidence.reference,
        thresholds={
            limits_name(one.graph, one.precision): dataclasses.asdict(options.limits.of(one.graph, one.precision))
            for one in artifacts
        },
        share=options.share,
        may_fail=options.may_fail,
        artifacts=artifacts,
        comparisons=evidence.comparisons,
        groups=groups,
        shortfalls=shortfalls,
        notes=(*_notes(checkpoint, artifacts, options), *evidence.notes),
        environment=environment,
        fingerprint=key,
        bisect=located,
    )
    if folder is not None:
        with progress.step("write the report") as say:
            write_report(folder, report, evidence.pictures, evidence.frames)
            say(str(folder / "report.html"))
    return RunResult(folder=folder, report=report.to_dict(), reused=False)


def _described(sources: Sources) -> dict[str, Any]:
    """The first pair, and the hashes of all files; what is drawn is known by its name."""
    pair = sources.first.pair
    hashes = {} if sources.drawn else {"sha256": list(pair.sha256), "inputs_sha256": sources.sha256}
    return {"name": pair.name, "size": list(pair.size)} | hashes


def _unmet(
    require: Sequence[str], comparisons: Sequence[Comparison], shortfalls: Sequence[Shortfall]
) -> Iterator[Shortfall]:
    """A required runtime that nothing was compared in, where nobody has said so yet."""
    compared = {comparison.verdict.runtime for comparison in comparisons if comparison.verdict.status != "not compared"}
    for name, runtime, there in (
        ("ort", "ONNX Runtime", compared - {"tensorrt"}),
        ("trt", "TensorRT", compared & {"tensorrt"}),
    ):
        if name in require and not there and runtime not in [shortfall.what for shortfall in shortfalls]:
            yield Shortfall(what=runtime, status="not compared", reason="it is required, and nothing was run by it")


def _notes(checkpoint: Checkpoint, artifacts: Sequence[Artifact], options: ValidateOptions) -> list[str]:
    notes = []
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
