"""Scene cuts: two frames that share too little to be blended.

The rule is that of upstream RIFE's inference_video.py (hzwer/Practical-RIFE): both frames at 32 x 32, bilinear; a cut
where their SSIM is under 0.2. SSIM is that of its `ssim_matlab`: a Gaussian window of 11 with sigma 1.5 over height,
width and colour, borders repeated, values in [0, 1]. Here the frames are not padded before they are made small.

At a cut upstream repeats the frame before it until the frame after it is due, and so does this tool: the cut stays
where it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refine_export.data.colour import Picture
from refine_export.errors import RequestError
from refine_export.support.files import check_input_file

SMALL = 32  # pixels a side
WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
_MOST_DIGITS = 18


def cuts_from_file(path: Path) -> frozenset[int]:
    """Read the numbers of the first frames of scenes, one a line; `#` starts a remark.

    Raises:
        RequestError: the file is missing, or a line is not a number.
    """
    check_input_file(path, RequestError, "give a text file with one number of a frame a line")
    numbers = set()
    for place, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text and not (text.isdecimal() and len(text) <= _MOST_DIGITS):
            problem = f"has {text!r} in line {place}; expected the number of a frame, counted from 0"
            raise RequestError.about(path, "not-a-frame-number", problem, line=place)
        numbers |= {int(text)} if text else set()
    return frozenset(numbers)


def similarity(frame0: Picture, frame1: Picture) -> float:
    """Compute the SSIM of two frames at 32 x 32: 1 for equal ones, near 0 for unrelated ones."""
    a, b = _small(frame0), _small(frame1)
    mean_a, mean_b = _blurred(a), _blurred(b)
    variances = _blurred(a * a) - mean_a**2 + _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + C1) * (2 * covariance + C2) / ((mean_a**2 + mean_b**2 + C1) * (variances + C2))
    return float(ssim.mean())


def _small(picture: Picture) -> NDArray[np.float64]:
    """Scale [H, W, 3] to [32, 32, 3] in [0, 1]: bilinear between the pixels around each centre, as torch does."""
    small = picture
    for axis in (0, 1):
        size = picture.shape[axis]
        at = np.clip((np.arange(SMALL) + 0.5) * size / SMALL - 0.5, 0, size - 1)
        low = at.astype(int)
        high = np.minimum(low + 1, size - 1)
        share = np.expand_dims(at - low, tuple(other for other in range(3) if other != axis))
        small = small.take(low, axis) * (1 - share) + small.take(high, axis) * share
    return np.asarray(small / (255 if picture.dtype == np.uint8 else 1), dtype=np.float64)


def _blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply the Gaussian window along each of the three axes."""
    half = WINDOW // 2
    weights = np.exp(-((np.arange(WINDOW) - half) ** 2) / (2 * SIGMA**2))
    for axis, size in enumerate(values.shape):
        grown = np.pad(values, [(half, half) if other == axis else (0, 0) for other in range(3)], mode="edge")
        values = sum(weight * grown.take(range(k, k + size), axis) for k, weight in enumerate(weights / weights.sum()))
    return values
