"""The report's sentences and the console say what the verdicts say."""

import dataclasses
import re

import pytest

from refine_export.accuracy.limits import Limits
from refine_export.cli.render.console import print_report
from refine_export.report.data import Shortfall
from refine_export.report.html import html_from_report, margin, sentence_from_report
from refine_export.validate.comparison import Compared, verdict_from_metrics
from refine_export.validate.validate_options import ValidateOptions
from tests.support.compared_pages import FRAMES, LOW, Page, compared_fixture, page_of, report_of  # noqa: F401 (fixtures)
from tests.support.gate_reports import groups_of


def test_not_compared_is_never_counted_as_passed(compared: dict[str, Compared]) -> None:
    report = report_of(compared["near"], compared["none"])
    assert report.status == "not compared"
    assert sentence_from_report(report).startswith("1 of 2 comparisons could not be made and the other 1 passed: ")
    text = Page(page_of(compared["near"], compared["none"])).text
    assert re.search("NOT COMPARED .* Comparisons passed 1 of 2 0 failed, 1 not compared .* no GPU", text)
    assert sentence_from_report(report_of(compared["none"])) == "1 of 1 comparison could not be made."
    assert sentence_from_report(report_of()) == "Nothing was compared."
    assert "NOT COMPARED" in Page(page_of()).text


def test_sentences_are_true(compared: dict[str, Compared]) -> None:
    """The largest error of `near` is 2e-05, a fifth of the limit; that of `far` 300 times the limit."""
    near = sentence_from_report(report_of(compared["near"], compared["same"]))
    assert re.fullmatch(r"2 of 2 .* passed: the largest error is 2.0e-05 of the peak, (4.9|5.0) times below .*", near)
    same = sentence_from_report(report_of(compared["same"]))
    assert same == "1 of 1 comparison passed: every output equals the reference's, value for value."
    far = sentence_from_report(report_of(*(compared[name] for name in ("far", "nan", "short", "same"))))
    assert far.startswith("3 of 4 comparisons failed and 1 passed: 1 candidate gave no output that could be compared; ")
    assert "1 output has NaN or infinite values; of the others, the largest error is 3.0e-02 of the peak, " in far
    assert re.search(r"(290|300) times above the limit; the lowest PSNR is [\d.]+ dB, [\d.]+ dB below its limit.$", far)


@pytest.mark.parametrize("counts", [False, True])
def test_what_is_missing_beside_the_comparisons_is_said(compared: dict[str, Compared], counts: bool) -> None:
    """It changes the verdict only where it counts."""
    missing = Shortfall(what="TensorRT", status="not compared", reason="<b>none</b>", counts=counts)
    report = report_of(compared["near"], shortfalls=(missing,))
    page = page_of(compared["near"], shortfalls=(missing,))
    assert report.status == ("not compared" if counts else "passed")
    assert ("The run as a whole is not compared because of TensorRT" in sentence_from_report(report)) is counts
    assert "TensorRT: not compared, &lt;b&gt;none&lt;/b&gt;" in page
    assert ("(not required)" in page) is not counts


def test_the_error_nearest_its_own_limit_is_named(compared: dict[str, Compared]) -> None:
    """2e-05 of 4e-05 is nearer to its limit than 0.03 of 0.1, and that nearer than 2e-05 of 1e-04."""
    near, far, lost = compared["near"], compared["fp16 far"], compared["fp16 lost"]
    sentence = sentence_from_report(report_of(near, far))
    start = "2 of 2 comparisons passed: the error nearest its limit is "
    assert sentence == f"{start}3.0e-02 of the peak, in {LOW}, 3.3 times below the limit."
    tight = dataclasses.replace(
        near, verdict=dataclasses.replace(near.verdict, limits=Limits(max_abs=4e-5, psnr_db=90.0))
    )
    sentence = sentence_from_report(report_of(tight, far))
    assert re.fullmatch(rf"{start}2.0e-05 of the peak, in a.onnx, (1.9|2.0) times below the limit.", sentence)
    sentence = sentence_from_report(report_of(compared["far"], lost))
    assert re.search(r"is 3.0e-02 of the peak, in a.onnx, (290|300) times above the limit; the PSNR", sentence)
    assert re.search(r"the PSNR furthest below its limit is [\d.]+ dB, in a.onnx, [\d.]+ dB below", sentence)
    text = Page(page_of(near, far)).text.partition("Frames")[0]
    assert f"Error nearest its limit, of the peak 3.0e-02 3.3 times below the limit of 1.0e-01 {LOW}" in text
    assert re.search(rf"PSNR nearest its limit [\d.]+ dB [\d.]+ dB above the limit of 50.0 dB {LOW}", text)
    text = Page(page_of(near)).text.partition("Frames")[0]
    assert re.search("Largest error, of the peak 2.0e-05 [\\d.]+ times below the limit of 1.0e-04 Lowest PSNR", text)


