"""The gate's decision on a report: limits in force, groups, required runtimes; not compared is never green."""

import dataclasses
import json
import math

import pytest

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.errors import RequestError
from refine_export.gate.decision import decide
from refine_export.report.data import json_from_report
from refine_export.report.parsing import report_from_content, report_from_file
from refine_export.validate.validate_options import ValidateOptions
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, no_tensorrt, not_finite, report_of

FILE = artifact()


def passing(feeds=FEEDS, **more):
    return [comparison(FILE, feed, metrics(), **more) for feed in feeds]


def with_first(measured, **more):
    return [comparison(FILE, FEEDS[0], measured, **more), *passing(FEEDS[1:])]


def test_what_passes_passes():
    decision = decide(report_of())
    assert (decision.status, decision.problems) == ("passed", ())
    assert decision.groups[0].lowest_psnr_db == 70.0
    assert decision.groups[0].largest_error == 0.004


def test_one_feed_that_fails_is_a_failure_with_its_reason():
    decision = decide(report_of(with_first(metrics(50.0))))
    (problem,) = decision.problems
    assert (decision.status, problem.rule, problem.file) == ("failed", "accuracy", "refine.fp16.onnx")
    assert problem.reason == "1 of 4 feeds failed; refine 64x64, network flow: residual: PSNR 50.00 dB, below 58"


def test_not_finite_fails_and_survives_the_file(tmp_path):
    report = report_of(with_first(not_finite()))
    path = tmp_path / "report.json"
    path.write_text(json_from_report(report))
    loaded = report_from_file(path)
    assert math.isnan(loaded.comparisons[0].verdict.outputs[0].metrics.worst.candidate)
    decision = decide(loaded)
    assert decision.status == "failed"
    assert "7 NaN" in decision.problems[0].reason


def test_other_limits_judge_the_numbers_again():
    strict = ValidateOptions(limits=LimitsOptions(refine_fp16=Limits(max_abs=0.001, psnr_db=58.0)))
    decision = decide(report_of(), options=strict)
    assert decision.status == "failed"
    assert "largest error 0.004 of the peak, above 0.001" in decision.problems[0].reason
    loose = ValidateOptions(limits=LimitsOptions(refine_fp16=Limits(max_abs=0.1, psnr_db=40.0)))
    assert decide(report_of(with_first(metrics(50.0))), options=loose).status == "passed"


@pytest.mark.parametrize(
    ("limit", "more", "said"),
    [
        ({"p999_abs": 1e-4}, {}, "99.9th percentile"),
        ({"ssim": 0.99999}, {}, "SSIM"),
        ({"flicker": 1e-4}, {"flicker": 0.002}, "flicker"),
    ],
)
def test_every_limit_is_judged(limit, more, said):
    report = report_of([comparison(FILE, feed, metrics(**more)) for feed in FEEDS])
    options = ValidateOptions(limits=LimitsOptions(refine_fp16=Limits(max_abs=0.05, psnr_db=58.0, **limit)))
    decision = decide(report, options=options)
    assert decide(report).status == "passed"
    assert decision.status == "failed"
    assert said in decision.problems[0].reason


def test_a_limit_of_ssim_asks_for_a_report_with_ssim():
    options = ValidateOptions(limits=LimitsOptions(refine_fp16=Limits(max_abs=0.05, psnr_db=58.0, ssim=0.9)))
    assert decide(report_of(), options=options).status == "passed"
    without = report_of([comparison(FILE, feed, metrics(ssim=None)) for feed in FEEDS])
    assert (decide(without).status, decide(without, options=options).status) == ("passed", "not compared")


def test_a_verdict_in_the_report_is_not_believed():
    """The numbers count: `passed` written over a failure changes nothing."""
    report = report_of(with_first(metrics(50.0)))
    lying = dataclasses.replace(
        report,
        status="passed",
        comparisons=tuple(
            dataclasses.replace(one, verdict=dataclasses.replace(one.verdict, status="passed", reasons=()))
            for one in report.comparisons
        ),
        groups=tuple(dataclasses.replace(group, status="passed", passed=4, failed=0) for group in report.groups),
    )
    assert decide(lying).status == "failed"


def test_a_share_of_the_feeds_may_fail():
    allowed = ValidateOptions(share=0.75)
    report = report_of(with_first(metrics(50.0)), options=allowed)
    assert report.status == "passed"
    decision = decide(report)  # as the report's own run allowed
    assert (decision.status, decision.groups[0].reason) == ("passed", "1 of 4 feeds failed, which is allowed")
    assert decide(report, options=allowed).status == "passed"
    assert decide(report, options=ValidateOptions(share=0.8)).status == "failed"
    assert decide(report, options=ValidateOptions(share=0.5, may_fail=0)).status == "failed"


def test_a_group_that_says_passed_of_other_counts_is_judged_strictly():
    report = report_of(with_first(metrics(50.0)), options=ValidateOptions(share=0.75))
    group = dataclasses.replace(report.groups[0], passed=3, failed=0)
    assert decide(dataclasses.replace(report, groups=(group,))).status == "failed"
    assert decide(dataclasses.replace(report, groups=())).status == "failed"


def test_not_compared_is_never_green():
    decision = decide(report_of(with_first(None, missing="no CUDA here")))
    assert decision.status == "not compared"
    assert decision.problems[0].reason == "1 of 4 feeds were not compared; no CUDA here"
    everything_may_fail = ValidateOptions(share=0.01)
    assert decide(decision.report, options=everything_may_fail).status == "not compared"
    assert decide(report_of([])).status == "not compared"
    assert decide(report_of([])).problems[0].what == "the report"


