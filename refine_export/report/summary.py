"""The outcome of a run in a few sentences, and its key figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from refine_export.accuracy.effective_limits import LABELS, LARGEST, Margin, limits_on, margins
from refine_export.accuracy.limits import Limits
from refine_export.report.formatting import error_text, limit_text, margin_text, psnr_order, psnr_text
from refine_export.report.report_data import Report
from refine_export.support.text import counted
from refine_export.validate.comparison import OutputVerdict, Status, overall


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


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """One measurement of one output beside its limit."""

    margin: Margin
    output: OutputVerdict
    limits: Limits
    stated: Limits
    """The limits before the cost of rounding widened them."""
    file: str
    """Empty where the report has only one."""


def outcome_text(report: Report) -> str:
    """The outcome in sentences, computed from the comparisons and their groups."""
    return " ".join(f"{sentence}." for sentence in _sentences(report))


def key_figures(report: Report) -> tuple[Figure, Figure]:
    """The error and the PSNR that are nearest to their limits, or furthest beyond them.

    Limits follow the feed, so neither is the largest error or the lowest PSNR; where another feed has a lower PSNR, the
    note says how far that one is from its own limit.
    """
    found = _by_limit(report)
    worst = {name: members[0] for name, members in found.items()}
    name = "Error nearest to its limit"
    if one := worst.get("finite"):
        error = Figure(name=name, value="not finite", note="NaN or infinite values", file=one.file)
    elif one := worst.get("max_abs"):
        value, limit = one.output.metrics.max_of_peak, one.limits.max_abs
        note = margin_text(value, limit) + _follows(one)
        error = Figure(name=name, value=f"{error_text(value)} of the peak", note=note, file=one.file)
    else:
        note = f"limit {', '.join(limit_texts(report, 'max_abs'))}"
        error = Figure(name=name, value="not measured", note=note)
    name = "PSNR nearest to its limit"
    if one := worst.get("psnr_db"):
        note = _distance_text(one)
        lowest = min(found["psnr_db"], key=lambda one: psnr_order(one.output))
        if lowest.output.metrics.psnr_db != one.output.metrics.psnr_db:
            of = f" in {lowest.file}" if lowest.file != one.file else ""
            note += f"; the lowest is {psnr_text(lowest.output)}{of}, {_distance_text(lowest)}"
        return error, Figure(name=name, value=psnr_text(one.output), note=note, file=one.file)
    value_text = "identical" if worst and "finite" not in worst else "not measured"  # equal arrays have no PSNR
    return error, Figure(name=name, value=value_text, note=f"limit {', '.join(limit_texts(report, 'psnr_db'))}")


def _distance_text(one: _Measured) -> str:
    above = (one.output.metrics.psnr_db or 0.0) - one.limits.psnr_db
    limit = f"{one.limits.psnr_db:.4g} dB{_follows(one)}"
    return f"{abs(above):.1f} dB {'above' if above >= 0 else 'below'} the limit of {limit}"


def _follows(one: _Measured) -> str:
    """Say where a limit is not the stated number: where rounding alone costs more than that allows."""
    name, times = one.margin.limit, one.limits.times
    if times is None or getattr(one.limits, name) == getattr(one.stated, name):
        return ""
    return f" ({times * (LARGEST if name == 'max_abs' else 1):g} times what rounding costs there)"


def limit_texts(report: Report, name: str) -> list[str]:
    """A limit of the run as text, with the graphs and precisions that have it, where these differ."""
    files: dict[str, list[str]] = {}
    for file, limits in report.thresholds.items():
        files.setdefault(limit_text(name, limits[name]), []).append(file)
    return list(files) if len(files) == 1 else [f"{text} ({', '.join(names)})" for text, names in files.items()]


def _by_limit(report: Report) -> dict[str, list[_Measured]]:
    """All measurements by the name of their limit, the worst of each first."""
    several = len({one.file for one in report.comparisons}) > 1
    found: dict[str, list[_Measured]] = {}
    for one in report.comparisons:
        file = one.file if several else ""
        for output in one.verdict.outputs:
            limits = limits_on(one.verdict.limits, output.metrics.rounding)
            for margin in margins(output.metrics, limits):
                measured = _Measured(margin=margin, output=output, limits=limits, stated=one.verdict.limits, file=file)
                found.setdefault(margin.limit, []).append(measured)
    return {name: sorted(members, key=lambda one: -one.margin.ratio) for name, members in found.items()}


def _sentences(report: Report) -> Iterator[str]:
    if not report.comparisons:
        yield "Nothing was compared"
        return
    counts = Counter(comparison.verdict.status for comparison in report.comparisons)
    texts: dict[Status, str] = {"failed": "failed", "not compared": "could not be run", "passed": "passed"}
    found = [f"{counts[status]} {text}" for status, text in texts.items() if counts[status]]
    yield f"{counted(len(report.comparisons), 'comparison')}: {', '.join(found)}"
    silent = sum(one.verdict.status == "failed" and not one.verdict.outputs for one in report.comparisons)
    if silent:
        yield f"{counted(silent, 'candidate')} gave no output that could be compared"
    by_limit = _by_limit(report)
    missed = {name: [one for one in by_limit.get(name, []) if one.margin.missed] for name in ("finite", *LABELS)}
    for worst, *more in filter(None, missed.values()):
        reason = worst.margin.reason
        others = f" (and in {counted(len(more), 'more output')})" if more else ""
        yield f"{f'{worst.file}: {reason}' if worst.file else reason[0].upper() + reason[1:]}{others}"
    if by_limit and not any(missed.values()):
        yield str(key_figures(report)[0])
    judged = overall(group.status for group in report.groups)
    if counts["failed"] and judged != "failed":
        yield "The recipe allows feeds to fail, and no file has more failures than it allows"
    if unrun := sum(not engine.executed for engine in report.engines):
        yield f"{counted(unrun, 'engine')} built and type-checked, but not run: this machine has no GPU for that"
    if unbuilt := [one.what for one in report.shortfalls if one.status == "failed" and not one.counts]:
        yield f"Not built, and not required: {', '.join(unbuilt)}"
    if report.status != judged:
        causes = ", ".join(shortfall.what for shortfall in report.shortfalls if shortfall.counts)
        yield f"The run as a whole is {report.status} because of {causes}: see the notes"