def test_feeds_that_the_recipe_allows_to_fail_are_said(compared: dict[str, Compared]) -> None:
    """The group passes, and every place says that a feed failed all the same."""
    report = report_of(compared["near"], compared["far"])
    verdicts = [dataclasses.replace(one.verdict, runtime="cpu") for one in report.comparisons]
    comparisons = tuple(
        dataclasses.replace(one, verdict=verdict) for one, verdict in zip(report.comparisons, verdicts, strict=True)
    )
    groups = tuple(groups_of(comparisons, ValidateOptions(share=0.5)))
    assert [group.status for group in groups] == ["passed"]
    allowed = dataclasses.replace(report, status="passed", comparisons=comparisons, groups=groups)
    assert "1 of 2 comparisons failed and 1 passed" in sentence_from_report(allowed)
    assert "The recipe allows feeds to fail, and no file has more" in sentence_from_report(allowed)
    assert "The recipe allows" not in sentence_from_report(report)
    page = Page(html_from_report(allowed, {}, FRAMES))
    assert page.tables["matrix"][1][2].endswith("1 of 2 failed, allowed")
    assert page.tables["summary"][1][0].endswith("1 of 2 failed, allowed")
    assert [cells[0] for cells in page.tables["summary"][2:]] == ["failed", "passed"]


def test_a_failure_of_another_limit_is_said(compared: dict[str, Compared]) -> None:
    """SSIM fails what the largest error and the PSNR pass: the sentence and the title say so."""
    one = compared["near"]
    limits = Limits(max_abs=1e-4, psnr_db=90.0, ssim=1.0)
    metrics = dataclasses.replace(one.verdict.outputs[0].metrics, ssim=0.5)
    output = verdict_from_metrics("frame", metrics, limits)
    verdict = dataclasses.replace(
        one.verdict, limits=limits, outputs=(output,), status="failed", reasons=output.reasons
    )
    tight = dataclasses.replace(one, verdict=verdict)
    said = "1 output failed by another limit alone, such as: SSIM 0.500000, below 1"
    assert said in sentence_from_report(report_of(tight))
    page = page_of(tight)
    assert re.search('class="key-number">SSIM 0.500000, below 1<', page)
    assert re.findall('data-label="(.*?)" class="number broken"', page) == ["SSIM"]


def test_console_says_limits_and_files(compared: dict[str, Compared], capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report_of(compared["near"], compared["fp16 far"]).as_json(), None)
    out = capsys.readouterr().out
    head, first, second = out.splitlines()[:3]
    assert re.search("^feed +file +runtime +output +PSNR dB +largest error +verdict", head)
    assert " a.onnx " in first
    assert f" {LOW} " in second
    limits = "(interpolator_fp32: 0.0001 of the peak and 90 dB; interpolator_fp16: 0.1 of the peak and 50 dB)"
    assert out.endswith(f"passed: 2 of 2 comparisons with torch, float32, cpu are within their limits {limits}\n")
    print_report(report_of(compared["near"]).as_json(), None)
    out = capsys.readouterr().out
    assert "file" not in out.splitlines()[0]
    assert "within their limits (interpolator_fp32: 0.0001 of the peak and 90 dB)" in out


def test_margin_rounds_towards_the_limit() -> None:
    words = {0.0: "no error", 1e-4: "at the limit", 0.99e-4: "just below the limit", 1.01e-4: "just above the limit"}
    words |= {4.9e-5: "2.0 times below the limit", 0.1: "1,000 times above the limit", float("inf"): "not finite"}
    assert {value: margin(value, 1e-4) for value in words} == words
