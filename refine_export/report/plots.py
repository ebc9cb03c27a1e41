"""What the page plots: accuracy over the size, flicker over time, the error over the layers of a bisection, and how
the errors of one comparison are distributed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refine_export.accuracy.limits import limits_name
from refine_export.accuracy.metrics import DECADES
from refine_export.report.charts import Chart, Series, Value, chart_from_series
from refine_export.report.matrix import Line
from refine_export.report.rows import Row, psnr_order
from refine_export.report.words import error_text, psnr_text
from refine_export.validate.comparison import OutputVerdict

MOST_CHARTS = 6  # of flicker
INDICES = 4  # labels along an axis of numbers


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Of a histogram."""

    label: str
    count: int
    share: float
    """Of all values."""
    length: float
    """0 to 1, by the logarithm of the count."""
    beyond: bool
    """All of these errors are above the limit."""
    has_limit: bool
    """The limit is among these errors."""


def charts_by_size(lines: Sequence[Line]) -> list[Chart]:
    """The lowest PSNR over the size, a plot for each graph and precision, which share a limit."""
    plots: dict[str, list[Line]] = {}
    for line in lines:
        plots.setdefault(limits_name(line.row.comparison.graph, line.row.precision), []).append(line)
    return [chart for name, of_plot in plots.items() for chart in _by_size(name, of_plot)]


def _by_size(name: str, lines: Sequence[Line]) -> list[Chart]:
    limit = lines[0].row.comparison.verdict.limits.psnr_db
    named = len({line.row.comparison.file for line in lines}) > 1
    series, labels = [], {}
    for line in lines:
        comparison = line.row.comparison
        worst: dict[float, tuple[OutputVerdict, str]] = {}
        for cell in line.cells:
            if cell is None or cell.lowest is None or cell.lowest.metrics.snr_db is not None:  # the probe has no size
                continue
            height, width = cell.group.size
            place = math.log10(height * width)
            labels[place] = f"{height}\u00d7{width}"
            if place not in worst or psnr_order(cell.lowest) < psnr_order(worst[place][0]):
                batch = f", batch of {cell.group.batch}" if cell.group.batch > 1 else ""
                worst[place] = cell.lowest, f"{height}\u00d7{width}{batch}"
        label = f"{comparison.file}, {comparison.verdict.runtime}" if named else comparison.verdict.runtime
        values = tuple(
            Value(x=x, y=psnr_order(lowest), said=f"{label}, {where}: {_said(lowest)}")
            for x, (lowest, where) in sorted(worst.items())
        )
        if values:
            series.append(Series(label=label, values=values))
    if not series:
        return []
    series.sort(key=lambda line: min(value.y for value in line.values))
    chart = chart_from_series(
        series,
        title=_title(name),
        about=f"Lowest PSNR by size, limit {limit:g} dB. " + _in_words(series),
        x_name="height \u00d7 width, by number of pixels",
        y_name="PSNR, dB",
        x_labels=sorted(labels.items()),
        limit=(limit, f"limit {limit:g} dB"),
    )
    return [chart]


def charts_of_flicker(rows: Sequence[Row]) -> tuple[list[Chart], int]:
    """The change of the error over time, a plot for each sequence; and how many of them are left out."""
    sequences: dict[str, dict[tuple[str, str], list[tuple[int, float]]]] = {}
    limits: dict[str, float | None] = {}
    for row in rows:
        comparison, verdict = row.comparison, row.comparison.verdict
        flickers = [
            output.metrics.flicker / output.metrics.peak
            for output in verdict.outputs
            if output.metrics.flicker is not None
        ]
        if comparison.sequence is None or not flickers:
            continue
        name = f"{comparison.sequence}{'' if row.precision == 'fp32' else f', {row.precision.upper()}'}"
        line = sequences.setdefault(name, {}).setdefault((comparison.file, verdict.runtime), [])
        line.append((comparison.index, max(flickers)))
        limits[name] = verdict.limits.flicker
    worst = sorted(sequences, key=lambda name: -max(y for line in sequences[name].values() for _, y in line))
    charts = [_of_flicker(name, sequences[name], limits[name]) for name in worst[:MOST_CHARTS]]
    return charts, len(worst) - len(charts)


def _of_flicker(name: str, lines: Mapping[tuple[str, str], Sequence[tuple[int, float]]], limit: float | None) -> Chart:
    series = []
    for (file, runtime), points in lines.items():
        label = f"{file}, {runtime}"
        values = [Value(x=x, y=y, said=f"{label}, frame {x}: {error_text(y)}") for x, y in sorted(points)]
        series.append(Series(label=label, values=tuple(values)))
    series.sort(key=lambda line: -max(value.y for value in line.values))
    places = sorted({value.x for line in series for value in line.values})
    bound = "" if limit is None else f", limit {error_text(limit)}"
    return chart_from_series(
        series,
        title=name,
        about=f"Flicker over time{bound}. "
        + " ".join(f"{line.label}: at most {error_text(max(value.y for value in line.values))}." for line in series),
        x_name="number in the sequence",
        y_name="flicker, of the peak",
        x_labels=_numbers(places),
        limit=None if limit is None else (limit, f"limit {error_text(limit)}"),
        log_y=True,
    )


def chart_of_layers(layers: Sequence[Mapping[str, Any]]) -> Chart:
    """The error of each tensor of a bisection in topological order, and what its type explains of what is made there.

    Args:
        layers: of `Bisected.as_json`.
    """

    def series(label: str, field: str) -> Series:
        values = [
            Value(x=number, y=_finite(layer[field]), said=f"{layer['node']}: {label} {error_text(layer[field])}")
            for number, layer in enumerate(layers, 1)
        ]
        return Series(label=label, values=tuple(values))

    return chart_from_series(
        [series("error", "after"), series("explained by the type", "allowed")],
        title="Error by layer",
        about=f"The error of {len(layers)} tensors in topological order.",
        x_name="tensor, in topological order",
        y_name="of the peak",
        x_labels=_numbers(list(range(1, len(layers) + 1)) or [0]),
        log_y=True,
    )


def histogram_of(output: OutputVerdict, limit: float) -> list[Bar]:
    """How many values have which error; `limit` in units of the peak. Empty where nothing was counted."""
    counts = output.metrics.histogram
    total = sum(counts)
    if not total:
        return []
    edges = [0.0, 0.0, *DECADES, math.inf]
    texts = ["none", *(f"to {edge:.0e}" for edge in DECADES), f"over {DECADES[-1]:.0e}"]
    return [
        Bar(
            label=text,
            count=count,
            share=count / total,
            length=math.log1p(count) / math.log1p(total),
            beyond=low >= limit,
            has_limit=low < limit < high,
        )
        for text, count, low, high in zip(texts, counts, edges[:-1], edges[1:], strict=True)
    ]


def _numbers(places: Sequence[float]) -> list[tuple[float, str]]:
    step = max(1, (len(places) - 1) // INDICES)
    kept = sorted({*places[::step], places[-1]})
    return [(place, f"{place:g}") for place in kept]


def _title(name: str) -> str:
    graph, _, precision = name.rpartition("_")
    return f"{graph}, {precision.upper()}"


def _said(output: OutputVerdict) -> str:
    return "not finite" if output.metrics.max_abs is None else psnr_text(output)


def _in_words(series: Sequence[Series]) -> str:
    return " ".join(f"{value.said}." for line in series for value in line.values)


def _finite(value: float | None) -> float:
    return math.inf if value is None else value
