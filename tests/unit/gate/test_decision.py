"""The decision on a report: limits in force, groups, required runtimes; not compared never passes."""

import dataclasses
import math

import pytest

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.gate.decision import decide
from refine_export.report.report_data import Shortfall
from refine_export.validate.validate_options import ValidateOptions
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, no_tensorrt, not_finite, report_of

FILE = artifact()


def with_first(measured, **more):
    rest = [comparison(FILE, feed, metrics()) for feed in FEEDS[1:]]
    return [comparison(FILE, FEEDS[0], measured, **more), *rest]


def changed_first(report, outputs=None, **fields):
    """The report with another verdict of its first comparison."""
    first, *rest = report.comparisons
    fields |= {} if outputs is None else {"outputs": outputs}
    first = dataclasses.replace(first, verdict=dataclasses.replace(first.verdict, **fields))
    return dataclasses.replace(report, comparisons=(first, *rest))


def test_decide_passes():
    decision = decide(report_of())
    assert (decision.status, decision.problems) == ("passed", ())
    (group,) = decision.groups
    assert (group.lowest.metrics.psnr_db, group.largest_error) == (70.0, 0.004)


@pytest.mark.parametrize(
    ("measured", "more", "status", "rule", "counts"),
    [
        (metrics(50.0), {}, "failed", "accuracy", (3, 1, 0)),
        (not_finite(), {}, "failed", "accuracy", (3, 1, 0)),
        (None, {"refused": "it has an unknown operator"}, "failed", "accuracy", (3, 1, 0)),
        (None, {"missing": "no CUDA here"}, "not compared", "not-compared", (3, 0, 1)),
    ],
)
def test_one_feed_that_did_not_pass_is_a_problem_of_its_group(measured, more, status, rule, counts):
    decision = decide(report_of(with_first(measured, **more)))
    (problem,) = decision.problems
    assert (decision.status, problem.rule, problem.file) == (status, rule, "refine.fp16.onnx")
    assert problem.what == "refine.fp16.onnx in half at 1x64x64"
    for text in more.values():
        assert text in problem.reason
    group = decision.groups[0].group
    assert (group.passed, group.failed, group.missing) == counts


def test_other_limits_judge_the_numbers_again():
    strict = ValidateOptions(limits=LimitsOptions(refine_fp16=Limits(max_abs=0.001, psnr_db=58.0)))
    assert decide(report_of(), options=strict).status == "failed"
    loose = ValidateOptions(limits=LimitsOptions(refine_fp16=Limits(max_abs=0.1, psnr_db=40.0)))
    assert decide(report_of(with_first(metrics(50.0))), options=loose).status == "passed"


def test_limits_that_follow_rounding_need_a_report_that_measured_it():
    absolute = [comparison(FILE, feed, metrics(rounding=None)) for feed in FEEDS]
    assert decide(report_of(absolute), options=ValidateOptions()).status == "not compared"
    close = [comparison(FILE, feed, metrics(105.0, 1e-5, rounding=None)) for feed in FEEDS]
    assert decide(report_of(close), options=ValidateOptions()).status == "passed"
    followed = Limits(max_abs=1e-3, psnr_db=90.0, times=2.0)
    missed = [comparison(FILE, feed, metrics(rounding=None), limits=followed) for feed in FEEDS]
    assert decide(report_of(missed), options=ValidateOptions()).status == "failed"
    assert decide(report_of([*absolute, comparison(FILE, "zero", not_finite())]), options=ValidateOptions()).status == (
        "failed"
    )


def test_a_limit_of_ssim_needs_a_report_with_ssim():
    options = ValidateOptions(limits=LimitsOptions(refine_fp16=Limits(max_abs=0.05, psnr_db=58.0, ssim=0.9)))
    with_ssim = report_of([comparison(FILE, feed, metrics(ssim=0.99)) for feed in FEEDS])
    assert decide(with_ssim, options=options).status == "passed"
    assert decide(report_of(), options=options).status == "not compared"


def test_a_verdict_in_the_report_is_not_trusted():
    report = report_of(with_first(metrics(50.0)))
    lying = dataclasses.replace(
        changed_first(report, status="passed", reasons=()),
        status="passed",
        groups=tuple(dataclasses.replace(group, status="passed", passed=4, failed=0) for group in report.groups),
    )
    assert decide(lying).status == "failed"


