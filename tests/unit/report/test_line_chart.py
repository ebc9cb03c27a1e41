"""Points are where their values are, and the axes end around all of them."""

import itertools
import math

import pytest

from refine_export.report.line_chart import Line, Point, draw_lines


def line(label, *values):
    return Line(label=label, points=tuple(Point(x=x, y=y, title="") for x, y in enumerate(values)))


def drawn(*lines, labels=((0, "a"), (1, "b")), **options):
    return draw_lines(lines, title="", description="", x_name="", y_name="", x_labels=labels, **options)


def test_points_are_where_their_values_are():
    """Of two lines from 60 to 100 dB the upper one is higher; infinite values are at the edges."""
    chart = drawn(line("low", 60, -math.inf), line("high", 100, math.inf), limit=(80, "limit"))
    low, high = chart.lines
    assert high.points[0].y < chart.limit.at < low.points[0].y
    assert chart.limit.at == pytest.approx((high.points[0].y + low.points[0].y) / 2, abs=0.2)
    assert high.points[1].y == min(tick.at for tick in chart.y_ticks)
    assert low.points[1].y == max(tick.at for tick in chart.y_ticks)
    assert low.points[0].x < low.points[1].x
    assert low.path == "M{:g},{:g} L{:g},{:g}".format(*(side for mark in low.points for side in (mark.x, mark.y)))


@pytest.mark.parametrize("values", [(1e-9, 1e-9), (60.0, 100.5), (0.0, 0.0), (3e-5, 0.9), (0.0, 1e-12), (2.5,)])
@pytest.mark.parametrize("log_y", [True, False])
def test_axes_end_around_all_values(values, log_y):
    chart = drawn(line("", *values), labels=[(0, "a")], log_y=log_y)
    levels = [float(tick.label) for tick in chart.y_ticks]
    assert levels == sorted(set(levels))
    assert levels[0] <= min([y for y in values if y > 0 or not log_y] or [1])
    assert levels[-1] >= max(values)
    assert 2 <= len(levels) <= 8


def test_labels_do_not_touch():
    chart = drawn(line("", 1, 2), labels=[(k / 40, "256x448") for k in range(41)])
    places = [tick.at for tick in chart.x_ticks]
    assert min(right - left for left, right in itertools.pairwise(places)) > 7 * 7.5
