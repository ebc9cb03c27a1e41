"""Comparisons of one file in one runtime at one size and batch are judged together."""

import dataclasses

from refine_export.report.grouping import groups_of_report, judge_groups
from tests.support.gate_reports import FEEDS, STRICT, artifact, comparison, metrics, not_finite, report_of


def rows(*measured, **more):
    return [comparison(artifact(), feed, one, **more) for feed, one in zip(FEEDS, measured, strict=False)]


def test_groups_differ_in_file_runtime_size_and_batch():
    one = rows(metrics())[0]
    others = [
        dataclasses.replace(one, file="b.onnx"),
        dataclasses.replace(one, verdict=dataclasses.replace(one.verdict, runtime="tensorrt")),
        dataclasses.replace(one, size=(64, 96)),
        dataclasses.replace(one, batch=2),
    ]
    groups = judge_groups([one, *others, one], STRICT)
    assert [len(group.comparisons) for group in groups] == [2, 1, 1, 1, 1]
    assert str(groups[4].group.key) == "refine.fp16.onnx in half at 2x64x64"
    report = report_of([one, *others])
    assert groups_of_report(report) == judge_groups(report.comparisons, STRICT)


def test_the_worst_outputs_of_a_group():
    (group,) = judge_groups(rows(metrics(70.0, 0.004), metrics(None), metrics(66.0, 0.001)), STRICT)
    assert (group.lowest.metrics.psnr_db, group.largest_error) == (66.0, 0.004)
    (group,) = judge_groups(rows(metrics(70.0), not_finite()), STRICT)
    assert (group.lowest.metrics.nan_count, group.largest_error) == (7, float("inf"))
    (group,) = judge_groups(rows(None, missing="no CUDA"), STRICT)
    assert (group.lowest, group.largest_error, group.group.missing) == (None, None, 1)
