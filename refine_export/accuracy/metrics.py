"""How far a candidate's output is from the reference's: numbers, and where.

The peak is 1.0 for images and for the residual, and the largest magnitude of the reference for everything else, so
that one threshold in units of the peak serves both.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refine_export.errors import InternalError
from refine_export.signature import Quantity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SSIM_SIGMA = 1.5
SSIM_WINDOW = 11  # of that sigma; smaller pictures have no SSIM
PROFILE_BINS = 64
DECADES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Errors in units of the peak, for histograms."""


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The place of the largest error."""

    batch: int
    channel: int
    y: int
    x: int
    reference: float
    candidate: float


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One output against the reference."""

    peak: float
    psnr_db: float | None
    """10 log10(peak**2 / mean squared error); None where the arrays are equal, or not finite."""
    identical: bool
    max_abs: float | None
    """None where nothing finite can be compared."""
    mean_abs: float | None
    p999_abs: float | None
    """99.9th percentile of the absolute error."""
    ssim: float | None
    """Wang et al. 2004, Gaussian window of 1.5 pixels, mean over the channels; images of 11 pixels or more only."""
    nan_count: int
    """In the candidate."""
    inf_count: int
    """In the candidate."""
    worst: Worst | None
    error_by_x: tuple[float, ...]
    """Mean absolute error in at most 64 equal bins from left to right."""
    error_by_y: tuple[float, ...]
    """The same from top to bottom."""
    histogram: tuple[int, ...] = ()
    """How many values have which error, in units of the peak: none; up to each of `DECADES`; more."""
    flicker: float | None = None
    """Of a frame that follows another of its sequence: see `flicker`."""
    snr_db: float | None = None
    """Of a probe: see `signal_to_noise`."""

    @property
    def max_of_peak(self) -> float:
        """The largest error in units of the peak; infinite where nothing can be compared."""
        return math.inf if self.max_abs is None else self.max_abs / self.peak


def compare(reference: NDArray[Any], candidate: NDArray[Any], quantity: Quantity) -> Metrics:
    """Measure a candidate's output [N, C, H, W] against the reference's.

    Raises:
        InternalError: the reference is not finite, or is no [N, C, H, W].
    """
    import numpy as np

    if reference.ndim != 4 or not np.isfinite(reference).all():
        raise InternalError(
            f"the reference {list(reference.shape)} is not finite [N, C, H, W]: nothing to compare with"
        )
    picture = quantity in ("image", "residual")
    peak = peak_of(reference, quantity)
    if candidate.shape != reference.shape:
        raise InternalError(f"the candidate is {list(candidate.shape)}, the reference {list(reference.shape)}")
    nan_count, inf_count = int(np.isnan(candidate).sum()), int(np.isinf(candidate).sum())
    if nan_count or inf_count:
        return Metrics(
            peak=peak,
            psnr_db=None,
            identical=False,
            max_abs=None,
            mean_abs=None,
            p999_abs=None,
            ssim=None,
            nan_count=nan_count,
            inf_count=inf_count,
            worst=_place(reference, candidate, int(np.argmin(np.isfinite(candidate)))),
            error_by_x=(),
            error_by_y=(),
        )
    error = np.abs(np.subtract(candidate, reference, dtype=np.result_type(reference, np.float32)))
    squared = float(np.mean(np.square(error), dtype=np.float64))
    by_y, by_x = error.mean(axis=(0, 1, 3), dtype=np.float64), error.mean(axis=(0, 1, 2), dtype=np.float64)
    return Metrics(
        peak=peak,
        psnr_db=10 * math.log10(peak**2 / squared) if squared else None,
        identical=not squared,
        max_abs=float(error.max()),
        mean_abs=float(error.mean(dtype=np.float64)),
        p999_abs=float(np.quantile(error, 0.999)),
        ssim=_ssim(reference, candidate) if picture else None,
        nan_count=0,
        inf_count=0,
        worst=_place(reference, candidate, int(error.argmax())),
        histogram=_histogram(error / peak),
        error_by_x=_binned(by_x),
        error_by_y=_binned(by_y),
    )


