"""What a report says in words: the outcome in a sentence, the key figures, margins, numbers as text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refine_export.accuracy.limits import Limits
from refine_export.report.data import Measured, Report
from refine_export.validate.comparison import OutputVerdict, overall


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A key figure: what it is, its value, and what to know of it."""

    name: str
    value: str
    notes: tuple[str, ...]


def sentence_from_report(report: Report) -> str:
    """The outcome in a few sentences, computed from the comparisons and their groups."""
    total = len(report.comparisons)
    if not total:
        return "Nothing was compared."
    counts = Counter(comparison.verdict.status for comparison in report.comparisons)
    whole = f"{total} comparison{'s' * (total != 1)}"
    if counts["failed"]:
        clauses = [f"{counts['failed']} of {whole} failed"]
        clauses += [f"{counts['passed']} passed"] if counts["passed"] else []
        clauses += [f"{counts['not compared']} could not be made"] if counts["not compared"] else []
    elif counts["not compared"]:
        clauses = [f"{counts['not compared']} of {whole} could not be made"]
        clauses += [f"the other {counts['passed']} passed"] if counts["passed"] else []
    else:
        clauses = [f"{total} of {whole} passed"]
    sentence = _listed(clauses)
    if facts := _error_facts(report):
        sentence += f": {'; '.join(facts)}"
    judged = overall(group.status for group in report.groups)
    if counts["failed"] and judged != "failed":
        sentence += ". The recipe allows feeds to fail, and no file has more failures than it allows"
    if report.status != judged:
        named = _listed([shortfall.what for shortfall in report.shortfalls if shortfall.counts])
        sentence += f". The run as a whole is {report.status} because of {named}: see the notes"
    return f"{sentence}."


def key_figures(report: Report) -> tuple[Figure, Figure]:
    """The error and the PSNR that matter most: those nearest to their limit, or furthest beyond it."""
    measured = report.measured()
    error, psnr = max(measured, key=_of_limit, default=None), _lowest(measured)
    if error is None:
        first = Figure(name="Largest error, of the peak", value="not measured", notes=(_limits(report, "max_abs"),))
    else:
        far = margin(error.output.metrics.max_of_peak, error.comparison.verdict.limits.max_abs)
        limit = error_text(error.comparison.verdict.limits.max_abs)
        note = f"{far} of {limit}" if far.endswith("limit") else f"{far}, limit {limit}"
        which = _superlative(report, "largest", "error", "above", beyond=error.of_limit > 1)
        if error.output.metrics.max_abs is None:
            note, which = "NaN or infinite values", "largest error"
        first = Figure(
            name=f"{_capital(which)}, of the peak",
            value=error_text(error.output.metrics.max_of_peak),
            notes=(note, *_file_of(report, error)),
        )
    if psnr is None:
        identical = error is not None and error.output.metrics.identical
        value = "identical" if identical else "not measured"
        return first, Figure(name="Lowest PSNR", value=value, notes=(_limits(report, "psnr_db"),))
    side = "above" if psnr.above_limit >= 0 else "below"
    note = f"{abs(psnr.above_limit):.1f} dB {side} the limit of {psnr.comparison.verdict.limits.psnr_db:.1f} dB"
    name = _superlative(report, "lowest", "PSNR", "below", beyond=psnr.above_limit < 0)
    second = Figure(name=_capital(name), value=psnr_text(psnr.output), notes=(note, *_file_of(report, psnr)))
    return first, second


def limit_texts(report: Report, name: str) -> list[str]:
    """A limit as text, `max_abs` or `psnr_db`: with the graphs and precisions that have it, where these differ."""
    named: dict[str, list[str]] = {}
    for files, limits in report.thresholds.items():
        text = error_text(limits[name]) if name == "max_abs" else f"{limits[name]:.1f} dB"
        named.setdefault(text, []).append(files)
    if len(named) == 1:
        return list(named)
    return [f"{text} ({', '.join(names)})" for text, names in named.items()]


LIMITS = {
    "max_abs": "largest error",
    "psnr_db": "PSNR",
    "p999_abs": "99.9th percentile",
    "ssim": "SSIM",
    "flicker": "flicker",
}


def limit_text(name: str, value: float | None) -> str:
    """One limit, such as `1.0e-04` or `90 dB`."""
    if value is None:
        return "none"
    return f"{value:g} dB" if name == "psnr_db" else f"{value:g}" if name == "ssim" else error_text(value)


def limits_in_force(limits: Limits) -> str:
    """All that limits something, in words."""
    named = [(label, limit_text(name, getattr(limits, name))) for name, label in LIMITS.items()]
    return ", ".join(f"{label} {text}" for label, text in named if text != "none")


def margin(value: float, limit: float) -> str:
    """How far an error is from its limit, in words; rounded towards the limit."""
    if not value:
        return "no error"
    if value == math.inf:
        return "not finite"
    if value == limit:
        return "at the limit"
    side, ratio = ("below", limit / value) if value < limit else ("above", value / limit)
    if ratio < 1.1:
        return f"just {side} the limit"
    digits = 10.0 ** (math.floor(math.log10(ratio)) - 1)
    rounded = math.floor(ratio / digits + 1e-9) * digits
    return f"{rounded:.1f} times {side} the limit" if rounded < 10 else f"{rounded:,.0f} times {side} the limit"


