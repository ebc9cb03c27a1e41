"""Line charts as shapes in a box of pixels, which the templates draw as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 16, 38  # margins: numbers and the names of the axes
INSET = 30  # of the first and the last point: room for half a label
STYLES = 6
"""Number of lines that can be distinguished."""
MOST_POINTS = 40  # of a line whose points have marks
CHARACTER = 7.5  # pixels of a label


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a line, in the values of the axes or, once drawn, in pixels."""

    x: float
    y: float
    """Infinite values are drawn at the edge."""
    title: str
    """Shown by a pointer over the point."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line, in the values of the axes or, once drawn, in pixels."""

    label: str
    points: tuple[Point, ...]
    """Points of increasing x."""

    @property
    def path(self) -> str:
        """The line as an SVG path."""
        return "M" + " L".join(f"{point.x:g},{point.y:g}" for point in self.points)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label at an axis, or a level line."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """A chart in pixels."""

    title: str
    description: str
    """The chart in words, for a screen reader."""
    x_name: str
    y_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    """The worst ones first; the first `STYLES` are coloured and the others grey."""
    limit: Tick | None


def draw_lines(
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    x_name: str,
    y_name: str,
    x_labels: Sequence[tuple[float, str]],
    limit: tuple[float, str] | None = None,
    log_y: bool = False,
) -> LineChart:
    """Draw lines.

    Args:
        lines: the worst ones first.
        title: heading of the chart.
        description: the chart in words.
        x_name: name of the x axis.
        y_name: name of the y axis.
        x_labels: places on the x axis and their labels; the axis ends at the outermost.
        limit: a level line and its label.
        log_y: make the y axis logarithmic; no value may be below 0.
    """
    low_x, high_x = min(x for x, _ in x_labels), max(x for x, _ in x_labels)
    values = [point.y for line in lines for point in line.points] + ([limit[0]] if limit else [])
    values = [y for y in values if math.isfinite(y) and (y > 0 or not log_y)]
    levels = _decades(values) if log_y else _round_levels(values)

    def across(x: float) -> float:
        share = 0.5 if low_x == high_x else (x - low_x) / (high_x - low_x)
        return round(LEFT + INSET + share * (WIDTH - LEFT - RIGHT - 2 * INSET), 1)

    def scaled(y: float) -> float:
        if not log_y:
            return y
        return math.log10(y) if y > 0 else -math.inf

    def up(y: float) -> float:
        low, high = scaled(levels[0]), scaled(levels[-1])
        share = min(1.0, max(0.0, (scaled(y) - low) / (high - low)))
        return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)

    def moved(point: Point) -> Point:
        return Point(x=across(point.x), y=up(point.y), title=point.title)

    return LineChart(
        title=title,
        description=description,
        x_name=x_name,
        y_name=y_name,
        x_ticks=_spaced([Tick(at=across(x), label=label) for x, label in x_labels]),
        y_ticks=tuple(Tick(at=up(level), label=f"{level:.0e}" if log_y else f"{level:g}") for level in levels),
        lines=tuple(Line(label=line.label, points=tuple(map(moved, line.points))) for line in lines),
        limit=None if limit is None else Tick(at=up(limit[0]), label=limit[1]),
    )


def _round_levels(values: Sequence[float]) -> list[float]:
    """At most seven round levels around all values."""
    low, high = (min(values) - 1, max(values) + 1) if values else (0.0, 1.0)
    power = 10.0 ** math.floor(math.log10(high - low) - 0.5)
    step = next(step * power for step in (1, 2, 5, 10, 20) if (high - low) / (step * power) <= 5)
    return [number * step for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _decades(values: Sequence[float]) -> list[float]:
    """At most eight powers of ten around all values."""
    # The largest value gets some room, so that a power of ten does not touch the upper edge.
    low, high = (math.floor(math.log10(min(values))), math.ceil(math.log10(1.2 * max(values)))) if values else (-1, 0)
    high = max(high, low + 1)
    step = math.ceil((high - low) / 6)
    return [10.0**power for power in range(low, high + step, step)]


def _spaced(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    """The ticks whose labels do not touch the one before."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or tick.at - kept[-1].at > CHARACTER * (1 + (len(tick.label) + len(kept[-1].label)) / 2):
            kept.append(tick)
    return tuple(kept)
