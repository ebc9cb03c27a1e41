"""Distance of a candidate's output from the reference's, in numbers, and where it is largest.

The peak is 1.0 for images and for the residual, and the largest magnitude of the reference for everything else, so
that one limit in units of the peak serves both.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refine_export.errors import InternalError
from refine_export.signature import Quantity
from refine_export.support.imports import require

PICTURES: tuple[Quantity, ...] = ("image", "residual")
"""Quantities whose peak is 1.0 and that have an SSIM."""
SSIM_SIGMA = 1.5
SSIM_WINDOW = 11
"""Side in pixels of the Gaussian window; smaller pictures have no SSIM."""
DECADES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Errors in units of the peak, for histograms."""


@dataclass(frozen=True, kw_only=True)
class Worst:
    """Place of the largest error."""

    batch: int
    channel: int
    y: int
    x: int
    reference: float
    candidate: float | None
    """None where it is NaN or infinite."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Error that rounding alone puts into an output of the reference, as large as a right file's.

    It is the distance of the reference from itself with its convolutions and warps rounded to the file's type.
    """

    max_of_peak: float
    """Largest error, in units of the peak."""
    psnr_db: float
    snr_db: float | None = None
    """Ratio of signal to noise, of the probe."""
    feed: str
    """The feed it was measured on: one feed serves all of its size that it suffices for."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One output against the reference."""

    peak: float
    psnr_db: float | None
    """10 log10(peak**2 / mean squared error); None where the arrays are equal, or not finite."""
    identical: bool
    max_abs: float | None
    """Largest absolute error; None where the candidate is not finite."""
    mean_abs: float | None
    p999_abs: float | None
    """99.9th percentile of the absolute error."""
    ssim: float | None = None
    """Wang et al. 2004, Gaussian window of 1.5 pixels, mean over the channels; None where it was not asked for, and for
    anything but pictures of 11 pixels or more."""
    nan_count: int = 0
    """NaN values in the candidate."""
    inf_count: int = 0
    """Infinite values in the candidate."""
    worst: Worst | None
    histogram: tuple[int, ...] = ()
    """Numbers of values by error, in units of the peak: none; up to each of `DECADES`; more."""
    flicker: float | None = None
    """Change of the error since the frame before, of a frame that follows another of its sequence."""
    snr_db: float | None = None
    """Ratio of signal to noise, of the probe."""
    rounding: Rounding | None = None
    """Cost of rounding for the reference; None where the absolute limits are kept, or no limit depends on it."""

    @property
    def max_of_peak(self) -> float:
        """Largest error in units of the peak; infinite where nothing can be compared."""
        return math.inf if self.max_abs is None else self.max_abs / self.peak


def compare(
    reference: NDArray[Any], candidate: NDArray[Any], quantity: Quantity, *, with_ssim: bool = False
) -> Metrics:
    """Measure a candidate's output [N, C, H, W] against the reference's.

    Raises:
        InternalError: `nothing-to-compare-with`; the reference is not finite [N, C, H, W].
            `other-shape`; the candidate has another shape.
        UnavailableError: scikit-image is missing where SSIM is asked for.
    """
    if reference.ndim != 4 or not np.isfinite(reference).all():
        raise InternalError(
            f"the reference {list(reference.shape)} is not finite [N, C, H, W]: nothing to compare with",
            code="nothing-to-compare-with",
        )
    if candidate.shape != reference.shape:
        raise InternalError(
            f"the candidate is {list(candidate.shape)}, the reference {list(reference.shape)}", code="other-shape"
        )
    peak = peak_of(reference, quantity)
    nan_count, inf_count = int(np.isnan(candidate).sum()), int(np.isinf(candidate).sum())
    if nan_count or inf_count:
        return Metrics(
            peak=peak,
            psnr_db=None,
            identical=False,
            max_abs=None,
            mean_abs=None,
            p999_abs=None,
            nan_count=nan_count,
            inf_count=inf_count,
            worst=_place(reference, candidate, int(np.argmin(np.isfinite(candidate)))),
        )
    error = _absolute_error(reference, candidate)
    squared = float(np.mean(np.square(error), dtype=np.float64))
    return Metrics(
        peak=peak,
        psnr_db=psnr_from_mse(squared, peak) if squared else None,
        identical=not squared,
        max_abs=float(error.max()),
        mean_abs=float(error.mean(dtype=np.float64)),
        p999_abs=float(np.quantile(error, 0.999)),
        ssim=ssim(reference, candidate) if with_ssim and quantity in PICTURES else None,
        worst=_place(reference, candidate, int(error.argmax())),
        histogram=_histogram(error / peak),
    )


def peak_of(reference: NDArray[Any], quantity: Quantity | None = None) -> float:
    """Return 1 for pictures, and the largest magnitude for anything else.

    Without a quantity (graphs of other tools do not declare one) the values decide: an image lies in [0, 1] and a
    residual in [-0.5, 0.5] or so.
    """
    largest = largest_magnitude(reference)
    if quantity is None:
        return 1.0 if reference.min(initial=0.0) >= -0.5 and largest <= 1.5 else largest
    return 1.0 if quantity in PICTURES else largest


