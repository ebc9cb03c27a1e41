"""A report as one HTML page that needs nothing else: no script, no font, no request.

The template prints; what it prints is made here, in `rows` and in `words`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refine_export.report.data import Report
from refine_export.report.pictures import COLOUR_STOPS, Pictures
from refine_export.report.rows import rows_from_report, size_table
from refine_export.report.words import FILTERS, key_figures, limit_texts, margin, sentence_from_report

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
    environment.filters.update(FILTERS)
    environment.tests["hash"] = lambda text: bool(re.fullmatch(r"[0-9a-f]{40,64}", str(text)))
    rows = rows_from_report(report, pictures)
    sizes, lines = size_table(rows)
    return environment.get_template(TEMPLATE).render(
        report=report,
        sentence=sentence_from_report(report),
        mark=MARKS[report.status],
        counts=Counter(comparison.verdict.status for comparison in report.comparisons),
        figures=key_figures(report),
        rows=rows,
        sizes=sizes,
        lines=lines,
        error_limits=limit_texts(report, "max_abs"),
        psnr_limits=limit_texts(report, "psnr_db"),
        frames=frames,
        stops=", ".join(f"rgb({red} {green} {blue})" for red, green, blue in COLOUR_STOPS),
        step_path=step_path,
        nice_top=nice_top,
        margin=margin,
    )


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
