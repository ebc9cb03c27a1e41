"""A thousand comparisons stay readable: what failed comes first, and the page stays small."""

import dataclasses
import re
import time

import pytest

from refine_export.report.charts import Series, Value, chart_from_series
from refine_export.report.html import html_from_report
from refine_export.report.plots import histogram_of
from refine_export.report.rows import MOST_DETAILS, MOST_OPEN, rows_from_report
from tests.support.page_reports import FRAMES, bisected, long_report, pictures_of

LARGEST_BYTES = 20 * 10**6
PICTURE = "data:image/webp;base64," + "A" * 200_000


@pytest.fixture(scope="module")
def report():
    return long_report()


@pytest.fixture(scope="module")
def page(report):
    return html_from_report(report, pictures_of(report, PICTURE), FRAMES)


def test_it_is_small_and_quick(report):
    """126 pictures of 600 kB would be 120 MB: those that are left out are counted."""
    assert len(report.comparisons) == 1000
    pictures = pictures_of(report, PICTURE)
    assert len(pictures) * 3 * len(PICTURE) > 3 * LARGEST_BYTES
    started = time.process_time()
    page = html_from_report(report, pictures, FRAMES)
    assert time.process_time() - started < 10
    assert len(page.encode()) < LARGEST_BYTES
    shown = page.count('class="slider"')
    assert shown * 3 * len(PICTURE) < 15 * 2**20
    assert shown > 20
    assert f"the pictures of {len(pictures) - shown} are left out" in page


def test_failed_ones_come_first(report, page):
    """In the matrix, in the details and in the table; and none is missing from the table."""
    statuses = re.findall(r'<td class="number (failed|passed|not-compared)">', page.partition('id="details"')[0])
    assert len(statuses) == 100
    lines = [statuses[start : start + 5] for start in range(0, 100, 5)]
    worst = [min(line, key=["failed", "not-compared", "passed"].index) for line in lines]
    assert worst == sorted(worst, key=["failed", "not-compared", "passed"].index)
    assert set(worst) == {"failed", "not-compared", "passed"}

    table = page.partition('<table class="summary"')[2]
    groups = re.findall(r'<tr role="row" class="group ([a-z-]+)">', table)
    assert groups == sorted(groups, key=["failed", "not-compared", "passed"].index)
    rows = re.findall(r'<tr role="row" class="(failed|passed|not-compared)">', table)
    assert len(rows) == 1000
    failed = sum(one.verdict.status == "failed" for one in report.comparisons)
    assert rows.count("failed") == failed > 40
    first = table.partition("</tbody>")[0]
    inside = re.findall(r'<tr role="row" class="(failed|passed)">', first)
    assert inside == sorted(inside)

    details = re.findall(r'<details class="comparison panel ([a-z-]+)"( open)?', page)
    assert len(details) == MOST_DETAILS
    assert {status for status, _ in details} == {"failed"}
    assert [bool(opened) for _, opened in details].count(True) == MOST_OPEN


def test_details_are_of_the_worst(report):
    rows, _ = rows_from_report(report, pictures_of(report))
    detailed = [row for row in rows if row.detailed]
    assert detailed == rows[:MOST_DETAILS]
    errors = [row.of_limit for row in detailed]
    assert errors == sorted(errors, reverse=True)
    rows, lost = rows_from_report(long_report(files=2, feeds=1), {})
    assert [row.detailed for row in rows].count(True) == 1
    assert lost == 0


def test_a_file_may_fail_on_what_the_recipe_allows():
    """Half of the feeds may fail, a third does: the groups pass, and say so."""
    report = long_report(files=4, feeds=6, allow=True)
    page = html_from_report(report, {}, FRAMES)
    assert re.search(r'<td class="number passed">.*2 of 6 failed, allowed</small>', page)
    assert "The recipe allows feeds to fail" in page


def test_accuracy_and_flicker_are_plotted(page):
    """A plot for each precision with its limit, ten lines in FP32 of which six are coloured; flicker by sequence."""
    before = page.partition('id="details"')[0]
    by_size, _, flicker = before.partition('id="flicker"')
    plots = by_size.split('<figure class="chart')[1:]
    titles = [re.findall("<h3>(.*?)</h3>|(limit [0-9]+ dB)</span>", plot) for plot in plots]
    assert titles == [[("refine, FP32", ""), ("", "limit 90 dB")], [("refine, FP16", ""), ("", "limit 58 dB")]]
    fp32 = plots[0]
    assert fp32.count('<g class="line-') == 6
    assert fp32.count('<g class="other">') == 4
    assert "grey: 4 more, none of them worse" in fp32
    assert "<title>refine-3.onnx, onnxruntime-cpu, 1088\u00d71920: 63.8 dB</title>" in fp32
    assert flicker.count('<figure class="chart') == 6
    assert "The 6 sequences that flicker most; 4 more are in report.json." in flicker
    assert "limit 1.0e-02" in flicker


