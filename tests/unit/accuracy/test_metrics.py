"""Each number is what its formula says."""

import math

import numpy as np
import pytest

from refine_export.accuracy.metrics import compare
from refine_export.errors import InternalError


@pytest.fixture
def image():
    return np.random.default_rng(0).random((1, 3, 40, 60), np.float32)


def test_identical(image):
    metrics = compare(image, image.copy(), "image")
    assert metrics.identical
    assert metrics.psnr_db is None
    assert (metrics.max_abs, metrics.mean_abs, metrics.p999_abs, metrics.max_of_peak) == (0, 0, 0, 0)
    assert metrics.ssim == pytest.approx(1)


def test_a_constant_error(image):
    """PSNR = -20 log10(e) with peak 1."""
    metrics = compare(image, image + np.float32(0.01), "image")
    assert metrics.psnr_db == pytest.approx(40, abs=1e-3)
    assert metrics.mean_abs == pytest.approx(0.01, rel=1e-4)
    assert metrics.max_abs == pytest.approx(0.01, rel=1e-4)
    assert metrics.ssim is not None
    assert 0.9 < metrics.ssim < 1
    assert np.allclose(metrics.error_by_x, 0.01, rtol=1e-4)
    assert len(metrics.error_by_x) == 60
    assert len(metrics.error_by_y) == 40


def test_one_wrong_pixel(image):
    candidate = image.copy()
    candidate[0, 2, 7, 55] += 0.5
    metrics = compare(image, candidate, "image")
    worst = metrics.worst
    assert worst is not None
    assert (worst.batch, worst.channel, worst.y, worst.x) == (0, 2, 7, 55)
    assert worst.candidate - worst.reference == pytest.approx(0.5)
    assert metrics.psnr_db == pytest.approx(10 * math.log10(image.size / 0.25), abs=1e-4)
    assert int(np.argmax(metrics.error_by_x)) == 55
    assert int(np.argmax(metrics.error_by_y)) == 7
    assert metrics.p999_abs == 0


def test_the_peak_of_features_is_their_own(image):
    features = image * 8 - 6
    metrics = compare(features, features + np.float32(0.006), "features")
    peak = float(np.abs(features).max())
    assert metrics.peak == pytest.approx(peak)
    assert metrics.max_of_peak == pytest.approx(0.006 / peak, rel=1e-3)
    assert metrics.psnr_db == pytest.approx(20 * math.log10(peak / 0.006), abs=0.01)
    assert metrics.ssim is None


def test_nan_and_infinity_are_counted_and_placed(image):
    candidate = image.copy()
    candidate[0, 1, 2, 3] = np.nan
    candidate[0, 1, 2, 4:6] = np.inf
    metrics = compare(image, candidate, "image")
    assert (metrics.nan_count, metrics.inf_count) == (1, 2)
    assert metrics.max_abs is None
    assert metrics.max_of_peak == math.inf
    assert metrics.worst is not None
    assert (metrics.worst.y, metrics.worst.x) == (2, 3)


def test_small_pictures_have_no_ssim():
    assert compare(np.zeros((1, 3, 8, 8)), np.ones((1, 3, 8, 8)), "image").ssim is None


def test_profiles_are_binned():
    error = np.zeros((1, 1, 4, 640), np.float32)
    error[..., 320:] = 1
    profile = compare(np.zeros_like(error), error, "image").error_by_x
    assert profile == (0.0,) * 32 + (1.0,) * 32


def test_refuses_what_can_not_be_compared(image):
    with pytest.raises(InternalError, match="is not finite"):
        compare(np.full((1, 3, 4, 4), np.nan), np.zeros((1, 3, 4, 4)), "image")
    with pytest.raises(InternalError, match="the candidate is"):
        compare(image, image[:, :2], "image")