def peak_of(reference: NDArray[Any], quantity: Quantity | None = None) -> float:
    """1 for pictures, the largest magnitude for anything else; by the values, where the quantity is not known."""
    import numpy as np

    largest = float(np.abs(reference).max(initial=0.0)) or 1.0
    if quantity is None:
        return 1.0 if reference.min(initial=0.0) >= -0.5 and largest <= 1.5 else largest
    return 1.0 if quantity in ("image", "residual") else largest


def distance(reference: NDArray[Any], candidate: NDArray[Any], peak: float) -> tuple[float, float]:
    """Mean squared error and largest error in units of the peak; infinite where the candidate is not finite."""
    import numpy as np

    error = (candidate.astype(np.float64) - reference) / peak
    if not np.isfinite(error).all():
        return math.inf, math.inf
    return float(np.mean(np.square(error))), float(np.abs(error).max(initial=0.0))


def psnr_from_mse(squared: float) -> float:
    """10 log10(1 / mean squared error), in units of the peak."""
    return math.inf if squared == 0 else -10 * math.log10(squared) if math.isfinite(squared) else -math.inf


def _ssim(reference: NDArray[Any], candidate: NDArray[Any]) -> float | None:
    import numpy as np
    from skimage.metrics import structural_similarity

    if min(reference.shape[2:]) < SSIM_WINDOW:
        return None

    def of_plane(one: NDArray[Any], other: NDArray[Any]) -> float:
        value: float = structural_similarity(  # type: ignore[no-untyped-call]
            one.astype(np.float32),
            other.astype(np.float32),
            data_range=1.0,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
        )
        return value

    size = reference.shape[2:]
    with ThreadPoolExecutor(2) as pool:  # its filters let other threads run, and each takes memory
        return float(np.mean(list(pool.map(of_plane, reference.reshape(-1, *size), candidate.reshape(-1, *size)))))


def _histogram(error: NDArray[Any]) -> tuple[int, ...]:
    import numpy as np

    below = [int(np.count_nonzero(error == 0)), *(int(np.count_nonzero(error <= edge)) for edge in DECADES), error.size]
    return tuple(int(count) for count in np.diff([0, *below]))


def signal_to_noise(reference: NDArray[Any], candidate: NDArray[Any]) -> float | None:
    """10 log10(variance of the reference / mean squared error), the variance about each channel's mean.

    What a candidate of FP16 outputs loses by rounding those is no noise. None where the reference is flat or nothing
    differs.
    """
    import numpy as np

    variance = float(np.mean(np.var(reference, axis=(0, 2, 3), dtype=np.float64)))
    squared = float(np.mean(np.square(candidate - reference), dtype=np.float64))
    if candidate.dtype == np.float16:
        squared -= float(np.mean(np.square(reference.astype(np.float16) - reference), dtype=np.float64))
    return 10 * math.log10(variance / squared) if variance > 0 and squared > 0 else None


def flicker(before: NDArray[Any], now: NDArray[Any]) -> float:
    """How much the error changes from one frame to the next: the root mean square of the difference of the two signed
    errors. An error that stands still flickers not at all; noise of its own in each frame, by 1.4 times its size.
    """
    import numpy as np

    return float(np.sqrt(np.mean(np.square(now - before), dtype=np.float64)))


def _place(reference: NDArray[Any], candidate: NDArray[Any], index: int) -> Worst:
    import numpy as np

    batch, channel, y, x = (int(k) for k in np.unravel_index(index, reference.shape))
    return Worst(
        batch=batch,
        channel=channel,
        y=y,
        x=x,
        reference=float(reference[batch, channel, y, x]),
        candidate=float(candidate[batch, channel, y, x]),
    )


def _binned(profile: NDArray[np.float64]) -> tuple[float, ...]:
    import numpy as np

    return tuple(float(part.mean()) for part in np.array_split(profile, min(PROFILE_BINS, len(profile))))
