"""The key figures are the measurements nearest to their limits, and the sentences follow from the verdicts."""

import pytest

from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import Rounding
from refine_export.report.formatting import margin_text
from refine_export.report.summary import key_figures
from tests.support.gate_reports import artifact, comparison, metrics, not_finite, report_of

FP16, FP32 = artifact("a.fp16.onnx"), artifact("a.onnx", "fp32")


def figures(*rows):
    return key_figures(report_of(rows, artifacts=[FP16, FP32]))


def test_key_figures_are_nearest_to_their_own_limits():
    """2e-05 of 1e-04 is nearer to its limit than 0.004 of 0.05, 92 dB nearer to 90 than 70 to 58."""
    error, psnr = figures(
        comparison(FP16, "network", metrics(70.0, 0.004)), comparison(FP32, "network", metrics(92.0, 2e-5))
    )
    assert (error.value.split()[0], error.file) == ("2.0e-05", "a.onnx")
    assert (psnr.value, psnr.file) == ("92.0 dB", "a.onnx")
    error, psnr = figures(
        comparison(FP16, "network", metrics(57.0, 0.3)), comparison(FP32, "network", metrics(92.0, 2e-5))
    )
    assert (error.value.split()[0], error.file) == ("3.0e-01", "a.fp16.onnx")
    assert (psnr.value, psnr.file) == ("57.0 dB", "a.fp16.onnx")


def test_the_lowest_psnr_is_named_beside_the_one_nearest_to_its_limit():
    """69 dB may be further above what rounding allows than 91 dB are above 90."""
    limits = Limits(max_abs=1e-3, psnr_db=90.0, times=2.0)
    rounding = Rounding(max_of_peak=4e-3, psnr_db=70.0, feed="x")
    _, psnr = figures(
        comparison(FP16, "network", metrics(69.0, 4e-3, rounding=rounding), limits=limits),
        comparison(FP32, "network", metrics(90.5, 2e-5, rounding=None)),
    )
    assert (psnr.value, psnr.file) == ("90.5 dB", "a.onnx")
    assert all(text in psnr.note for text in ("69.0 dB", "a.fp16.onnx", "5.0 dB", "63.98 dB", "2 times"))


@pytest.mark.parametrize(("cost", "follows"), [(1e-5, False), (1e-3, True)])
def test_a_limit_follows_rounding_only_where_that_allows_more_and_the_largest_error_has_its_own_factor(cost, follows):
    limits = Limits(max_abs=1e-3, psnr_db=90.0, times=2.0)
    rounding = Rounding(max_of_peak=cost, psnr_db=80.0 if follows else 120.0, feed="x")
    error, psnr = figures(comparison(FP16, "network", metrics(91.0, 5e-4, rounding=rounding), limits=limits))
    assert (error.note.endswith("8.0e-03 (8 times what rounding costs there)")) == follows
    assert (psnr.note.endswith("73.98 dB (2 times what rounding costs there)")) == follows
    assert ("rounding" in error.note, "rounding" in psnr.note) == (follows, follows)


def test_key_figures_without_numbers():
    error, psnr = figures(comparison(FP32, "network", metrics(None)))
    assert (error.value.split()[0], psnr.value, psnr.file) == ("0", "identical", "")
    error, psnr = figures(comparison(FP32, "network", not_finite()), comparison(FP16, "network", metrics()))
    assert (error.value, error.file, psnr.file) == ("not finite", "a.onnx", "a.fp16.onnx")
    error, psnr = figures(comparison(FP32, "network", None, missing="no GPU"))
    assert (error.value, psnr.value) == ("not measured", "not measured")


def test_margins_are_rounded_towards_the_limit():
    texts = {1e-4: "at", 0.99e-4: "just below", 1.01e-4: "just above", 4.9e-5: "2.0 times below"}
    texts |= {0.1: "1,000 times above"}
    assert {value: margin_text(value, 1e-4) for value in texts} == {
        value: f"{text} the limit of 1.0e-04" for value, text in texts.items()
    }
    assert margin_text(0.0, 1e-4) == "no error, limit 1.0e-04"
    assert margin_text(float("inf"), 1e-4) == "not finite, limit 1.0e-04"
