"""Files and inputs to verdicts and a report: the end of `validate` and of the main job.

    compare (compare_files.py) -> search for the node that is wrong -> group -> write report.html and report.json

A report that passed is reused while nothing that it depends on has changed.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refine_export import __version__
from refine_export.accuracy.effective_limits import limits_on, margins
from refine_export.accuracy.limits import limits_name
from refine_export.artifacts import Artifact
from refine_export.checkpoint.checkpoint import Checkpoint, checkpoint_description
from refine_export.data.frame_source import Sources
from refine_export.data.images import labels_of
from refine_export.jobs.compare_files import compare_files
from refine_export.jobs.load_inputs import JobInputs
from refine_export.report.engine_proof import EngineProof, engine_proof
from refine_export.report.grouping import judge_groups, missing_runtimes
from refine_export.report.report_data import Comparison, Group, Report, Shortfall
from refine_export.report.report_files import earlier_report, write_report
from refine_export.runners.runtime_names import RequiredRuntime
from refine_export.signature import parse_size
from refine_export.support.environment import COMPARERS, machine, versions
from refine_export.support.manifest import fingerprint
from refine_export.support.text import size_text
from refine_export.validate.comparison import Status, overall
from refine_export.validate.validate_options import ValidateOptions

MOST_LOCATED = 4
"""Upper bound of the files that failed and are searched for the node that is wrong."""


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """The verdict on files, with everything that it rests on."""

    status: Status
    folder: Path | None
    """Folder of `report.html` and `report.json`, if they were written."""
    reused: bool
    """Nothing had changed since the last run."""
    report: Mapping[str, Any] = field(repr=False)
    """The content of `report.json`."""

    @property
    def passed(self) -> bool:
        """Whether everything was compared and passed."""
        return self.status == "passed"

    @property
    def path(self) -> Path | None:
        """`report.json`, which `gate` takes, if it was written."""
        return None if self.folder is None else self.folder / "report.json"

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the weights, the frames and the files."""
        return tuple(self.report["notes"])

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `report.json`."""
        return dict(self.report)

    def reasons(self) -> dict[tuple[str, str], list[str]]:
        """Return status and text of each reason once, with the comparisons that it holds for."""
        found: dict[tuple[str, str], list[str]] = {}
        for comparison in self.report["comparisons"]:
            verdict = comparison["verdict"]
            name = f"{comparison['file']}: {verdict['feed']}, {verdict['runtime']}"
            for reason in verdict["reasons"]:
                found.setdefault((verdict["status"], reason), []).append(name)
        return found

    def summary(self, most: int = 10) -> str:
        """Return the verdict and the first reasons against it, a line each."""
        comparisons = self.report["comparisons"]
        passed = sum(comparison["verdict"]["status"] == "passed" for comparison in comparisons)
        lines = [f"{self.status}: {passed} of {len(comparisons)} comparisons with {self.report['reference']} passed"]
        for (status, reason), keys in list(self.reasons().items())[:most]:
            more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
            lines.append(f"{status}: {keys[0]}{more}: {reason}")
        for one in self.report["shortfalls"]:
            lines.append(f"{one['status']}: {one['what']}: {one['reason']}")
        return "\n".join(lines)


def report_on(
    files: Sequence[tuple[Path, Artifact]],
    inputs: JobInputs,
    folder: Path | None,
    *,
    started: float,
    shortfalls: Sequence[Shortfall] = (),
    locate: Callable[[Path], Mapping[str, Any]] | None = None,
) -> ValidationReport:
    """Compare files with the reference network and report, or reuse a report that passed.

    Args:
        files: paths with what they are. An engine for RTX GPUs that cannot run here is not compared, and the verdict is
            that on the other files.
        inputs: weights, frames, arrays and options.
        folder: for the report; none is written without one.
        started: when the job began, by `time.perf_counter`.
        shortfalls: what is already missing or failed.
        locate: finds where an ONNX file that failed goes wrong, for the report.

    Raises:
        RequestError: the reference gives NaN, or the report cannot be written.
    """
    options, checkpoint, sources = inputs.recipe.validate, inputs.checkpoint, inputs.sources
    require = inputs.recipe.run.require
    artifacts = tuple(artifact for _, artifact in files)
    engines = tuple(engine_proof(path, artifact) for path, artifact in files if artifact.engine is not None)
    unrun = {engine.file: engine.proven for engine in engines if not engine.executed}
    executed = [(path, artifact) for path, artifact in files if artifact.file not in unrun]
    shortfalls = (
        *shortfalls,
        *(
            Shortfall(what=Path(file).name, status="not compared", reason=reason, counts=not executed)
            for file, reason in unrun.items()
        ),
    )
    environment = versions(COMPARERS) | machine()
    key = fingerprint(
        [(artifact.file, artifact.sha256) for artifact in artifacts],
        (checkpoint.sha256, checkpoint.network),
        (sources.first.pair.name, sources.first.pair.sha256, sources.sha256),
        options,
        environment,
        list(shortfalls),
        sorted(require),
    )
    if folder is not None and (earlier := earlier_report(folder, key)) is not None:
        with inputs.progress.step("validate") as say:
            say("reused: nothing that it depends on has changed")
        reused = all(artifact.reused for artifact in artifacts)
        return ValidationReport(status=earlier["status"], folder=folder, reused=reused, report=earlier)
    compared = compare_files(executed, inputs)
    groups = tuple(one.group for one in judge_groups(compared.comparisons, options))
    unmet = _unmet(require, groups, compared.reference, shortfalls, engines)
    shortfalls = (*shortfalls, *unmet, *_unused_arrays(sources.arrays, compared.comparisons))
    statuses = [*(group.status for group in groups), *(short.status for short in shortfalls if short.counts)]
    report = Report(
        status=overall(statuses),
        tool_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        pair=_described(sources),
        checkpoint=checkpoint_description(checkpoint),
        reference=compared.reference,
        thresholds={
            limits_name(one.graph, one.precision): dataclasses.asdict(options.limits.of(one.graph, one.precision))
            for one in artifacts
        },
        share=options.share,
        may_fail=options.may_fail,
        artifacts=artifacts,
        comparisons=compared.comparisons,
        groups=groups,
        shortfalls=shortfalls,
        engines=engines,
        notes=(
            *_notes(checkpoint, [artifact for _, artifact in executed], options),
            *compared.notes,
            *_islands(executed, groups, compared.comparisons),
        ),
        environment=environment,
        fingerprint=key,
        latencies=compared.latencies,
        bisect=_located(files, compared.comparisons, locate),
    )
    if folder is not None:
        with inputs.progress.step("write the report") as say:
            write_report(folder, report, compared.pictures, compared.frames)
            say(str(folder / "report.html"))
    return ValidationReport(status=report.status, folder=folder, reused=False, report=report.to_dict())


def _located(
    files: Sequence[tuple[Path, Artifact]],
    comparisons: Sequence[Comparison],
    locate: Callable[[Path], Mapping[str, Any]] | None,
) -> tuple[dict[str, Any], ...]:
    """Search ONNX files that failed for the node where they go wrong; an engine's tensors cannot be read."""
    failed = {comparison.file for comparison in comparisons if comparison.verdict.status == "failed"}
    wrong = [path for path, one in files if one.file in failed and one.engine is None]
    return tuple(dict(locate(path)) for path in wrong[:MOST_LOCATED]) if locate else ()


