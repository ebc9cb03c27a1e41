"""The decision on a report, by limits and required runtimes.

The metrics in the report are judged again, so that a limit can be changed without running anything. What was not
compared never passes, and numbers that contradict themselves fail.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import PICTURES, Metrics
from refine_export.gate.engine_rules import engine_problems
from refine_export.report.grouping import JudgedGroup, judge_groups, missing_runtimes
from refine_export.report.report_data import Comparison, Report
from refine_export.runners.runtime_names import RequiredRuntime
from refine_export.signature import SIGNATURES
from refine_export.support.text import counted
from refine_export.validate.comparison import Status, Verdict, overall, verdict_from_metrics
from refine_export.validate.validate_options import ValidateOptions

_ROUNDED: Final = 1e-3
"""Share by which means of a picture may be off for their FP32 sums; 0.01 dB."""

Rule = Literal[
    "accuracy",
    "not-compared",
    "engine-proof",
    "shortfall",
    "required-runtime",
    "baseline-drop",
    "baseline-missing",
    "baseline-slower",
]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A reason why the gate does not pass."""

    rule: Rule
    status: Status
    """`failed` or `not compared`"""
    what: str
    """A group, a runtime, or an entry of the baseline."""
    reason: str
    file: str | None = None
    """The artifact, as the report calls it; None where the problem concerns no file."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict of the gate on a report."""

    report: Report
    groups: tuple[JudgedGroup, ...]
    problems: tuple[Problem, ...]

    @property
    def status(self) -> Status:
        """Failed where anything failed; passed only where everything passed and there is something."""
        return overall([*(group.status for group in self.groups), *(problem.status for problem in self.problems)])

    @property
    def sentence(self) -> str:
        """The decision in a line."""
        passed, count = sum(group.status == "passed" for group in self.groups), len(self.problems)
        problems = f"; {counted(count, 'problem')}" if count else ""
        return f"{passed} of {len(self.groups)} passed, counted by artifact, runtime and size{problems}"


def decide(
    report: Report, *, options: ValidateOptions | None = None, require: Sequence[RequiredRuntime] = ()
) -> Decision:
    """Judge a report.

    Args:
        report: the report of any run.
        options: limits, and the share and number of feeds that may fail; by default those that the report was made
            with.
        require: runtimes in which something must have been compared.
    """
    precisions = {(one.graph, one.file): one.precision for one in report.artifacts}

    def limits_of(comparison: Comparison) -> Limits:
        if options is None:
            return comparison.verdict.limits
        return options.limits.of(comparison.graph, precisions[comparison.graph, comparison.file])

    allowed = options or ValidateOptions(share=report.share, may_fail=report.may_fail)
    groups = judge_groups([_judged_again(one, limits_of(one)) for one in report.comparisons], allowed)
    problems = [
        Problem(
            rule="accuracy" if group.status == "failed" else "not-compared",
            status=group.status,
            what=str(group.group.key),
            reason=group.group.reason,
            file=group.group.file,
        )
        for group in groups
        if group.status != "passed"
    ]
    problems += [
        Problem(rule="engine-proof", status="failed", what=engine.file, reason=reason, file=engine.file)
        for engine in report.engines
        for reason in engine_problems(engine)
    ]
    problems += [
        Problem(rule="shortfall", status=one.status, what=one.what, reason=one.reason)
        for one in report.shortfalls
        if (one.counts or (one.runtime in require and one.status == "failed")) and one.status != "passed"
    ]
    compared = {(one.graph, one.file) for one in report.comparisons}
    problems += [
        Problem(rule="not-compared", status="not compared", what=one.file, reason="it has no comparison", file=one.file)
        for one in report.artifacts
        if compared and one.engine is None and (one.graph, one.file) not in compared
    ]
    problems += _runtime_problems(report, groups, require)
    if not groups:
        empty = Problem(rule="not-compared", status="not compared", what="the report", reason="it has no comparison")
        problems.append(empty)
    return Decision(report=report, groups=groups, problems=tuple(problems))