def error_text(value: float | None, peak: float = 1.0) -> str:
    """An error, in units of the peak where one is given."""
    if value is None:
        return "n/a"
    if not math.isfinite(value):
        return "not finite"
    return f"{value / peak:.1e}" if value else "0"


def psnr_text(output: OutputVerdict) -> str:
    """The PSNR of an output, or why it has none."""
    if output.metrics.identical:
        return "identical"
    return "n/a" if output.metrics.psnr_db is None else f"{output.metrics.psnr_db:.1f} dB"


def _error_facts(report: Report) -> list[str]:
    measured = report.measured()
    finite = [one for one in measured if one.output.metrics.max_abs is not None]
    broken = len(measured) - len(finite)
    silent = sum(row.verdict.status == "failed" and not row.verdict.outputs for row in report.comparisons)
    facts = []
    if silent:
        facts.append(f"{silent} candidate{'s' * (silent != 1)} gave no output that could be compared")
    if broken:
        facts.append(f"{broken} output{'s have' if broken != 1 else ' has'} NaN or infinite values")
    where = "of the others, " if facts else ""
    if finite and all(one.output.metrics.identical for one in finite):
        facts.append(f"{where}every output equals the reference's, value for value")
    elif finite:
        worst = max(finite, key=_of_limit)
        error = worst.output.metrics.max_of_peak
        which = _superlative(report, "largest", "error", "above", beyond=worst.of_limit > 1)
        said = [f"{error_text(error)} of the peak", *(f"in {file}" for file in _file_of(report, worst))]
        far = margin(error, worst.comparison.verdict.limits.max_abs)
        facts.append(f"{where}the {which} is {', '.join([*said, far])}")
    other = [
        one
        for one in finite
        if one.output.status == "failed" and one.of_limit <= 1 and one.above_limit >= 0 and one.output.reasons
    ]
    if other:
        first = other[0].output.reasons[0]
        facts.append(f"{len(other)} output{'s' * (len(other) != 1)} failed by another limit alone, such as: {first}")
    lowest = _lowest(finite)
    if lowest is not None and lowest.above_limit < 0:
        which = _superlative(report, "lowest", "PSNR", "below", beyond=True)
        said = [psnr_text(lowest.output), *(f"in {file}" for file in _file_of(report, lowest))]
        facts.append(f"the {which} is {', '.join(said)}, {-lowest.above_limit:.1f} dB below its limit")
    return facts


def _superlative(report: Report, most: str, what: str, side: str, *, beyond: bool) -> str:
    """Such as `largest error`; where the limits differ, which one is judged by."""
    if len({comparison.verdict.limits for comparison in report.comparisons}) == 1:
        return f"{most} {what}"
    return f"{what} furthest {side} its limit" if beyond else f"{what} nearest its limit"


def _file_of(report: Report, measured: Measured) -> list[str]:
    """The file, where there are several."""
    return [measured.comparison.file] if len({one.file for one in report.comparisons}) > 1 else []


def _of_limit(measured: Measured) -> float:
    return measured.of_limit


def _lowest(measured: list[Measured]) -> Measured | None:
    with_psnr = [one for one in measured if one.output.metrics.psnr_db is not None]
    return min(with_psnr, key=lambda one: one.above_limit, default=None)


def _limits(report: Report, name: str) -> str:
    texts = limit_texts(report, name)
    return f"limit{'s' * (len(texts) > 1)} {', '.join(texts)}" if texts else ""


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _listed(clauses: list[str]) -> str:
    return " and ".join([", ".join(clauses[:-1]), clauses[-1]]) if len(clauses) > 1 else clauses[0]


def _ssim(value: float | None) -> str:
    if value is None:
        return "n/a"
    return "> 0.999999" if value > 0.999999 else f"{value:.6f}"  # rounding takes it over 1


def _value(value: float) -> str:
    return f"{value:.8g}" if math.isfinite(value) else "NaN" if math.isnan(value) else "infinite"


def _unbroken(text: str) -> str:
    """The text as HTML, in which no line breaks within a number such as 1.0e-04."""
    import markupsafe

    return markupsafe.Markup(_NUMBER.sub(r'<span class="unbroken">\g<0></span>', str(markupsafe.escape(text))))


def _bytes(count: int) -> str:
    return (
        f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB" if count >= 2**10 else f"{count} B"
    )


def _share(value: float) -> str:
    return "0 %" if not value else "< 0.001 %" if value < 1e-5 else f"{100 * value:.3g} %"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def _texts(value: Any) -> list[str]:
    """A value of a description, such as a size or two hashes, as one or more texts."""
    if isinstance(value, list | tuple):
        sizes = all(isinstance(item, int) for item in value)
        return [" \u00d7 ".join(str(item) for item in value)] if sizes else [str(item) for item in value]
    return [f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)]


_NUMBER = re.compile(r"(?:\b[A-Z]+\d+ )?\d\.\de-\d+")
FILTERS: dict[str, Callable[..., Any]] = {
    "limits": limits_in_force,
    "error": error_text,
    "psnr": psnr_text,
    "ssim": _ssim,
    "value": _value,
    "unbroken": _unbroken,
    "bytes": _bytes,
    "seconds": _seconds,
    "share": _share,
    "texts": _texts,
}