def _described(sources: Sources) -> dict[str, Any]:
    """Describe the first pair, with the hashes of all files; a drawn scene's last bits depend on the processor."""
    pair = sources.first.pair
    hashes = {} if sources.drawn else {"sha256": list(pair.sha256), "inputs_sha256": sources.sha256}
    return {"name": pair.name, "size": list(pair.size)} | hashes


def _unused_arrays(paths: Sequence[Path], comparisons: Sequence[Comparison]) -> Iterator[Shortfall]:
    """Yield each file of arrays that no file was fed with: it was given to be compared on."""
    fed = {one.verdict.feed for one in comparisons}
    for label in labels_of(paths):
        if not any(feed.endswith(f", {label}") for feed in fed):
            reason = "no file takes arrays of its names, batch and size: leave it out, or give a file that does"
            yield Shortfall(what=label, status="not compared", reason=reason)


def _unmet(
    require: Sequence[RequiredRuntime],
    groups: Sequence[Group],
    reference: str,
    shortfalls: Sequence[Shortfall],
    engines: Sequence[EngineProof],
) -> Iterator[Shortfall]:
    """Yield each required runtime in which nothing was compared, unless a shortfall names it already."""
    known = {shortfall.runtime for shortfall in shortfalls}
    for option, name in missing_runtimes(require, groups, reference, engines):
        if option not in known:
            reason = f"it is required, and {'no engine was built' if option == 'rtx' else 'nothing was run'} by it"
            yield Shortfall(what=name, status="not compared", reason=reason, runtime=option)


