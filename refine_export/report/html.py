"""A report as one HTML page that needs nothing else: no font, no request, and one script of its own, which the
page's policy names by its hash; without it everything is still to be seen.

The templates print; what they print is made here, in `rows`, `matrix`, `plots` and `words`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refine_export.report.bisect_section import bisection_from_json
from refine_export.report.charts import HEIGHT, WIDTH
from refine_export.report.data import Report
from refine_export.report.matrix import cells_from_rows, matrix_from_cells
from refine_export.report.pictures import COLOUR_STOPS, Pictures
from refine_export.report.plots import charts_by_size, charts_of_flicker, histogram_of
from refine_export.report.rows import MOST_DETAILS, rows_from_report
from refine_export.report.words import (
    FILTERS,
    LIMITS,
    key_figures,
    limit_text,
    limit_texts,
    margin,
    sentence_from_report,
)

if TYPE_CHECKING:
    import jinja2

TEMPLATE = "template.html.j2"
SCRIPT = "parts/script.js"
MARKS = {"passed": "PASSED", "failed": "FAILED", "not compared": "NOT COMPARED"}
MANY = 20
"""Comparisons from which on they can be filtered."""


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
    import markupsafe

    environment = _environment()
    rows, lost = rows_from_report(report, pictures)
    cells = cells_from_rows(report, rows)
    sizes, lines = matrix_from_cells(cells)
    flickers, more_flickers = charts_of_flicker(rows)
    assert environment.loader is not None
    script = environment.loader.get_source(environment, SCRIPT)[0]
    return environment.get_template(TEMPLATE).render(
        report=report,
        script=markupsafe.Markup(script),
        script_hash=script_hash(script),
        sentence=sentence_from_report(report),
        mark=MARKS[report.status],
        counts=Counter(comparison.verdict.status for comparison in report.comparisons),
        group_counts=Counter(group.status for group in report.groups),
        figures=key_figures(report),
        rows=rows,
        many=len(rows) >= MANY,
        lost=lost,
        most_details=MOST_DETAILS,
        cells=cells,
        sizes=sizes,
        lines=lines,
        charts=charts_by_size(lines),
        flickers=flickers,
        more_flickers=more_flickers,
        bisections=[bisection_from_json(found) for found in report.bisect],
        error_limits=limit_texts(report, "max_abs"),
        frames=frames,
        stops=", ".join(f"rgb({red} {green} {blue})" for red, green, blue in COLOUR_STOPS),
    )


def script_hash(script: str) -> str:
    """What a content security policy calls this script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"


def _environment() -> jinja2.Environment:
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
    environment.globals.update(
        margin=margin,
        limit_names=LIMITS,
        limit_text=limit_text,
        histogram_of=histogram_of,
        chart_size=(WIDTH, HEIGHT),
    )
    return environment
