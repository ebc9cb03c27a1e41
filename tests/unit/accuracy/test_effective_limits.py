"""Margins are errors in units of what a limit allows; above 1 a limit is missed."""

import dataclasses
import math

import numpy as np
import pytest

from refine_export.accuracy.effective_limits import limits_on, margins
from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import Rounding, compare

PICTURE = np.full((1, 3, 32, 32), 0.5, np.float32)
LIMITS = Limits(max_abs=0.005, psnr_db=46.0206, p999_abs=0.004, ssim=0.9)


def ratios(metrics, limits=LIMITS):
    return {margin.limit: margin.ratio for margin in margins(metrics, limits)}


def test_margins_are_errors_in_units_of_what_is_allowed():
    """By amplitude for PSNR, by the distance from 1 for SSIM; infinite for NaN."""
    metrics = compare(PICTURE, PICTURE + np.float32(0.01), "image", with_ssim=True)
    found = ratios(metrics)
    assert found.keys() == {"max_abs", "psnr_db", "p999_abs", "ssim"}
    assert (found["max_abs"], found["psnr_db"]) == pytest.approx((2, 2), rel=1e-4)
    assert found["p999_abs"] == pytest.approx(2.5, rel=1e-4)
    assert found["ssim"] == pytest.approx((1 - metrics.ssim) / 0.1, rel=1e-6)
    same = compare(PICTURE, PICTURE, "image", with_ssim=True)
    assert (
        ratios(same) == ratios(same, dataclasses.replace(LIMITS, ssim=1.0)) == {"max_abs": 0, "p999_abs": 0, "ssim": 0}
    )
    assert ratios(metrics, dataclasses.replace(LIMITS, ssim=1.0))["ssim"] == math.inf
    assert ratios(compare(PICTURE, PICTURE * np.float32(np.nan), "image")) == {"finite": math.inf}


@pytest.mark.parametrize(
    ("limit", "value", "ratio"),
    [
        ({"p999_abs": 1e-6}, 2e-6, 2),
        ({"ssim": 0.99}, 0.98, 2),
        ({"flicker": 1e-7}, 2e-7, 2),
        ({"snr_db": 50.0}, 45.0, 10 ** (5 / 20)),
    ],
)
def test_each_limit_that_is_missed_is_told_apart(limit, value, ratio):
    [name] = limit
    metrics = dataclasses.replace(compare(PICTURE, PICTURE + np.float32(1e-6), "residual"), **{name: value})
    kept = Limits(max_abs=1e-4, psnr_db=90.0)
    assert not any(margin.missed for margin in margins(metrics, kept))
    [missed] = [margin for margin in margins(metrics, dataclasses.replace(kept, **limit)) if margin.missed]
    assert (missed.limit, missed.ratio) == (name, pytest.approx(ratio, rel=1e-3))
    assert f"{limit[name]:g}" in missed.reason


def test_limits_follow_what_rounding_costs():
    """They are `times` that, the largest error four times further, and never below the absolute ones."""
    absolute = Limits(max_abs=1e-4, psnr_db=90.0, snr_db=80.0)
    followed = dataclasses.replace(absolute, times=2.0)
    much = Rounding(max_of_peak=1e-3, psnr_db=76.0, snr_db=60.0, feed="x")
    allowed = limits_on(followed, much)
    assert (allowed.max_abs, allowed.psnr_db) == (pytest.approx(8e-3), pytest.approx(69.98, abs=0.01))
    assert allowed.snr_db == pytest.approx(53.98, abs=0.01)
    little = Rounding(max_of_peak=1e-6, psnr_db=130.0, snr_db=120.0, feed="x")
    assert limits_on(followed, little) == followed
    assert limits_on(absolute, much) == absolute
    assert limits_on(followed, None) == followed
    assert limits_on(followed, Rounding(max_of_peak=1.0, psnr_db=0.0, feed="x")).max_abs < 1
    metrics = dataclasses.replace(compare(PICTURE, PICTURE + np.float32(1e-3), "image"), rounding=much)
    assert [margin.missed for margin in margins(metrics, followed)] == [False, True]  # 60 dB everywhere
