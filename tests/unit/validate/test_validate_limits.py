"""Limits and measures, and what follows from them: reasons, the status of a group and of all, refusals."""

import dataclasses
import re

import numpy as np
import pytest

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.accuracy.metrics import compare, signal_to_noise
from refine_export.signature import SIGNATURES
from refine_export.validate.comparison import group_status, overall
from refine_export.validate.comparison import judged as judged_output
from refine_export.validate.validate_options import ValidateOptions
from tests.support.candidates import FRAME


def test_each_graph_and_precision_has_its_limits():
    """Those of 16 bits are wider, whatever the graph."""
    for graph in SIGNATURES:
        fp32, fp16, bf16 = (LimitsOptions().of(graph, precision) for precision in ("fp32", "fp16", "bf16"))
        assert fp32.max_abs < fp16.max_abs <= bf16.max_abs
        assert fp32.psnr_db > fp16.psnr_db >= bf16.psnr_db


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"p999_abs": 1e-6}, r"99.9th percentile of the error 1.\d+e-06 of the peak, above 1e-06"),
        ({"ssim": 1.0}, "SSIM 0.999999, below 1"),
        ({"flicker": 1e-7}, "flicker 2e-07 of the peak, above 1e-07"),
        ({"snr_db": 50.0}, "signal to noise on the probe 45.00 dB, below 50"),
    ],
)
def test_each_limit_that_is_missed_is_a_reason(limits, reason):
    metrics = dataclasses.replace(
        compare(FRAME, FRAME + np.float32(1e-6), "residual"), ssim=0.999999, flicker=2e-7, snr_db=45.0
    )
    kept = Limits(max_abs=1e-4, psnr_db=90.0)
    assert judged_output("residual", metrics, kept).status == "passed"
    verdict = judged_output("residual", metrics, dataclasses.replace(kept, **limits))
    assert verdict.status == "failed"
    assert re.search(reason, verdict.reasons[0])
    assert len(verdict.reasons) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_abs": 1.0}, "max_abs is 1.0"),
        ({"psnr_db": 0.0}, "psnr_db is 0.0"),
        ({"psnr_db": float("nan")}, "psnr_db is nan"),
        ({"ssim": 1.1}, "ssim is 1.1"),
        ({"flicker": 0.0}, "flicker is 0.0"),
        ({"snr_db": 0.0}, "snr_db is 0.0"),
        ({"p999_abs": 0.1}, "it would limit nothing"),
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Limits(**{"max_abs": 0.05, "psnr_db": 58.0} | wrong)


@pytest.mark.parametrize(
    ("statuses", "options", "status"),
    [
        ("PPPP", {}, "passed"),
        ("PPPF", {}, "failed"),
        ("PPPF", {"share": 0.75}, "passed"),
        ("PPFF", {"share": 0.75}, "failed"),
        ("PPPF", {"share": 0.5, "may_fail": 0}, "failed"),
        ("PPFF", {"share": 0.5, "may_fail": 2}, "passed"),
        ("PFFF", {"share": 0.1, "may_fail": 2}, "failed"),
        ("PPP-", {"share": 0.1}, "not compared"),
        ("PF--", {"share": 0.5}, "not compared"),
        ("FF--", {"share": 0.5}, "failed"),
        ("----", {"share": 0.1}, "not compared"),
        ("", {}, "not compared"),
        ("FFFF", {"share": 0.0001}, "failed"),
    ],
)
def test_a_group_passes_by_share_and_number(statuses, options, status):
    """P passed, F failed, - not compared."""
    words = {"P": "passed", "F": "failed", "-": "not compared"}
    assert group_status([words[letter] for letter in statuses], ValidateOptions(**options)) == status


def test_signal_to_noise_counts_no_rounding_of_the_output():
    """0.02 of variation around 0.5, wrong by 1e-5: 60 dB as FP32, and as FP16, whose steps are 50 times larger."""
    generator = np.random.default_rng(0)
    reference = (0.5 + 0.01 * generator.standard_normal((1, 3, 256, 256))).astype(np.float32)
    candidate = reference + np.float32(1e-5) * generator.standard_normal(reference.shape).astype(np.float32)
    assert signal_to_noise(reference, candidate) == pytest.approx(60, abs=0.1)
    assert signal_to_noise(reference, candidate * 2 - reference) == pytest.approx(54, abs=0.1)
    rough = reference + 10 * (candidate - reference)
    assert signal_to_noise(reference, rough.astype(np.float16)) == pytest.approx(40, abs=1)
    assert signal_to_noise(FRAME, FRAME + 1) is None
    assert signal_to_noise(reference, reference) is None


def test_a_histogram_counts_every_value_once():
    error = np.array([0.0, 5e-8, 1e-3, 2e-3, 0.5, 0.5], np.float32).reshape(1, 1, 1, 6)
    zero = np.zeros_like(error)
    counts = compare(zero, error, "residual").histogram
    assert counts == (1, 1, 0, 0, 0, 1, 1, 0, 2)
    assert sum(counts) == error.size


def test_overall():
    assert overall(["passed", "passed"]) == "passed"
    assert overall(["passed", "not compared"]) == "not compared"
    assert overall(["passed", "not compared", "failed"]) == "failed"
    assert overall([]) == "not compared"


def test_options_refuse():
    for wrong, message in (
        ({"flows": ()}, "flows is empty"),
        ({"share": 0.0}, "share is 0.0"),
        ({"may_fail": -1}, "may_fail is -1"),
        ({"timesteps": (1.0,)}, r"timesteps has 1.0"),
        ({"flows": ("large", "large")}, "flows has the same value twice"),
        ({"sizes": ("64x95",)}, "sizes: size is '64x95'; expected multiples of 32, such as 64x96"),
    ):
        with pytest.raises(ValueError, match=message):
            ValidateOptions(**wrong)
