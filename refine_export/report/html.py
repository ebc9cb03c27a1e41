"""A report as one HTML page that needs nothing else: no font, no request, and one script of its own.

The page's policy names the script by its hash; without the script everything is still visible. The templates only
print: what they print comes from `tables`, `charts`, `summary` and `formatting`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from refine_export.accuracy.effective_limits import LABELS, LARGEST
from refine_export.report.charts import bisection_for_page, charts_by_size, charts_of_flicker, histogram_of
from refine_export.report.formatting import FILTERS, limit_text, margin_text
from refine_export.report.line_chart import HEIGHT, MOST_POINTS, STYLES, WIDTH
from refine_export.report.pictures import COLOUR_STOPS, FramePictures, Pictures
from refine_export.report.report_data import Report
from refine_export.report.summary import key_figures, limit_texts, outcome_text
from refine_export.report.tables import MOST_DETAILS, cells_from_rows, matrix_from_cells, rows_from_report
from refine_export.support.templates import template_environment

TEMPLATE = "template.html.j2"
MANY = 20
"""Comparisons from which on they can be filtered."""


def page_environment() -> Environment:
    """Open the templates of pages, with their filters."""
    environment = template_environment("report", autoescape=True)
    environment.filters.update(FILTERS)
    environment.tests["hash"] = lambda text: bool(re.fullmatch(r"[0-9a-f]{40,64}", str(text)))
    return environment


def html_from_report(report: Report, pictures: Mapping[str, Pictures], frames: FramePictures) -> str:
    """Render the page.

    Args:
        report: the content.
        pictures: pictures by key of the comparison; none for those that have nothing to show.
        frames: the pictures at the head.
    """
    environment = page_environment()
    environment.globals.update(
        LARGEST=LARGEST,
        margin=margin_text,
        limit_text=limit_text,
        histogram_of=histogram_of,
        chart_size=(WIDTH, HEIGHT, STYLES, MOST_POINTS),
    )
    script = Path(__file__).with_name("parts").joinpath("script.js").read_text(encoding="utf-8")
    rows, lost = rows_from_report(report, pictures)
    cells = cells_from_rows(report, rows)
    sizes, lines = matrix_from_cells(report, cells)
    flickers, more_flickers = charts_of_flicker(rows)
    metrics = [output.metrics for row in rows for output in row.comparison.verdict.outputs]
    return environment.get_template(TEMPLATE).render(
        report=report,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        outcome=outcome_text(report),
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
        with_ssim=any(one.ssim is not None for one in metrics),
        with_flicker=any(one.flicker is not None for one in metrics),
        bisections=[bisection_for_page(found) for found in report.bisect],
        error_limits=limit_texts(report, "max_abs"),
        follows_rounding=any(one.rounding is not None for one in metrics),
        limit_names={
            name: label
            for name, label in LABELS.items()
            if any(limits.get(name) is not None for limits in report.thresholds.values())
        },
        frames=frames,
        stops=", ".join(COLOUR_STOPS),
    )
