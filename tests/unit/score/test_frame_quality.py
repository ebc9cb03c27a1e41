"""PSNR, SSIM and interpolation error against independent computations of scikit-image and numpy."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from refine_export.score.frame_quality import TrueFrame
from tests.support.data_sets import drawn_triplet


def similarity(truth, picture):
    """`ssim_matlab` of RIFE: the frame is a volume of three planes, and its edges are repeated five times."""
    volumes = [np.pad(one.astype(np.float64) / 255, 5, mode="edge") for one in (truth, picture)]
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(*volumes, data_range=1.0, **window)  # its mean leaves out five at each edge


@pytest.mark.parametrize("size", [(48, 80), (16, 17), (256, 448)])
def test_figures_are_those_of_an_independent_computation(size):
    first, truth, _ = drawn_triplet(0, size)
    quality = TrueFrame(truth).quality_of(first)
    difference = first.astype(float) - truth
    assert quality.psnr_db == pytest.approx(peak_signal_noise_ratio(truth, first), abs=1e-9)
    assert quality.ssim == pytest.approx(similarity(truth, first), abs=2e-6)
    assert quality.ie == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert quality.mean_abs == pytest.approx(np.abs(difference).mean())


def test_colour_counts():
    """A frame whose green and blue are swapped has the same planes, and another similarity."""
    _, truth, _ = drawn_triplet()
    swapped = truth[:, :, [0, 2, 1]]
    assert TrueFrame(truth).quality_of(swapped).ssim == pytest.approx(similarity(truth, swapped), abs=2e-6)
    assert TrueFrame(truth).quality_of(swapped).ssim < 0.99


def test_an_equal_frame_has_a_finite_psnr():
    _, truth, _ = drawn_triplet()
    quality = TrueFrame(truth).quality_of(truth.copy())
    assert (quality.psnr_db, quality.ie, quality.mean_abs) == (80.0, 0.0, 0.0)
    assert quality.ssim == pytest.approx(1.0, abs=1e-6)
