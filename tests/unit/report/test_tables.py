"""A thousand comparisons stay readable: what failed comes first, and the worst of them have details."""

import dataclasses

import pytest

from refine_export.accuracy.limits import Limits
from refine_export.report.tables import (
    MOST_DETAILS,
    MOST_OPEN,
    ORDER,
    cells_from_rows,
    matrix_from_cells,
    rows_from_report,
)
from tests.support.gate_reports import artifact, comparison, groups_of, metrics, not_finite, report_of
from tests.support.page_reports import BAD_FILES, long_report, pictures_of

FP16, FP32 = artifact("a.fp16.onnx"), artifact("a.onnx", "fp32")


@pytest.fixture(scope="module")
def report():
    return long_report()


def test_failed_rows_come_first_and_the_worst_have_details(report):
    rows, lost = rows_from_report(report, pictures_of(report))
    assert (len(rows), lost) == (1000, len(pictures_of(report)) - MOST_DETAILS)
    assert [ORDER[row.status] for row in rows] == sorted(ORDER[row.status] for row in rows)
    detailed = [row for row in rows if row.detailed]
    assert detailed == rows[:MOST_DETAILS]
    assert [row.of_limit for row in detailed] == sorted((row.of_limit for row in detailed), reverse=True)
    assert [row.opened for row in rows].index(False) == MOST_OPEN


def test_where_nothing_failed_the_nearest_to_its_limit_has_details():
    report = report_of([comparison(FP16, str(k), metrics(70.0, 0.001 * k)) for k in (1, 3, 2)], artifacts=[FP16])
    rows, _ = rows_from_report(report, {})
    assert [(row.feed, row.detailed, row.opened) for row in rows] == [
        ("3 flow", True, True),
        ("2 flow", False, False),
        ("1 flow", False, False),
    ]


def test_bars_share_one_scale_and_each_mark_is_at_its_own_limit():
    """Limits of 1e-4 and 5e-2, errors of 2e-2 and 2e-1: decades from -5 to 1."""
    report = report_of(
        [comparison(FP32, "a", metrics(40.0, 0.02)), comparison(FP16, "b", metrics(40.0, 0.02)),
         comparison(FP16, "c", metrics(40.0, 0.2)), comparison(FP16, "d", not_finite())],
        artifacts=[FP32, FP16],
    )  # fmt: skip
    a, b, c, d = sorted(rows_from_report(report, {})[0], key=lambda row: row.feed)
    assert a.mark < a.gauge == b.gauge < b.mark == c.mark < c.gauge < d.gauge == 1
    assert c.gauge - a.gauge == pytest.approx(1 / 6)


def test_missed_limits_of_a_row():
    limits = Limits(max_abs=0.05, psnr_db=58.0, ssim=0.99, p999_abs=0.01, flicker=0.001)
    measured = metrics(50.0, ssim=0.9, p999_abs=0.02, flicker=0.002)
    rows, _ = rows_from_report(report_of([comparison(FP16, "a", measured, limits=limits)], artifacts=[FP16]), {})
    assert rows[0].missed == {"psnr_db", "ssim", "p999_abs", "flicker"}


def test_matrix_has_a_line_for_each_file_and_runtime(report):
    rows, _ = rows_from_report(report, {})
    cells = cells_from_rows(report, rows)
    sizes, lines = matrix_from_cells(report, cells)
    assert sizes == sorted(sizes)
    worst = [min(ORDER[cell.group.status] for cell in line) for line in lines]
    assert (len(lines), worst) == (20, sorted(worst))
    assert {*BAD_FILES} <= {line[0].group.file for line in lines[: worst.count(0)]}
    assert [ORDER[cell.group.status] for cell in cells] == sorted(ORDER[cell.group.status] for cell in cells)
    failed = cells[0]
    assert failed.tally == f"{failed.group.failed} of 10 failed"
    assert failed.link == failed.rows[0].anchor
    assert lines[-1][0].link.startswith("group-")


def test_matrix_of_sizes_and_batches():
    """Single pairs come before batches; a size at which nothing was run has no cell."""
    small, large = (comparison(FP16, "a", metrics(), size=size) for size in ((64, 96), (128, 192)))
    batch = dataclasses.replace(small, batch=2, key="batch")
    silent = comparison(FP32, "a", None, refused="no", size=(64, 96))
    comparisons = [large, batch, small, silent, comparison(FP32, "b", not_finite(), size=(64, 96))]
    report = report_of(comparisons, artifacts=[FP16, FP32])
    assert len(report.groups) == len(groups_of(comparisons))
    cells = cells_from_rows(report, rows_from_report(report, {})[0])
    sizes, (failed, passed) = matrix_from_cells(report, cells)
    assert sizes == [(1, (64, 96)), (1, (128, 192)), (2, (64, 96))]
    assert [cell is None for cell in (*failed, *passed)] == [False, True, True, False, False, False]
    assert (failed[0].silent, failed[0].tally) == (1, "2 of 2 failed")


def test_allowed_failures_are_counted():
    report = long_report(files=4, feeds=6, allow=True)
    cells = cells_from_rows(report, rows_from_report(report, {})[0])
    assert {cell.tally for cell in cells if cell.group.failed} == {"2 of 6 failed, allowed"}
