"""A report as one HTML page that needs nothing else: no script, no font, no request.

The template prints; what it prints is made here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from refine_export.report.data import Comparison, Report
from refine_export.report.pictures import COLOUR_STOPS, Pictures
from refine_export.signature import SIGNATURES
from refine_export.validate import OutputVerdict, overall

TEMPLATE = "template.html.j2"
MARKS = {"passed": "PASSED", "failed": "FAILED", "not compared": "NOT COMPARED"}


@dataclass(frozen=True, kw_only=True)
class FramePictures:
    """The frames as `data:` URIs, see `pictures.data_uri_from_frame`."""

    img0: str
    img1: str
    middle: str | None
    """The true frame between them, where it is known."""
    interpolated: str | None
    """What the candidate made of the two."""
    interpolated_caption: str
    """What made it, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A comparison as the page shows it."""

    anchor: str
    """Id of its section."""
    comparison: Comparison
    feed: str
    """What sets it apart from the graph's other feeds."""
    worst: OutputVerdict | None
    """The output that is furthest from the reference; None where none was compared."""
    shown: OutputVerdict | None
    """The output that the pictures show: the first."""
    sizes: Mapping[str, tuple[int, ...]]
    """Height and width of each output."""
    channel: str
    """Of the worst pixel of `shown`."""
    gauge: float | None
    """Length of the bar of the largest error, 0 to 1."""
    pictures: Pictures | None
    opened: bool


