"""Limits and required runtimes to a decision on a report.

The metrics in the report are judged again, so that a limit can be changed without running anything. What was not
compared is never green, and a number that contradicts itself fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import PICTURES, Metrics
from refine_export.report.data import Comparison, Report
from refine_export.signature import SIGNATURES, GraphName
from refine_export.support.text import size_text
from refine_export.validate.comparison import OutputVerdict, Status, group_status, overall, verdict_from_metrics
from refine_export.validate.validate_options import ValidateOptions

Required = Literal["torch", "ort", "trt"]
Rule = Literal["accuracy", "not-compared", "shortfall", "required-runtime", "baseline-drop", "baseline-missing"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison, judged by the limits in force."""

    comparison: Comparison
    status: Status
    reasons: tuple[str, ...]
    outputs: tuple[OutputVerdict, ...]


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """One artifact in one runtime at one size, over its feeds."""

    name: str
    """Such as `refine.fp16.onnx in half at 1x256x448`."""
    graph: GraphName
    file: str
    runtime: str
    status: Status
    reason: str
    """Why it did not pass, or passed though feeds failed."""
    rows: tuple[Row, ...]

    @property
    def lowest_psnr_db(self) -> float | None:
        """Over its feeds and outputs; None where no output has one."""
        values = [m.psnr_db for m in self._metrics() if m.psnr_db is not None]
        return min(values, default=None)

    @property
    def largest_error(self) -> float | None:
        """Over its feeds and outputs, in units of the peak; None where nothing was measured."""
        return max((m.max_of_peak for m in self._metrics()), default=None)

    def _metrics(self) -> Iterator[Metrics]:
        return (output.metrics for row in self.rows for output in row.outputs)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why the gate is not green."""

    rule: Rule
    status: Status
    """`failed` or `not compared`"""
    what: str
    """What it is about: a group, a runtime, an entry of the baseline."""
    reason: str
    file: str | None = None
    """Of the artifact, as the report calls it; None where it is about no file."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the gate says of a report."""

    report: Report
    groups: tuple[GroupResult, ...]
    problems: tuple[Problem, ...]

    @property
    def status(self) -> Status:
        """Failed where anything failed; passed only where everything passed and there is something."""
        return overall([*(group.status for group in self.groups), *(problem.status for problem in self.problems)])


def decide(report: Report, *, options: ValidateOptions | None = None, require: Sequence[Required] = ()) -> Decision:
    """Judge a report.

    Args:
        report: of any run.
        options: the limits, share and number that hold; without them those that the report was made with.
        require: runtimes in which something has to be compared.
    """
    groups = tuple(_groups(report, options))
    problems = [
        Problem(
            rule="accuracy" if group.status == "failed" else "not-compared",
            status=group.status,
            what=group.name,
            reason=group.reason,
            file=group.file,
        )
        for group in groups
        if group.status != "passed"
    ]
    problems += [
        Problem(rule="shortfall", status=one.status, what=one.what, reason=one.reason)
        for one in report.shortfalls
        if one.counts and one.status != "passed"
    ]
    problems += _unmet(report, groups, require)
    if not groups:
        problems.append(
            Problem(
                rule="not-compared",
                status="not compared",
                what="the report",
                reason="it has no comparison; nothing was compared",
            )
        )
    return Decision(report=report, groups=groups, problems=tuple(problems))


def _groups(report: Report, options: ValidateOptions | None) -> Iterator[GroupResult]:
    precisions = {(one.graph, one.file): one.precision for one in report.artifacts}
    members: dict[tuple[GraphName, str, str, tuple[int, int], int], list[Row]] = {}
    for one in report.comparisons:
        key = (one.graph, one.file, one.verdict.runtime, one.size, one.batch)
        limits = one.verdict.limits
        if options is not None:
            limits = options.limits.of(one.graph, precisions[one.graph, one.file])
        members.setdefault(key, []).append(_row(one, limits))
    for (graph, file, runtime, size, batch), rows in members.items():
        statuses = [row.status for row in rows]
        status = _status(report, (graph, file, runtime, size, batch), statuses, options)
        yield GroupResult(
            name=f"{file} in {runtime} at {size_text((batch, *size))}",
            graph=graph,
            file=file,
            runtime=runtime,
            status=status,
            reason=_reason(status, rows),
            rows=tuple(rows),
        )