def test_points_are_where_their_values_are():
    """Of two lines from 60 to 100 dB the upper one is higher; equal arrays are at the top, NaN at the bottom."""

    def line(label, *values):
        return Series(label=label, values=tuple(Value(x=x, y=y, said="") for x, y in enumerate(values)))

    chart = chart_from_series(
        [line("low", 60, -float("inf")), line("high", 100, float("inf"))],
        title="",
        about="",
        x_name="",
        y_name="",
        x_labels=[(0, "a"), (1, "b")],
        limit=(80, "limit"),
    )
    high, low = chart.lines
    assert high.marks[0].y < chart.limit.at < low.marks[0].y
    assert chart.limit.at == pytest.approx((high.marks[0].y + low.marks[0].y) / 2, abs=0.2)
    assert high.marks[1].y == min(tick.at for tick in chart.y_ticks)
    assert low.marks[1].y == max(tick.at for tick in chart.y_ticks)
    assert low.marks[0].x < low.marks[1].x
    assert low.path == "M{:g},{:g} L{:g},{:g}".format(*(side for mark in low.marks for side in (mark.x, mark.y)))


@pytest.mark.parametrize("given", [(1e-9, 1e-9), (60.0, 100.5), (0.0, 0.0), (3e-5, 0.9), (0.0, 1e-12), (2.5,)])
def test_axes_end_around_all_values(given):
    values = tuple(Value(x=x, y=y, said="") for x, y in enumerate(given))
    for log_y in (True, False):
        chart = chart_from_series(
            [Series(label="", values=values)],
            title="",
            about="",
            x_name="",
            y_name="",
            x_labels=[(0, "a")],
            log_y=log_y,
        )
        levels = [float(tick.label) for tick in chart.y_ticks]
        assert levels == sorted(set(levels))
        assert levels[0] <= min([y for y in given if y > 0 or not log_y] or [1])
        assert levels[-1] >= max(given)
        assert 2 <= len(levels) <= 8


def test_histogram_marks_what_is_above_the_limit(report):
    """The limit 5e-2 lies in the decade to 1e-1; only what is over 1e-1 is surely above it."""
    of_file = [one.verdict for one in report.comparisons if one.file == "refine-8.fp16.onnx"]
    outputs = [output for verdict in of_file for output in verdict.outputs]
    failed = max(outputs, key=lambda output: output.metrics.max_abs)
    bars = histogram_of(failed, 5e-2)
    assert [bar.count for bar in bars] == [100, 2000, 40000, 90000, 50000, 7000, 400, 20, 3]
    assert [bar.label for bar in bars if bar.beyond] == ["over 1e-01"]
    assert [bar.label for bar in bars if bar.has_limit] == ["to 1e-01"]
    assert sum(bar.share for bar in bars) == pytest.approx(1)
    assert max(bars, key=lambda bar: bar.length).count == 90000
    at_an_edge = histogram_of(failed, 1e-4)
    assert next(bar.label for bar in at_an_edge if bar.beyond) == "to 1e-03"
    assert not any(bar.has_limit for bar in at_an_edge)


def test_bisection_shows_the_first_jump():
    """Of 200 tensors those around the jump; what the file says is text."""
    report = dataclasses.replace(long_report(files=2, feeds=1), bisect=(bisected(), bisected(layers=20, bad=0)))
    page = html_from_report(report, {}, FRAMES)
    table, whole = (part.partition("</table>")[0] for part in page.split('<table class="layers">')[1:])
    numbers = [int(number) for number in re.findall(r'<td class="number">(\d+)</td><th', table)]
    assert numbers == list(range(116, 125))
    assert "9 of 200 tensors that both have; 3 of the reference are not in the candidate" in table
    assert re.search(r'<tr class="failed">.*/block0/conv120/Conv.*<td>first jump</td></tr>', table)
    assert table.count("failed") == 1
    assert "First jump: Conv <code>/block0/conv120/Conv</code>" in page
    assert "&lt;mode&gt; is nearest" in page
    assert "All 20 tensors" in whole
    assert "No jump" in page
    assert 'id="bisect"' not in html_from_report(dataclasses.replace(report, bisect=()), {}, FRAMES)
