"""Pictures of the ensemble are compared in grey levels, with the limits of the network behind it."""

import numpy as np
import pytest

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.deploy.verify.verify_frames import compare_pictures

FP32, FP16 = LimitsOptions().interpolator_fp32, Limits(max_abs=0.01, psnr_db=68.0)
PICTURE = np.random.default_rng(0).integers(10, 245, (50, 60, 3), dtype=np.uint8)
FEW = np.zeros_like(PICTURE)
FEW[:2, :10] = 1
HALF = np.zeros_like(PICTURE)
HALF[::2] = 1  # truncated rather than rounded


@pytest.mark.parametrize(
    ("change", "limits", "levels", "passes"),
    [
        (FEW, FP32, 1, True),
        (2 * FEW, FP32, 2, False),
        (HALF, FP32, 1, False),
        (3 * FEW, FP16, 3, True),
        (4 * FEW, FP16, 4, False),
    ],
)
def test_grey_levels(change, limits, levels, passes):
    """One level is within the limits of FP32 here and there; two are not, nor one nearly everywhere."""
    reasons, largest, mean = compare_pictures(PICTURE, {"frame": PICTURE + change}, limits)
    assert (largest, mean, not reasons) == (levels, pytest.approx(change.mean()), passes)


@pytest.mark.parametrize("answer", [{"frame": PICTURE[:-1]}, {"frame": PICTURE.astype(np.float32)}, {}])
def test_pictures_of_another_form(answer):
    reasons, largest, _ = compare_pictures(PICTURE, answer, FP32)
    assert (len(reasons), largest) == (1, 255)
