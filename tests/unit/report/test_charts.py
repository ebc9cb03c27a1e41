"""The charts of the page: which lines they have, and what they leave out."""

import pytest

from refine_export.report.charts import bisection_for_page, charts_by_size, charts_of_flicker, histogram_of
from refine_export.report.tables import cells_from_rows, matrix_from_cells, rows_from_report
from tests.support.page_reports import bisected, long_report


@pytest.fixture(scope="module")
def report():
    return long_report()


def test_accuracy_by_size(report):
    """A chart for each precision with its limit; ten lines in FP32, of which six are coloured."""
    rows, _ = rows_from_report(report, {})
    _, lines = matrix_from_cells(report, cells_from_rows(report, rows))
    fp32, fp16 = charts_by_size(lines)
    assert [(chart.title, chart.limit.label) for chart in (fp32, fp16)] == [
        ("refine, FP32", "limit 90 dB"),
        ("refine, FP16", "limit 58 dB"),
    ]
    assert len(fp32.lines) == 10
    worst = fp32.lines[0]
    assert worst.label == "refine-3.onnx, onnxruntime-cpu"
    assert worst.points[3].title == "refine-3.onnx, onnxruntime-cpu, 1088\u00d71920: 63.8 dB"
    assert [len(line.points) for line in fp32.lines] == [5] * 10


def test_flicker(report):
    rows, _ = rows_from_report(report, {})
    charts, more = charts_of_flicker(rows)
    assert (len(charts), more) == (6, 4)
    assert all(chart.limit.label == "limit 1.0e-02" for chart in charts)


def test_bisection_lists_what_is_around_the_first_jump():
    of_many = bisection_for_page(bisected())
    assert [layer["number"] for layer in of_many["listed"]] == list(range(116, 125))
    assert [layer["verdict"] for layer in of_many["listed"]].count("explained") == 8
    assert of_many["listed"][4]["verdict"] == "first jump"
    without = bisection_for_page(bisected(layers=20, bad=0))
    assert (len(without["listed"]), without["first"]) == (20, None)
    assert bisection_for_page(bisected(layers=0))["chart"] is None


def test_histogram_marks_what_is_above_the_limit(report):
    """The limit 5e-2 lies in the decade to 1e-1; only what is over 1e-1 is surely above it."""
    verdicts = [one.verdict for one in report.comparisons if one.file == "refine-8.fp16.onnx"]
    failed = max((verdict.outputs[0] for verdict in verdicts if verdict.outputs), key=lambda one: one.metrics.max_abs)
    bars = histogram_of(failed, 5e-2)
    assert [bar.number for bar in bars] == [100, 2000, 40000, 90000, 50000, 7000, 400, 20, 3]
    assert [bar.label for bar in bars if bar.above] == ["over 1e-01"]
    assert [bar.label for bar in bars if bar.has_limit] == ["to 1e-01"]
    assert sum(bar.share for bar in bars) == pytest.approx(1)
    assert max(bars, key=lambda bar: bar.length).number == 90000
    at_an_edge = histogram_of(failed, 1e-4)
    assert next(bar.label for bar in at_an_edge if bar.above) == "to 1e-03"
    assert not any(bar.has_limit for bar in at_an_edge)