def _judged_again(comparison: Comparison, limits: Limits) -> Comparison:
    """The comparison with a verdict that follows from its numbers; the verdict in the report is not trusted."""
    before = comparison.verdict

    def changed(**fields: object) -> Comparison:
        verdict: Verdict = dataclasses.replace(before, limits=limits, **fields)  # type: ignore[arg-type]
        return dataclasses.replace(comparison, verdict=verdict)

    if before.status == "not compared" or not before.outputs:
        status = "failed" if before.status == "failed" else "not compared"
        return changed(status=status, reasons=before.reasons or ("the report gives no reason",), outputs=())
    if contradictions := tuple(_contradictions(comparison)):
        return changed(status="failed", reasons=contradictions, outputs=())
    if limits.ssim is not None and _lacks_ssim(comparison):
        reason = "there is a limit of SSIM, and the report has none: compare again with that limit or with `ssim`"
        return changed(status="not compared", reasons=(reason,), outputs=())
    outputs = tuple(verdict_from_metrics(one.output, one.metrics, limits) for one in before.outputs)
    reasons = tuple(f"{one.output}: {reason}" for one in outputs for reason in one.reasons)
    missed = [one.metrics for one in outputs if one.status == "failed"]
    finite = all(metrics.max_abs is not None for metrics in missed)
    unmeasured = finite and any(metrics.rounding is None for metrics in missed)
    if unmeasured and limits.times is not None and before.limits.times is None:
        reason = (
            "these limits follow what rounding costs, which was not measured, since the report's limits are absolute: "
            "compare again with these, or judge by the report's own"
        )
        return changed(status="not compared", reasons=(reason,), outputs=())
    return changed(status="failed" if reasons else "passed", reasons=reasons, outputs=outputs)


def _lacks_ssim(comparison: Comparison) -> bool:
    """Return whether a picture that differs has no SSIM: by default it is not measured."""
    pictures = {spec.name for spec in SIGNATURES[comparison.graph].outputs if spec.quantity in PICTURES}
    return any(
        one.output in pictures and one.metrics.ssim is None and one.metrics.max_abs
        for one in comparison.verdict.outputs
    )


def _contradictions(comparison: Comparison) -> Iterator[str]:
    """Numbers that no run writes: a report that was cut or edited must not pass."""
    found = [one.output for one in comparison.verdict.outputs]
    expected = list(SIGNATURES[comparison.graph].output_names)
    if sorted(found) != sorted(expected):
        yield f"its outputs are {', '.join(found)}; expected {', '.join(expected)}"
    for one in comparison.verdict.outputs:
        metrics = one.metrics
        if metrics.nan_count or metrics.inf_count:
            continue
        errors = (metrics.max_abs, metrics.mean_abs, metrics.p999_abs)
        # JSON has no infinity, but a number such as 1e999 is read as one.
        if not 0 < metrics.peak < math.inf:
            yield f"{one.output}: its peak is {metrics.peak}; expected a number above 0"
        elif any(value is None or not 0 <= value < math.inf for value in errors):
            yield f"{one.output}: its errors are {errors}; expected numbers from 0"
        elif metrics.identical != (metrics.psnr_db is None) or metrics.identical != (metrics.max_abs == 0):
            same = "identical" if metrics.identical else "not identical"
            yield f"{one.output}: {same}, with a largest error of {metrics.max_abs} and a PSNR of {metrics.psnr_db}"
        elif metrics.psnr_db is not None and not _possible(metrics, metrics.psnr_db):
            yield f"{one.output}: its PSNR is {metrics.psnr_db}, with errors {errors} at a peak of {metrics.peak}"


def _possible(metrics: Metrics, psnr_db: float) -> bool:
    """Return whether the root of the mean square lies between the mean and the largest error, as it always does."""
    largest, mean, almost_largest = (float(one or 0) for one in (metrics.max_abs, metrics.mean_abs, metrics.p999_abs))
    if not math.isfinite(psnr_db) or max(mean, almost_largest) > largest * (1 + _ROUNDED):
        return False
    root = metrics.peak * 10 ** (-psnr_db / 20)
    return mean / (1 + _ROUNDED) <= root <= math.sqrt(mean * largest) * (1 + _ROUNDED)


def _runtime_problems(
    report: Report, groups: Sequence[JudgedGroup], require: Sequence[RequiredRuntime]
) -> Iterator[Problem]:
    for option, name in missing_runtimes(require, (one.group for one in groups), report.reference, report.engines):
        cause = next((one.reason for one in report.shortfalls if one.what == name), "it ran nothing")
        reason = f"it is required (--require {option}): {cause}"
        yield Problem(rule="required-runtime", status="not compared", what=name, reason=reason)