def html_from_report(report: Report, pictures: Mapping[str, Pictures], frames: FramePictures) -> str:
    """The page; `pictures` by the key of the comparison, none for those that gave nothing to see."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refine_export", "report"),
        autoescape=True,  # file names and messages are the user's
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    environment.tests["hash"] = lambda text: bool(re.fullmatch(r"[0-9a-f]{40,64}", str(text)))
    finite = [error for error in (_of_peak(output) for output in _outputs(report)) if 0 < error < math.inf]
    limit = report.thresholds["max_abs"]
    # Decades of the bars: a tenth of the smallest error to ten times the largest, the limit among them.
    low = math.floor(math.log10(min([*finite, limit]))) - 1
    high = math.ceil(math.log10(max([*finite, limit]))) + 1

    def along(value: float) -> float:
        if value in (0, math.inf):
            return float(value > 0)
        return (math.log10(value) - low) / (high - low)

    rows = [_row(number, comparison, pictures, along) for number, comparison in enumerate(report.comparisons, 1)]
    if rows and not any(row.opened for row in rows):
        worst = max(rows, key=lambda row: _badness(row.worst))
        rows = [replace(row, opened=row is worst) for row in rows]
    return environment.get_template(TEMPLATE).render(
        report=report,
        sentence=sentence_from_report(report),
        mark=MARKS[report.status],
        counts=Counter(comparison.verdict.status for comparison in report.comparisons),
        worst=max((row for row in rows if row.worst), key=lambda row: _badness(row.worst), default=None),
        lowest_psnr=min((psnr for output in _outputs(report) if (psnr := output.metrics.psnr_db)), default=None),
        rows=rows,
        limit=limit,
        limit_along=along(limit),
        frames=frames,
        stops=", ".join(f"rgb({red} {green} {blue})" for red, green, blue in COLOUR_STOPS),
        step_path=step_path,
        nice_top=nice_top,
        margin=margin,
    )


def sentence_from_report(report: Report) -> str:
    """The outcome in a sentence or two, computed from the comparisons."""
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
    if report.status != overall(comparison.verdict.status for comparison in report.comparisons):
        sentence += f". The run as a whole is {report.status}: see the notes"
    return f"{sentence}."


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


def step_path(values: Sequence[float], top: float, *, downwards: bool = False) -> str:
    """SVG path of a profile in a box of 100 by 100: one level line per bin.

    From left to right with errors upwards, or with `downwards` from top to bottom with errors to the right.
    """
    level = [100 * value / top for value in values]
    ends = [100 * (number + 1) / len(values) for number in range(len(values))]
    if downwards:
        return "M0,0 " + " ".join(f"H{x:.2f} V{y:.2f}" for x, y in zip(level, ends, strict=True))
    return "M0,100 " + " ".join(f"V{100 - y:.2f} H{x:.2f}" for x, y in zip(ends, level, strict=True))


def nice_top(values: Sequence[float]) -> float:
    """The end of an axis: 1, 2 or 5 times a power of ten, at or above every value; 0 where there is no error."""
    largest = max(values, default=0.0)
    if not largest:
        return 0.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= largest)


def _row(number: int, comparison: Comparison, pictures: Mapping[str, Pictures], along: Callable[[float], float]) -> Row:
    outputs = comparison.verdict.outputs
    worst = max(outputs, key=_badness, default=None)
    shown = outputs[0] if outputs else None
    channel = str(shown.metrics.worst.channel) if shown and shown.metrics.worst else ""
    specs = SIGNATURES[comparison.graph].outputs
    if channel and specs[0].quantity in ("image", "residual"):
        channel += f" ({('red', 'green', 'blue')[int(channel)]})"
    return Row(
        anchor=f"comparison-{number}",
        comparison=comparison,
        feed=comparison.verdict.feed.partition(", ")[2] or "the two frames",
        worst=worst,
        shown=shown,
        sizes={spec.name: spec.shape_at(1, *comparison.size)[2:] for spec in specs},
        channel=channel,
        gauge=along(_of_peak(worst)) if worst else None,
        pictures=pictures.get(comparison.key),
        opened=comparison.verdict.status == "failed",
    )


def _error_facts(report: Report) -> list[str]:
    limit, psnr_limit = report.thresholds["max_abs"], report.thresholds["psnr_db"]
    outputs = _outputs(report)
    finite = [output for output in outputs if output.metrics.max_abs is not None]
    broken = len(outputs) - len(finite)
    silent = sum(row.verdict.status == "failed" and not row.verdict.outputs for row in report.comparisons)
    facts = []
    if silent:
        facts.append(f"{silent} candidate{'s' * (silent != 1)} gave no output that could be compared")
    if broken:
        facts.append(f"{broken} output{'s have' if broken != 1 else ' has'} NaN or infinite values")
    where = "of the others, " if facts else ""
    if finite and all(output.metrics.identical for output in finite):
        facts.append(f"{where}every output equals the reference's, value for value")
    elif finite:
        largest = max(_of_peak(output) for output in finite)
        facts.append(f"{where}the largest error is {_error(largest)} of the peak, {margin(largest, limit)}")
    lowest = min((output.metrics.psnr_db for output in finite if output.metrics.psnr_db is not None), default=None)
    if lowest is not None and lowest < psnr_limit:
        facts.append(f"the lowest PSNR is {lowest:.1f} dB, {psnr_limit - lowest:.1f} dB below its limit")
    return facts


def _outputs(report: Report) -> list[OutputVerdict]:
    return [output for comparison in report.comparisons for output in comparison.verdict.outputs]


def _of_peak(output: OutputVerdict) -> float:
    return output.metrics.max_of_peak


def _badness(output: OutputVerdict | None) -> tuple[bool, float]:
    return (False, -1.0) if output is None else (output.status == "failed", _of_peak(output))


def _listed(clauses: list[str]) -> str:
    return " and ".join([", ".join(clauses[:-1]), clauses[-1]]) if len(clauses) > 1 else clauses[0]


def _error(value: float | None, peak: float = 1.0) -> str:
    """In units of the peak where one is given."""
    if value is None:
        return "n/a"
    if not math.isfinite(value):
        return "not finite"
    return f"{value / peak:.1e}" if value else "0"


def _psnr(output: OutputVerdict) -> str:
    if output.metrics.identical:
        return "identical"
    return "n/a" if output.metrics.psnr_db is None else f"{output.metrics.psnr_db:.1f} dB"


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


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def _texts(value: Any) -> list[str]:
    """A value of a description, such as a size or two hashes, as one or more texts."""
    if isinstance(value, list | tuple):
        sizes = all(isinstance(item, int) for item in value)
        return [" \u00d7 ".join(str(item) for item in value)] if sizes else [str(item) for item in value]
    return [f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)]


_NUMBER = re.compile(r"\d\.\de-\d+")
_FILTERS: dict[str, Callable[..., Any]] = {
    "error": _error,
    "psnr": _psnr,
    "ssim": _ssim,
    "value": _value,
    "unbroken": _unbroken,
    "bytes": _bytes,
    "seconds": _seconds,
    "texts": _texts,
}