def test_a_failure_is_worse_than_what_is_missing():
    report = report_of(
        [*with_first(metrics(50.0)), comparison(FILE, "network", None, runtime="tensorrt", missing="no")]
    )
    assert decide(report).status == "failed"


def test_a_file_that_a_runtime_refuses_fails():
    decision = decide(report_of(with_first(None, refused="it has an unknown operator")))
    assert decision.status == "failed"
    assert "unknown operator" in decision.problems[0].reason


def test_required_runtimes():
    report = report_of()
    assert decide(report, require=("torch", "ort")).status == "passed"
    decision = decide(report, require=("trt", "trt"))
    (problem,) = decision.problems
    assert (decision.status, problem.what, problem.rule) == ("not compared", "TensorRT", "required-runtime")
    assert problem.reason == "it is required (--require trt): nothing was run by it"
    named = decide(report_of(shortfalls=[no_tensorrt(counts=False)]), require=("trt",))
    assert named.problems[0].reason.endswith("there is no GPU")
    engine = comparison(FILE, "network", metrics(), runtime="tensorrt")
    assert decide(report_of([*passing(), engine]), require=("trt",)).status == "passed"
    assert decide(report_of([engine]), require=("ort",)).status == "not compared"
    nothing = report_of([comparison(FILE, "network", None, runtime="tensorrt", missing="no GPU")])
    problems = decide(nothing, require=("torch", "trt")).problems
    assert [problem.what for problem in problems if problem.rule == "required-runtime"] == ["torch", "TensorRT"]


def test_shortfalls_count_where_they_say_so():
    assert decide(report_of(shortfalls=[no_tensorrt(counts=False)])).status == "passed"
    decision = decide(report_of(shortfalls=[no_tensorrt(counts=True)]))
    assert (decision.status, decision.problems[0].rule) == ("not compared", "shortfall")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"psnr_db": None}, "not identical"),
        ({"identical": True}, "identical, with a largest error of 0.004"),
        ({"peak": 0.0}, "its peak is 0.0"),
        ({"max_abs": -1.0}, "errors are"),
        ({"p999_abs": None}, "errors are"),
        ({"psnr_db": math.inf}, "PSNR is inf"),
    ],
)
def test_numbers_that_contradict_themselves_fail(change, said):
    measured = dataclasses.replace(metrics(), **change)
    if change == {"peak": 0.0}:
        report = report_of()
        first = report.comparisons[0]
        outputs = (dataclasses.replace(first.verdict.outputs[0], metrics=measured),)
        first = dataclasses.replace(first, verdict=dataclasses.replace(first.verdict, outputs=outputs))
        report = dataclasses.replace(report, comparisons=(first, *report.comparisons[1:]))
    else:
        report = report_of(with_first(measured))
    decision = decide(report)
    assert decision.status == "failed"
    assert said in decision.problems[0].reason


def test_an_output_that_was_cut_out_fails():
    report = report_of()
    first = report.comparisons[0]
    renamed = dataclasses.replace(first.verdict.outputs[0], output="other")
    first = dataclasses.replace(first, verdict=dataclasses.replace(first.verdict, outputs=(renamed,)))
    decision = decide(dataclasses.replace(report, comparisons=(first, *report.comparisons[1:])))
    assert decision.status == "failed"
    assert "its outputs are other; expected residual" in decision.problems[0].reason
    empty = dataclasses.replace(first, verdict=dataclasses.replace(first.verdict, outputs=(), status="passed"))
    decision = decide(dataclasses.replace(report, comparisons=(empty, *report.comparisons[1:])))
    assert decision.status == "not compared"


# The file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"{'a': 1}", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"schema": 4, "seconds": NaN}', "NaN is no number of JSON"),
        (b"[]", "is no report"),
        (b"{}", "is no report"),
        (b'{"schema": true}', "is no report"),
        (b'{"schema": [4]}', "is no report"),
        (b'{"schema": 3}', "is a report of schema 3; this version reads schema 4: make the report again"),
        (b'{"schema": 4}', "status: field required"),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="report.json") as caught:
        report_from_file(path)
    assert said in str(caught.value)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(RequestError, match="does not exist; give a report.json"):
        report_from_file(tmp_path / "none.json")
    with pytest.raises(RequestError, match="is no file"):
        report_from_file(tmp_path)


def edited(change):
    content = json.loads(json_from_report(report_of()))
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["comparisons"][0]["verdict"].update(status="green"), 'comparisons.0.verdict.status is "green"'),
        (lambda c: c["comparisons"][0].update(size=[64]), "comparisons.0.size.1"),
        (lambda c: c["comparisons"][1]["verdict"]["outputs"][0]["metrics"].update(psnr_db="70"), 'psnr_db is "70"'),
        (lambda c: c["comparisons"][0]["verdict"]["limits"].update(max_abs=5), "max_abs is 5"),
        (lambda c: c["artifacts"][0].update(file="a\ud800"), "no"),
        (lambda c: c.pop("groups"), "groups: field required"),
        (lambda c: c["comparisons"].append(c["comparisons"][0]), "twice"),
        (lambda c: c["artifacts"][0].update(file="other.onnx"), "not among its artifacts"),
    ],
)
def test_what_does_not_keep_to_the_schema_is_refused(change, said):
    with pytest.raises(RequestError, match="the report") as caught:
        report_from_content(edited(change))
    assert said in str(caught.value)


def test_many_problems_are_counted():
    def spoil(content):
        for one in content["comparisons"]:
            one.update(key=1, file=2)

    with pytest.raises(RequestError, match="and 3 more"):
        report_from_content(edited(spoil))


def test_what_a_later_version_adds_is_ignored():
    report_from_content(edited(lambda content: content.update(more=1)))
