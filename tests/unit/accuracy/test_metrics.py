"""Each number is what its formula says."""

import math
import sys

import numpy as np
import pytest

from refine_export.accuracy.metrics import (
    compare,
    distance,
    largest_error,
    largest_magnitude,
    peak_of,
    psnr_from_mse,
    signal_to_noise,
)
from refine_export.errors import InternalError, UnavailableError
from tests.support.refusals import refused


@pytest.fixture
def image():
    return np.random.default_rng(0).random((1, 3, 40, 60), np.float32)


def test_identical(image):
    metrics = compare(image, image.copy(), "image", with_ssim=True)
    assert metrics.identical
    assert metrics.psnr_db is None
    assert (metrics.max_abs, metrics.mean_abs, metrics.p999_abs, metrics.max_of_peak) == (0, 0, 0, 0)
    assert metrics.ssim == pytest.approx(1)


def test_a_constant_error(image):
    """PSNR = -20 log10(e) with peak 1."""
    metrics = compare(image, image + np.float32(0.01), "image", with_ssim=True)
    assert metrics.psnr_db == pytest.approx(40, abs=1e-3)
    assert metrics.mean_abs == pytest.approx(0.01, rel=1e-4)
    assert metrics.max_abs == pytest.approx(0.01, rel=1e-4)
    assert 0.9 < metrics.ssim < 1


def test_one_wrong_pixel(image):
    candidate = image.copy()
    candidate[0, 2, 7, 55] += 0.5
    metrics = compare(image, candidate, "image")
    worst = metrics.worst
    assert (worst.batch, worst.channel, worst.y, worst.x) == (0, 2, 7, 55)
    assert worst.candidate - worst.reference == pytest.approx(0.5)
    assert metrics.psnr_db == pytest.approx(10 * math.log10(image.size / 0.25), abs=1e-4)
    assert metrics.p999_abs == 0


def test_the_peak_of_features_is_their_own(image):
    features = image * 8 - 6
    metrics = compare(features, features + np.float32(0.006), "features", with_ssim=True)
    peak = float(np.abs(features).max())
    assert metrics.peak == peak_of(features) == pytest.approx(peak)
    assert metrics.max_of_peak == pytest.approx(0.006 / peak, rel=1e-3)
    assert metrics.psnr_db == pytest.approx(20 * math.log10(peak / 0.006), abs=0.01)
    assert metrics.ssim is None


def test_without_a_quantity_the_values_decide(image):
    assert peak_of(image) == peak_of(image - 0.5) == 1
    assert peak_of(image - 0.9) == pytest.approx(0.9, abs=0.01)


def test_nan_and_infinity_are_counted_and_placed(image):
    candidate = image.copy()
    candidate[0, 1, 2, 3] = np.nan
    candidate[0, 1, 2, 4:6] = np.inf
    metrics = compare(image, candidate, "image")
    assert (metrics.nan_count, metrics.inf_count) == (1, 2)
    assert metrics.max_abs is None
    assert metrics.max_of_peak == math.inf
    assert (metrics.worst.y, metrics.worst.x) == (2, 3)
    assert distance(image, candidate, 1.0) == (math.inf, math.inf)


def test_ssim_is_measured_where_asked_for_alone(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    assert compare(image, image, "image").ssim is None
    small = image[..., :8, :8]
    assert compare(small, small, "image", with_ssim=True).ssim is None
    with refused("missing-package", UnavailableError, extra="ssim") as caught:
        compare(image, image, "image", with_ssim=True)
    assert "pip install scikit-image" in str(caught.value)


def test_a_histogram_counts_every_value_once():
    error = np.array([0.0, 5e-8, 1e-3, 2e-3, 0.5, 0.5], np.float32).reshape(1, 1, 1, 6)
    assert compare(np.zeros_like(error), error, "residual").histogram == (1, 1, 0, 0, 0, 1, 1, 0, 2)


def test_refuses_what_cannot_be_compared(image):
    for reference, candidate, code in (
        (np.full((1, 3, 4, 4), np.nan), np.zeros((1, 3, 4, 4)), "nothing-to-compare-with"),
        (image, image[:, :2], "other-shape"),
    ):
        with refused(code, InternalError):
            compare(reference, candidate, "image")


@pytest.mark.parametrize(
    ("expected", "actual", "error"),
    [
        ([1, 2], [1, 2.5], 0.25),
        ([np.inf, np.nan], [np.inf, np.nan], 0),
        ([np.inf, 1], [np.inf, 1.5], 0.25),
        ([np.inf, 1], [-np.inf, 1], math.inf),
        ([1, 1], [np.nan, 1], math.inf),
        ([1, 1], [1], math.inf),
    ],
)
def test_the_largest_error_knows_values_that_are_not_finite(expected, actual, error):
    assert largest_error(np.array(expected, np.float32), np.array(actual, np.float32), 2.0) == error


def test_the_unit_of_an_error_is_the_largest_finite_magnitude():
    tensor = np.array([np.inf, -4, np.nan, 1], np.float16)
    assert largest_magnitude(tensor) == 4
    assert largest_magnitude(np.zeros(3)) == 1
    assert largest_error(np.array([-4.0]), np.array([-3.0])) == 0.25


def test_distance_and_psnr():
    reference = np.array([0, 2], np.float32)
    assert distance(reference, np.array([0.5, 2], np.float16), 2.0) == (0.03125, 0.25)
    assert psnr_from_mse(0.01) == pytest.approx(20)
    assert psnr_from_mse(0.04, peak=2.0) == pytest.approx(20)
    assert (psnr_from_mse(0), psnr_from_mse(math.inf)) == (math.inf, -math.inf)


def test_signal_to_noise_counts_no_rounding_of_the_output():
    """0.02 of variation around 0.5, wrong by 1e-5: 60 dB as FP32, and as FP16, whose steps are 50 times larger."""
    generator = np.random.default_rng(0)
    reference = (0.5 + 0.01 * generator.standard_normal((1, 3, 256, 256))).astype(np.float32)
    candidate = reference + np.float32(1e-5) * generator.standard_normal(reference.shape).astype(np.float32)
    assert signal_to_noise(reference, candidate) == pytest.approx(60, abs=0.1)
    assert signal_to_noise(reference, candidate * 2 - reference) == pytest.approx(54, abs=0.1)
    rough = reference + 10 * (candidate - reference)
    assert signal_to_noise(reference, rough.astype(np.float16)) == pytest.approx(40, abs=1)
    flat = np.full_like(reference, 0.5)
    assert signal_to_noise(flat, flat + 1) is None
    assert signal_to_noise(reference, reference) is None
    assert signal_to_noise(reference, reference + np.float32(1e30)) == pytest.approx(-640, abs=1)
