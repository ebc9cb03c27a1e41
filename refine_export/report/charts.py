"""Plots of lines as shapes in a box of pixels, which the template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 16, 38  # margins: numbers, and what the axes are called
INSET = 30  # of the first and the last point: room for half a label
STYLES = 6
"""Lines that are told apart; of more than these the worst are, and the others are grey."""
MOST_POINTS = 40  # of a line, with marks on them
CHARACTER = 7.5  # pixels of a label


@dataclass(frozen=True, kw_only=True)
class Value:
    """A point of a line."""

    x: float
    y: float
    """Infinite values are at the edge."""
    said: str
    """What a pointer over it shows."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line before it is drawn."""

    label: str
    values: tuple[Value, ...]
    """By increasing x."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point as drawn."""

    x: float
    y: float
    said: str


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A line as drawn."""

    label: str
    style: int | None
    """0 to STYLES - 1; None for a grey one."""
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label at an axis."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot as drawn."""

    title: str
    about: str
    """All of it in words."""
    x_name: str
    y_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Drawn, ...]
    """Grey ones first, so that they are drawn below the others."""
    limit: Tick | None

    @property
    def greys(self) -> int:
        """Lines without a place in the legend."""
        return sum(line.style is None for line in self.lines)


def chart_from_series(
    series: Sequence[Series],
    *,
    title: str,
    about: str,
    x_name: str,
    y_name: str,
    x_labels: Sequence[tuple[float, str]],
    limit: tuple[float, str] | None = None,
    log_y: bool = False,
) -> Chart:
    """Draw lines.

    Args:
        series: the worst ones first.
        title: of the plot.
        about: the plot in words.
        x_name: what is along the x axis.
        y_name: what is along the y axis.
        x_labels: places on the x axis and what they are called; the axis ends at the outermost.
        limit: a level line and its label.
        log_y: the y axis is logarithmic; no value below 0.
    """
    low_x, high_x = min(x for x, _ in x_labels), max(x for x, _ in x_labels)
    given = [value.y for line in series for value in line.values] + ([limit[0]] if limit else [])
    given = [y for y in given if math.isfinite(y) and (y > 0 or not log_y)]
    levels = _decades(given) if log_y else _levels(given)

    def across(x: float) -> float:
        share = 0.5 if low_x == high_x else (x - low_x) / (high_x - low_x)
        return round(LEFT + INSET + share * (WIDTH - LEFT - RIGHT - 2 * INSET), 1)

    def scaled(y: float) -> float:
        if not log_y:
            return y
        return math.log10(y) if y > 0 else -math.inf

    def up(y: float) -> float:
        low, high, value = scaled(levels[0]), scaled(levels[-1]), scaled(y)
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)

    drawn = []
    for number, line in enumerate(series):
        places = [Mark(x=across(value.x), y=up(value.y), said=value.said) for value in line.values]
        path = " ".join(f"{'L' if index else 'M'}{mark.x:g},{mark.y:g}" for index, mark in enumerate(places))
        coloured = number < STYLES
        drawn.append(
            Drawn(
                label=line.label,
                style=number if coloured else None,
                path=path,
                marks=tuple(places) if coloured and len(places) <= MOST_POINTS else (),
            )
        )
    return Chart(
        title=title,
        about=about,
        x_name=x_name,
        y_name=y_name,
        x_ticks=_spaced([Tick(at=across(x), label=label) for x, label in x_labels]),
        y_ticks=tuple(Tick(at=up(level), label=f"{level:.0e}" if log_y else f"{level:g}") for level in levels),
        lines=tuple(reversed(drawn)),
        limit=None if limit is None else Tick(at=up(limit[0]), label=limit[1]),
    )


def _levels(given: Sequence[float]) -> list[float]:
    """At most six round levels around all values."""
    low, high = (min(given) - 1, max(given) + 1) if given else (0.0, 1.0)
    power = 10.0 ** math.floor(math.log10(high - low) - 0.5)
    step = next(step * power for step in (1, 2, 5, 10, 20) if (high - low) / (step * power) <= 5)
    first = math.floor(low / step)
    return [number * step for number in range(first, math.ceil(high / step) + 1)]


def _decades(given: Sequence[float]) -> list[float]:
    """At most seven powers of ten around all values."""
    low, high = (math.floor(math.log10(min(given))), math.ceil(math.log10(1.2 * max(given)))) if given else (-1, 0)
    high = max(high, low + 1)
    step = math.ceil((high - low) / 6)
    return [10.0**power for power in range(low, high + step, step)]


def _spaced(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or tick.at - kept[-1].at > CHARACTER * (1 + (len(tick.label) + len(kept[-1].label)) / 2):
            kept.append(tick)
    return tuple(kept)