def _islands(
    files: Sequence[tuple[Path, Artifact]], groups: Sequence[Group], comparisons: Sequence[Comparison]
) -> Iterator[str]:
    """Say where a file of 16 bits fails at a size at which its graph passes in FP32, and how to lower it for that."""
    passed = {(one.graph, one.size) for one in groups if one.status == "passed"}
    # The first FP32 file of a graph: one that was tuned for a CPU comes behind the one that it was made from.
    sources = {artifact.graph: path for path, artifact in reversed(files) if artifact.precision == "fp32"}
    for path, artifact in files:
        if artifact.precision == "fp32" or artifact.engine is not None or artifact.graph not in sources:
            continue
        failed = [
            (one.size, output.metrics, limits_on(one.verdict.limits, output.metrics.rounding))
            for one in comparisons
            if one.file == artifact.file and one.verdict.status == "failed" and (one.graph, one.size) in passed
            for output in one.verdict.outputs
            if output.status == "failed" and output.metrics.psnr_db is not None
        ]
        if not failed:
            continue
        size, metrics, limits = max(failed, key=lambda one: max(margin.ratio for margin in margins(*one[1:])))
        # A search is made at the smallest size that misses the target, so smaller ones than the worst save time.
        tried = dict.fromkeys(one for one, _, _ in failed if math.prod(one) <= math.prod(size))
        sizes = ",".join(size_text(one) for one in sorted(tried, key=math.prod))
        targets = ["--target-psnr", f"{limits.psnr_db:.1f}", "--max-error", f"{limits.max_abs:.2g}"]
        if artifact.precision == "bf16":
            targets += ["--precision", "bf16"]
        command = shlex.join(
            ["refine-export", "lower", str(sources[artifact.graph]), "--output", str(path), "--sizes", sizes, *targets]
        )
        yield (
            f"{artifact.file} does not hold at {size_text(size)}, where FP32 does: {metrics.psnr_db:.1f} dB, limit "
            f"{limits.psnr_db:.1f}; largest error {metrics.max_of_peak:.2g}, limit {limits.max_abs:.2g}. This finds "
            f"what has to stay FP32, with the same --checkpoint and --frames: {command}"
        )


def _notes(checkpoint: Checkpoint, artifacts: Sequence[Artifact], options: ValidateOptions) -> list[str]:
    notes = []
    if checkpoint.seeded:
        notes.append(
            f"The weights are {checkpoint.source}: the frame between is not a real interpolation. The comparison of "
            "torch with the ONNX file does not depend on that; give --checkpoint for trained weights."
        )
    for artifact in artifacts:
        _, height, width = artifact.fixed
        others = [size for size in options.sizes if height and width and parse_size(size) != (height, width)]
        if others:
            notes.append(f"{artifact.file} is only for {height}x{width}: not compared at {', '.join(others)}.")
        made_from = artifact.checkpoint_sha256
        if made_from is None:
            notes.append(f"{artifact.file} does not record which weights it was made from.")
        elif made_from != checkpoint.sha256:
            notes.append(
                f"{artifact.file} was made from other weights (sha256 {made_from[:12]}) than the reference's "
                f"({checkpoint.sha256[:12]}, {checkpoint.source})."
            )
    return notes