def _status(
    report: Report,
    key: tuple[GraphName, str, str, tuple[int, int], int],
    statuses: Sequence[Status],
    options: ValidateOptions | None,
) -> Status:
    """By the options; without them the report's own, where it was made of the same counts, and else the strictest."""
    if options is not None:
        return group_status(statuses, options)
    counts = tuple(statuses.count(status) for status in ("passed", "failed", "not compared"))
    for group in report.groups:
        if (group.graph, group.file, group.runtime, group.size, group.batch) == key:
            same = (group.passed, group.failed, group.missing) == counts
            return group.status if same and counts[0] and not counts[2] else overall(statuses)
    return overall(statuses)


def _row(comparison: Comparison, limits: Limits) -> Row:
    verdict = comparison.verdict
    if verdict.status == "not compared" or not verdict.outputs:
        status: Status = "failed" if verdict.status == "failed" else "not compared"
        reasons = verdict.reasons or ("the report does not say why",)
        return Row(comparison=comparison, status=status, reasons=reasons, outputs=())
    if contradictions := tuple(_contradictions(comparison)):
        return Row(comparison=comparison, status="failed", reasons=contradictions, outputs=())
    if limits.ssim is not None and _lacks_ssim(comparison):
        reasons = ("there is a limit of SSIM, and the report has none: compare again with that limit or with `ssim`",)
        return Row(comparison=comparison, status="not compared", reasons=reasons, outputs=())
    outputs = tuple(verdict_from_metrics(one.output, one.metrics, limits) for one in verdict.outputs)
    reasons = tuple(f"{one.output}: {reason}" for one in outputs for reason in one.reasons)
    return Row(comparison=comparison, status="failed" if reasons else "passed", reasons=reasons, outputs=outputs)


def _lacks_ssim(comparison: Comparison) -> bool:
    """Return whether SSIM was not measured of a picture that differs: by default it is not."""
    pictures = {spec.name for spec in SIGNATURES[comparison.graph].outputs if spec.quantity in PICTURES}
    return any(
        one.output in pictures and one.metrics.ssim is None and one.metrics.max_abs
        for one in comparison.verdict.outputs
    )


def _contradictions(comparison: Comparison) -> Iterator[str]:
    """What no run of this tool writes; a report that was cut or edited must not pass for it."""
    found = [one.output for one in comparison.verdict.outputs]
    expected = list(SIGNATURES[comparison.graph].output_names)
    if sorted(found) != sorted(expected):
        yield f"its outputs are {', '.join(found)}; expected {', '.join(expected)}"
    for one in comparison.verdict.outputs:
        metrics = one.metrics
        if metrics.nan_count or metrics.inf_count:
            continue
        errors = (metrics.max_abs, metrics.mean_abs, metrics.p999_abs)
        if not (math.isfinite(metrics.peak) and metrics.peak > 0):
            yield f"{one.output}: its peak is {metrics.peak}; expected a number above 0"
        elif any(value is None or not (math.isfinite(value) and value >= 0) for value in errors):
            yield f"{one.output}: its errors are {errors}; expected numbers from 0"
        elif metrics.identical != (metrics.psnr_db is None) or metrics.identical != (metrics.max_abs == 0):
            yield (
                f"{one.output}: it says that it is {'' if metrics.identical else 'not '}identical, with a largest "
                f"error of {metrics.max_abs} and a PSNR of {metrics.psnr_db}"
            )
        elif metrics.psnr_db is not None and not math.isfinite(metrics.psnr_db):
            yield f"{one.output}: its PSNR is {metrics.psnr_db}; expected a number"


def _reason(status: Status, rows: Sequence[Row]) -> str:
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        first = f"{failed[0].comparison.verdict.feed}: {'; '.join(failed[0].reasons)}"
        counted = f"{len(failed)} of {len(rows)} feeds failed"
        return f"{counted}, which is allowed" if status == "passed" else f"{counted}; {first}"
    missing = [row for row in rows if row.status == "not compared"]
    return f"{len(missing)} of {len(rows)} feeds were not compared; {missing[0].reasons[0]}" if missing else ""


def _unmet(report: Report, groups: Sequence[GroupResult], require: Sequence[Required]) -> Iterator[Problem]:
    """A required runtime in which nothing was compared. ONNX Runtime also runs the strict FP16 graphs."""
    compared = {group.runtime for group in groups if any(row.status != "not compared" for row in group.rows)}
    there = {
        "torch": bool(compared) and report.reference.startswith("torch"),
        "ort": bool(compared - {"tensorrt"}),
        "trt": "tensorrt" in compared,
    }
    names = {"torch": "torch", "ort": "ONNX Runtime", "trt": "TensorRT"}
    for name in dict.fromkeys(require):
        if not there[name]:
            said = next((one.reason for one in report.shortfalls if one.what == names[name]), "nothing was run by it")
            yield Problem(
                rule="required-runtime",
                status="not compared",
                what=names[name],
                reason=f"it is required (--require {name}): {said}",
            )