def largest_magnitude(array: NDArray[Any]) -> float:
    """Return the largest finite magnitude; 1 where nothing differs from zero."""
    values = array.astype(np.result_type(array, np.float32), copy=False)
    largest = float(max(values.max(initial=0.0), -values.min(initial=0.0)))  # two passes, and no copy of the array
    if not math.isfinite(largest):
        largest = float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))
    return largest or 1.0


def distance(reference: NDArray[Any], candidate: NDArray[Any], peak: float) -> tuple[float, float]:
    """Return the mean squared error and the largest error in units of the peak; infinite if the candidate is not."""
    error = _absolute_error(reference, candidate) / peak
    if not np.isfinite(error).all():
        return math.inf, math.inf
    return float(np.mean(np.square(error), dtype=np.float64)), float(error.max(initial=0.0))


def largest_error(expected: NDArray[Any], actual: NDArray[Any], peak: float | None = None) -> float:
    """Return the largest difference in units of the peak; infinite for another shape.

    Both arrays may hold NaN and infinity, as tensors inside of a graph do: equal ones differ by nothing, and where one
    side alone has them the difference is infinite. Without a peak it is the largest magnitude of `expected`.
    """
    if expected.shape != actual.shape:
        return math.inf
    with np.errstate(invalid="ignore"):
        difference = _absolute_error(expected, actual)
        largest = float(difference.max(initial=0.0))
        if not math.isfinite(largest):
            same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
            largest = float(np.where(same, 0.0, difference).max(initial=0.0))
    if math.isnan(largest):
        return math.inf
    return largest / (largest_magnitude(expected) if peak is None else peak)


def psnr_from_mse(squared: float, peak: float = 1.0) -> float:
    """Return 10 log10(peak**2 / mean squared error)."""
    if squared == 0 or not math.isfinite(squared):
        return -math.inf if squared else math.inf
    return 10 * math.log10(peak**2 / squared)


def signal_to_noise(reference: NDArray[Any], candidate: NDArray[Any]) -> float | None:
    """Return 10 log10(variance of the reference / mean squared error), the variance about each channel's mean.

    The error that FP16 outputs have only because their type rounds the result does not count as noise. None where the
    reference is flat or nothing differs.
    """
    variance = float(np.mean(np.var(reference, axis=(0, 2, 3), dtype=np.float64)))
    # In float64, where no square of a float32 overflows.
    squared = float(np.mean(np.square(candidate.astype(np.float64) - reference)))
    if candidate.dtype == np.float16:
        squared -= float(np.mean(np.square(reference.astype(np.float16) - reference), dtype=np.float64))
    return 10 * math.log10(variance / squared) if variance > 0 and squared > 0 else None


def ssim(reference: NDArray[Any], candidate: NDArray[Any]) -> float | None:
    """Return the structural similarity of pictures [N, C, H, W], the mean over all planes; None for small ones.

    Raises:
        UnavailableError: `missing-package`; scikit-image cannot be imported.
    """
    height, width = reference.shape[2:]
    if min(height, width) < SSIM_WINDOW:
        return None
    structural_similarity = require("skimage.metrics", extra="ssim").structural_similarity

    def of_plane(one: NDArray[Any], other: NDArray[Any]) -> float:
        return float(
            structural_similarity(
                one.astype(np.float32),
                other.astype(np.float32),
                data_range=1.0,
                gaussian_weights=True,
                sigma=SSIM_SIGMA,
                use_sample_covariance=False,
            )
        )

    planes = (array.reshape(-1, height, width) for array in (reference, candidate))
    with ThreadPoolExecutor(2) as pool:  # its filters let other threads run; more than two would take too much memory
        return float(np.mean(list(pool.map(of_plane, *planes))))


def _absolute_error(reference: NDArray[Any], candidate: NDArray[Any]) -> NDArray[Any]:
    """Return |candidate - reference| in FP32 at least: a difference of FP16 values may not be an FP16 value."""
    error: NDArray[Any] = np.abs(np.subtract(candidate, reference, dtype=np.result_type(reference, np.float32)))
    return error


def _histogram(error: NDArray[Any]) -> tuple[int, ...]:
    below = [int(np.count_nonzero(error == 0)), *(int(np.count_nonzero(error <= edge)) for edge in DECADES), error.size]
    return tuple(int(count) for count in np.diff([0, *below]))


def _place(reference: NDArray[Any], candidate: NDArray[Any], index: int) -> Worst:
    batch, channel, y, x = (int(k) for k in np.unravel_index(index, reference.shape))
    value = float(candidate[batch, channel, y, x])
    return Worst(
        batch=batch,
        channel=channel,
        y=y,
        x=x,
        reference=float(reference[batch, channel, y, x]),
        candidate=value if math.isfinite(value) else None,
    )