def test_a_share_of_the_feeds_may_fail():
    """Without options the share that the report was made with counts."""
    allowed = ValidateOptions(share=0.75)
    report = report_of(with_first(metrics(50.0)), options=allowed)
    decision = decide(report)
    assert (report.status, decision.status, decision.groups[0].group.failed) == ("passed", "passed", 1)
    assert decide(report, options=allowed).status == "passed"
    assert decide(report, options=ValidateOptions(share=0.8)).status == "failed"
    assert decide(report, options=ValidateOptions(share=0.5, may_fail=0)).status == "failed"
    assert decide(dataclasses.replace(report, share=0.5, may_fail=0)).status == "failed"


def test_not_compared_never_passes():
    report = report_of(with_first(None, missing="no CUDA here"))
    assert decide(report, options=ValidateOptions(share=0.01)).status == "not compared"
    decision = decide(report_of([]))
    assert (decision.status, decision.problems[0].what) == ("not compared", "the report")
    decision = decide(report_of([*report_of().comparisons], artifacts=[FILE, artifact("other.onnx")]))
    assert (decision.status, decision.problems[0].what) == ("not compared", "other.onnx")


def test_a_failure_is_worse_than_what_is_missing():
    missing = comparison(FILE, "network", None, runtime="tensorrt", missing="no")
    assert decide(report_of([*with_first(metrics(50.0)), missing])).status == "failed"


def test_required_runtimes():
    report = report_of()
    assert decide(report, require=("torch", "ort")).status == "passed"
    decision = decide(report, require=("trt", "trt"))
    (problem,) = decision.problems
    assert (decision.status, problem.what, problem.rule) == ("not compared", "TensorRT", "required-runtime")
    named = decide(report_of(shortfalls=[no_tensorrt(counts=False)]), require=("trt",))
    assert named.problems[0].reason.endswith("there is no GPU")
    engine = comparison(FILE, "network", metrics(), runtime="tensorrt")
    assert decide(report_of([*with_first(metrics()), engine]), require=("trt",)).status == "passed"
    assert decide(report_of([engine]), require=("ort",)).status == "not compared"
    nothing = report_of([comparison(FILE, "network", None, runtime="tensorrt", missing="no GPU")])
    problems = decide(nothing, require=("torch", "trt")).problems
    assert [problem.what for problem in problems if problem.rule == "required-runtime"] == ["torch", "TensorRT"]


def test_shortfalls_count_where_they_are_required():
    assert decide(report_of(shortfalls=[no_tensorrt(counts=False)])).status == "passed"
    decision = decide(report_of(shortfalls=[no_tensorrt(counts=True)]))
    assert (decision.status, decision.problems[0].rule) == ("not compared", "shortfall")


@pytest.mark.parametrize(
    "change",
    [
        {"identical": True},
        {"peak": math.inf},
        {"max_abs": -1.0},
        {"p999_abs": None},
        {"psnr_db": 120.0},
        {"psnr_db": 46.0},
        {"mean_abs": 0.05},
    ],
)
def test_numbers_that_contradict_themselves_fail(change):
    report = report_of()
    (output,) = report.comparisons[0].verdict.outputs
    spoilt = dataclasses.replace(output, metrics=dataclasses.replace(output.metrics, **change))
    decision = decide(changed_first(report, outputs=(spoilt,)))
    assert decision.status == "failed"
    assert decision.groups[0].comparisons[0].verdict.outputs == ()


def test_an_output_that_was_cut_out_fails():
    report = report_of()
    renamed = dataclasses.replace(report.comparisons[0].verdict.outputs[0], output="other")
    assert decide(changed_first(report, outputs=(renamed,))).status == "failed"
    assert decide(changed_first(report, outputs=(), status="passed")).status == "not compared"


def test_an_engine_that_could_not_be_built_counts_where_its_library_is_required():
    unbuilt = Shortfall(what="unet.rtx", status="failed", reason="Myelin", counts=False, runtime="rtx")
    report = report_of(shortfalls=[unbuilt])
    assert decide(report).status == "passed"
    assert decide(report, require=("rtx",)).status == "failed"
    assert decide(report_of(), require=("rtx",)).status == "not compared"
