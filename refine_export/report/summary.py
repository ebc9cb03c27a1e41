"""The outcome of a run in a few sentences, and its key figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refine_export.report.data import Measured, Report
from refine_export.report.formatting import error_text, limit_text, margin_text, psnr_text
from refine_export.validate.comparison import Status, overall


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A key figure: its name, its value, and how far it is from its limit."""

    name: str
    value: str
    note: str
    file: str = ""
    """The file that has it; empty where there is only one."""

    def __str__(self) -> str:
        return f"{self.name}: {self.value}{f' in {self.file}' if self.file else ''}, {self.note}"


def outcome_text(report: Report) -> str:
    """The outcome in sentences, computed from the comparisons and their groups."""
    return " ".join(f"{sentence}." for sentence in _sentences(report))


def key_figures(report: Report, measured: Sequence[Measured]) -> tuple[Figure, Figure]:
    """The error and the PSNR that are nearest to their limits, or furthest beyond them."""
    error = max(measured, key=lambda one: one.of_limit, default=None)
    with_psnr = [one for one in measured if one.output.metrics.psnr_db is not None]
    psnr = min(with_psnr, key=lambda one: one.above_limit, default=None)
    several = len({comparison.file for comparison in report.comparisons}) > 1

    def figure(name: str, value: str, note: str, found: Measured | None) -> Figure:
        return Figure(name=name, value=value, note=note, file=found.comparison.file if found and several else "")

    if error is None:
        first = figure("Worst error", "not measured", f"limit {', '.join(limit_texts(report, 'max_abs'))}", None)
    elif error.output.metrics.max_abs is None:
        first = figure("Worst error", "not finite", "NaN or infinite values", error)
    else:
        value, limit = error.output.metrics.max_of_peak, error.comparison.verdict.limits.max_abs
        note = margin_text(value, limit)
        note += f" of {error_text(limit)}" if note.endswith("limit") else f", limit {error_text(limit)}"
        first = figure("Worst error", f"{error_text(value)} of the peak", note, error)
    if psnr is None:
        identical = bool(measured) and all(one.output.metrics.identical for one in measured)
        note = f"limit {', '.join(limit_texts(report, 'psnr_db'))}"
        return first, figure("Worst PSNR", "identical" if identical else "not measured", note, None)
    side, limit = "above" if psnr.above_limit >= 0 else "below", psnr.comparison.verdict.limits.psnr_db
    note = f"{abs(psnr.above_limit):.1f} dB {side} the limit of {limit:g} dB"
    return first, figure("Worst PSNR", psnr_text(psnr.output), note, psnr)


def limit_texts(report: Report, name: str) -> list[str]:
    """A limit of the run as text, with the graphs and precisions that have it, where these differ."""
    files: dict[str, list[str]] = {}
    for file, limits in report.thresholds.items():
        files.setdefault(limit_text(name, limits[name]), []).append(file)
    return list(files) if len(files) == 1 else [f"{text} ({', '.join(names)})" for text, names in files.items()]


def _sentences(report: Report) -> Iterator[str]:
    if not report.comparisons:
        yield "Nothing was compared"
        return
    counts = Counter(comparison.verdict.status for comparison in report.comparisons)
    texts: dict[Status, str] = {"failed": "failed", "not compared": "could not be run", "passed": "passed"}
    found = [f"{counts[status]} {text}" for status, text in texts.items() if counts[status]]
    yield f"{_count(len(report.comparisons), 'comparison')}: {_joined(found)}"
    yield from _measured_sentences(report)
    judged = overall(group.status for group in report.groups)
    if counts["failed"] and judged != "failed":
        yield "The recipe allows feeds to fail, and no file has more failures than it allows"
    if report.status != judged:
        causes = _joined([shortfall.what for shortfall in report.shortfalls if shortfall.counts])
        yield f"The run as a whole is {report.status} because of {causes}: see the notes"


def _measured_sentences(report: Report) -> Iterator[str]:
    """What stands out in the measured errors; what the key figures cannot show comes first."""
    measured = report.measured()
    finite = [one for one in measured if one.output.metrics.max_abs is not None]
    silent = sum(one.verdict.status == "failed" and not one.verdict.outputs for one in report.comparisons)
    if silent:
        yield f"{_count(silent, 'candidate')} gave no output that could be compared"
    if broken := len(measured) - len(finite):
        yield f"NaN or infinite values in {_count(broken, 'output')}"
    if not finite:
        return
    if all(one.output.metrics.identical for one in finite):
        yield "Every output equals the reference's, value for value"
        return
    error, psnr = key_figures(report, finite)
    yield str(error)
    if any(one.above_limit < 0 for one in finite):
        yield str(psnr)
    others = [
        one.output.reasons[0]
        for one in finite
        if one.output.reasons and one.of_limit <= 1 and one.above_limit >= 0  # by none of the two limits above
    ]
    if others:
        yield f"{_count(len(others), 'output')} failed another limit only, such as: {others[0]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _joined(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
