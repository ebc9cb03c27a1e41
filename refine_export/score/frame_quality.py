"""Quality of an interpolated frame against the true one, in the figures that papers print.

Frames are RGB of 8 bits: what a network gives is rounded first, as in a PNG. Sources:

- PSNR of all values of a frame; papers print the mean over the frames. RIFE, `benchmark/Vimeo90K.py` and `UCF101.py`.
- SSIM as `ssim_matlab` computes it (RIFE, `model/pytorch_msssim`): a Gaussian of 11x11x11 with a deviation of 1.5 over
  the frame as a volume of three colour planes, its edges repeated.
- Interpolation error: Baker et al. (2011, "A Database and Evaluation Methodology for Optical Flow") define the root
  mean square of the difference, in 0 to 255; the papers since then print the mean of its magnitude under the same name
  (RIFE, `benchmark/MiddleBury_Other.py`). Both are measured.
- A frame that equals the truth counts as 80 dB: CAIN, whose authors made SNU-FILM, adds 1e-8 to the mean square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from refine_export.accuracy.metrics import psnr_from_mse
from refine_export.data.colour import Picture

PSNR_OF_EQUAL_DB = 80.0
RADIUS, SIGMA = 5, 1.5
TAPS = np.exp(-((np.arange(2 * RADIUS + 1) - RADIUS) ** 2) / (2 * SIGMA**2))
TAPS = (TAPS / TAPS.sum()).astype(np.float32)
C1, C2 = np.float32(0.01**2), np.float32(0.03**2)

Planes: TypeAlias = NDArray[np.float32]
"""[3, H, W], RGB in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures of one frame, or their means."""

    psnr_db: float
    ssim: float
    ie: float
    """Root mean square of the difference, in 0 to 255."""
    mean_abs: float
    """Mean magnitude of the difference, in 0 to 255."""


class TrueFrame:
    """A true frame, with all that every comparison with it needs.

    Args:
        picture: [H, W, 3], RGB.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = picture.astype(np.int16)
        self._planes = _planes(picture)
        self._mean = _blurred(self._planes)
        self._variance = _blurred(self._planes**2) - self._mean**2

    def quality_of(self, picture: Picture) -> Quality:
        """Measure a frame of the same size."""
        counts = np.bincount(np.abs(picture - self._picture).ravel()) / picture.size
        magnitudes = np.arange(len(counts))
        squared = float(counts @ magnitudes**2)
        return Quality(
            psnr_db=psnr_from_mse(squared, 255.0) if squared else PSNR_OF_EQUAL_DB,
            ssim=self._ssim(_planes(picture)),
            ie=math.sqrt(squared),
            mean_abs=float(counts @ magnitudes),
        )

    def _ssim(self, planes: Planes) -> float:
        mean = _blurred(planes)
        variance = _blurred(planes**2) - mean**2
        covariance = _blurred(planes * self._planes) - mean * self._mean
        numerator = (2 * mean * self._mean + C1) * (2 * covariance + C2)
        denominator = (mean**2 + self._mean**2 + C1) * (variance + self._variance + C2)
        return float(np.mean(numerator / denominator, dtype=np.float64))


def _planes(picture: Picture) -> Planes:
    planes: Planes = np.ascontiguousarray(np.moveaxis(picture, -1, 0), np.float32)
    return planes / np.float32(255)


def _blurred(planes: Planes) -> Planes:
    for axis in range(planes.ndim):
        planes = _blurred_along(planes, axis)
    return planes


def _blurred_along(planes: Planes, axis: int) -> Planes:
    length = planes.shape[axis]
    padded = np.pad(planes, [(RADIUS * (k == axis),) * 2 for k in range(planes.ndim)], mode="edge")

    def shifted(by: int) -> Planes:
        return padded[(slice(None),) * axis + (slice(RADIUS + by, RADIUS + by + length),)]

    total: Planes = shifted(0) * TAPS[RADIUS]
    pair = np.empty_like(total)
    for by in range(1, RADIUS + 1):
        np.add(shifted(-by), shifted(by), out=pair)
        pair *= TAPS[RADIUS + by]
        total += pair
    return total
