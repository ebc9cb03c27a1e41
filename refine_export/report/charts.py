"""The charts of the page: accuracy over the size, flicker over time, the error over the layers of a bisection, and the
distribution of the errors of one comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from refine_export.accuracy.limits import limits_name
from refine_export.accuracy.metrics import DECADES
from refine_export.report.formatting import error_text, psnr_order, psnr_text
from refine_export.report.line_chart import Line, LineChart, Point, draw_lines
from refine_export.report.tables import Cell, MatrixLine, Row
from refine_export.validate.comparison import OutputVerdict

MOST_CHARTS = 6  # of flicker
INDICES = 4  # labels along an axis of numbers
MOST_LAYERS = 40
AROUND = 4  # layers before and after the first jump, which are always listed


class Bar(NamedTuple):
    """A bar of a histogram."""

    label: str
    number: int
    share: float
    """Share of all values, 0 to 1."""
    length: float
    """0 to 1, by the logarithm of the count."""
    above: bool
    """All of these errors are above the limit."""
    has_limit: bool
    """The limit is among these errors."""


def charts_by_size(matrix: Sequence[MatrixLine]) -> list[LineChart]:
    """The lowest PSNR over the size: a chart for each graph and precision, whose files share a limit."""
    charts: dict[str, list[list[Cell]]] = {}
    for cells in ([cell for cell in line if cell] for line in matrix):
        row = cells[0].rows[0]
        charts.setdefault(limits_name(row.comparison.graph, row.precision), []).append(cells)
    found = (_chart_by_size(name, members) for name, members in charts.items())
    return [chart for chart in found if chart is not None]


def _chart_by_size(name: str, matrix: Sequence[Sequence[Cell]]) -> LineChart | None:
    graph, _, precision = name.rpartition("_")
    verdicts = [row.comparison.verdict for cells in matrix for cell in cells for row in cell.rows]
    follows = any(v.limits.times is not None and output.metrics.rounding for v in verdicts for output in v.outputs)
    limit = None if follows else verdicts[0].limits.psnr_db  # a limit that follows the reference differs for each feed
    several = len({cells[0].group.file for cells in matrix}) > 1
    lines, places = [], {}
    for cells in matrix:
        group = cells[0].group
        label = f"{group.file}, {group.runtime}" if several else group.runtime
        lowest: dict[float, Point] = {}
        for cell in cells:
            found = cell.judged.lowest
            if found is None or found.metrics.snr_db is not None:  # the probe has a size of its own
                continue
            height, width = cell.group.size
            x, size = math.log10(height * width), f"{height}\u00d7{width}"
            places[x] = size
            batch = f", batch of {cell.group.batch}" if cell.group.batch > 1 else ""
            psnr = "not finite" if found.metrics.max_abs is None else psnr_text(found)
            point = Point(x=x, y=psnr_order(found), title=f"{label}, {size}{batch}: {psnr}")
            lowest[x] = min(lowest.get(x, point), point, key=lambda one: one.y)
        if lowest:
            lines.append(Line(label=label, points=tuple(lowest[x] for x in sorted(lowest))))
    if not lines:
        return None
    lines.sort(key=lambda line: min(point.y for point in line.points))
    return draw_lines(
        lines,
        title=f"{graph}, {precision.upper()}",
        description=f"Lowest PSNR by size{'' if limit is None else f', limit {limit:g} dB'}. "
        + " ".join(f"{point.title}." for line in lines for point in line.points),
        x_name="height \u00d7 width, by number of pixels",
        y_name="PSNR, dB",
        x_labels=sorted(places.items()),
        limit=None if limit is None else (limit, f"limit {limit:g} dB"),
    )


def charts_of_flicker(rows: Sequence[Row]) -> tuple[list[LineChart], int]:
    """The change of the error over time: a chart for each sequence, the worst ones, and how many are left out."""
    sequences: dict[str, dict[str, list[tuple[int, float]]]] = {}
    limits: dict[str, float | None] = {}
    for row in rows:
        comparison, verdict = row.comparison, row.comparison.verdict
        metrics = [output.metrics for output in verdict.outputs]
        flickers = [one.flicker / one.peak for one in metrics if one.flicker is not None]
        if comparison.sequence is None or not flickers:
            continue
        name = f"{comparison.sequence}{'' if row.precision == 'fp32' else f', {row.precision.upper()}'}"
        points = sequences.setdefault(name, {}).setdefault(f"{comparison.file}, {verdict.runtime}", [])
        points.append((comparison.index, max(flickers)))
        limits[name] = verdict.limits.flicker
    worst = sorted(sequences, key=lambda name: -max(y for points in sequences[name].values() for _, y in points))
    charts = [_flicker_chart(name, sequences[name], limits[name]) for name in worst[:MOST_CHARTS]]
    return charts, len(worst) - len(charts)


def _flicker_chart(name: str, sequence: Mapping[str, list[tuple[int, float]]], limit: float | None) -> LineChart:
    worst_first = sorted(sequence.items(), key=lambda item: -max(y for _, y in item[1]))
    lines = [
        Line(
            label=label,
            points=tuple(Point(x=x, y=y, title=f"{label}, frame {x}: {error_text(y)}") for x, y in sorted(points)),
        )
        for label, points in worst_first
    ]
    highest = (f"{line.label}: at most {error_text(max(point.y for point in line.points))}." for line in lines)
    bound = None if limit is None else (limit, f"limit {error_text(limit)}")
    return draw_lines(
        lines,
        title=name,
        description=" ".join((f"Flicker over time{f', {bound[1]}' if bound else ''}.", *highest)),
        x_name="number in the sequence",
        y_name="flicker, of the peak",
        x_labels=_labels(sorted({x for points in sequence.values() for x, _ in points})),
        limit=bound,
        log_y=True,
    )


def bisection_for_page(found: Mapping[str, Any]) -> dict[str, Any]:
    """Chart the error of each tensor, and list all layers or, of many, the jumps and what is around the first one.

    Args:
        found: what `Bisected.to_dict` returned.

    Returns:
        `found`, with `chart` and `listed`: layers, each with its `number` in topological order, from 1, and `verdict`.
    """
    jumps = [jump["layer"]["tensor"] for jump in found["jumps"]]
    first = found["first"]["layer"]["tensor"] if found["first"] else None
    layers = []
    for number, layer in enumerate(found["layers"], 1):
        tensor = layer["tensor"]
        verdict = "first jump" if tensor == first else "jump" if tensor in jumps else "explained"
        layers.append({**layer, "number": number, "verdict": verdict})
    start = next((layer["number"] for layer in layers if layer["verdict"] == "first jump"), 0)
    near = [one for one in layers if abs(one["number"] - start) <= AROUND or one["verdict"] != "explained"]
    listed = layers if len(layers) <= MOST_LAYERS else near[:MOST_LAYERS]
    return {**found, "chart": _layer_chart(layers) if layers else None, "listed": listed}


def _layer_chart(layers: Sequence[Mapping[str, Any]]) -> LineChart:
    """The error of each tensor in topological order, beside the error that its type explains."""

    def line(label: str, field: str) -> Line:
        values = [(one, math.inf if one[field] is None else one[field]) for one in layers]  # None was infinite
        points = (
            Point(x=one["number"], y=y, title=f"{one['node']}: {label} {error_text(one[field])}") for one, y in values
        )
        return Line(label=label, points=tuple(points))

    return draw_lines(
        [line("error", "after"), line("explained by the type", "allowed")],
        title="Error by layer",
        description=f"The error of {len(layers)} tensors in topological order.",
        x_name="tensor, in topological order",
        y_name="of the peak",
        x_labels=_labels([one["number"] for one in layers]),
        log_y=True,
    )


def histogram_of(output: OutputVerdict, limit: float) -> list[Bar]:
    """Distribution of the errors of an output; `limit` in units of the peak. Empty where nothing was counted."""
    counts = output.metrics.histogram
    total = sum(counts)
    if not total:
        return []
    edges = [0.0, 0.0, *DECADES, math.inf]
    labels = ["none", *(f"to {edge:.0e}" for edge in DECADES), f"over {DECADES[-1]:.0e}"]
    return [
        Bar(label, count, count / total, math.log1p(count) / math.log1p(total), low >= limit, low < limit < high)
        for label, count, low, high in zip(labels, counts, edges[:-1], edges[1:], strict=True)
    ]


def _labels(places: Sequence[float]) -> list[tuple[float, str]]:
    """A few of the numbers as labels, the first and the last among them."""
    step = max(1, (len(places) - 1) // INDICES)
    return [(place, f"{place:g}") for place in sorted({*places[::step], places[-1]})]
