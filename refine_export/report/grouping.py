"""Groups of comparisons and their verdicts, for the run, its page and the gate alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from refine_export.report.engine_proof import EngineProof
from refine_export.report.formatting import psnr_order
from refine_export.report.report_data import Comparison, Group, GroupKey, Report
from refine_export.runners.runtime_names import REQUIRED_NAMES, RequiredRuntime
from refine_export.validate.comparison import OutputVerdict, Status, group_status
from refine_export.validate.validate_options import ValidateOptions


@dataclass(frozen=True, kw_only=True)
class JudgedGroup:
    """The comparisons of one file in one runtime at one size, with their verdict."""

    group: Group
    comparisons: tuple[Comparison, ...]

    @property
    def status(self) -> Status:
        """Verdict over all feeds."""
        return self.group.status

    @property
    def outputs(self) -> list[OutputVerdict]:
        """All outputs that were compared."""
        return [output for comparison in self.comparisons for output in comparison.verdict.outputs]

    @property
    def largest_error(self) -> float | None:
        """Largest error in units of the peak; None where no output was compared."""
        return max((output.metrics.max_of_peak for output in self.outputs), default=None)

    @property
    def lowest(self) -> OutputVerdict | None:
        """The output of the lowest PSNR; an identical one where all are identical."""
        return min(self.outputs, key=psnr_order, default=None)


def judge_groups(comparisons: Iterable[Comparison], options: ValidateOptions) -> tuple[JudgedGroup, ...]:
    """Group comparisons, and judge each group by the share and number of its feeds that may fail."""
    return tuple(
        JudgedGroup(group=_judged(key, members, options), comparisons=members)
        for key, members in _members(comparisons).items()
    )


def groups_of_report(report: Report) -> tuple[JudgedGroup, ...]:
    """The groups of a report with its own verdicts."""
    members = _members(report.comparisons)
    return tuple(JudgedGroup(group=group, comparisons=members[group.key]) for group in report.groups)


def missing_runtimes(
    require: Sequence[RequiredRuntime], groups: Iterable[Group], reference: str, engines: Iterable[EngineProof]
) -> Iterator[tuple[RequiredRuntime, str]]:
    """Yield each required runtime in which nothing was compared, with its name in reports.

    ONNX Runtime also runs the strict FP16 graphs; of TensorRT for RTX an engine has to be there, which is built and
    type-checked without a GPU. `reference` and `engines` are the report's.
    """
    for_rtx = {engine.file for engine in engines if engine.library == "rtx"}
    ran = {(group.runtime, group.file in for_rtx) for group in groups if group.passed or group.failed}
    used = {
        "torch": bool(ran) and reference.startswith("torch"),
        "ort": any(runtime != "tensorrt" for runtime, _ in ran),
        "trt": ("tensorrt", False) in ran,
        "rtx": bool(for_rtx),
    }
    for option in dict.fromkeys(require):
        if not used[option]:
            yield option, REQUIRED_NAMES[option]


def _members(comparisons: Iterable[Comparison]) -> dict[GroupKey, tuple[Comparison, ...]]:
    found: dict[GroupKey, list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault(comparison.group_key, []).append(comparison)
    return {key: tuple(members) for key, members in found.items()}


def _judged(key: GroupKey, members: tuple[Comparison, ...], options: ValidateOptions) -> Group:
    statuses = [comparison.verdict.status for comparison in members]
    status = group_status(statuses, options)
    failed, missing = ([one for one in members if one.verdict.status == bad] for bad in ("failed", "not compared"))
    reason = ""
    if failed:
        first = failed[0].verdict
        reason = f"{len(failed)} of {len(members)} feeds failed"
        reason += ", which is allowed" if status == "passed" else f"; {first.feed}: {'; '.join(first.reasons)}"
    elif missing:
        reason = f"{len(missing)} of {len(members)} feeds were not compared; {'; '.join(missing[0].verdict.reasons)}"
    return Group(
        **key._asdict(),
        status=status,
        passed=statuses.count("passed"),
        failed=len(failed),
        missing=len(missing),
        reason=reason,
    )
