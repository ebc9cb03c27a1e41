"""How far a candidate's output is from the reference's: numbers, and where.

The peak is 1.0 for images and for the residual, and the largest magnitude of the reference for everything else, so
that one threshold in units of the peak serves both.
"""

from __future__ import annotations

import math
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
    error = np.abs(candidate.astype(np.float64) - reference)
    squared = float(np.mean(np.square(error)))
    by_y, by_x = error.mean(axis=(0, 1, 3)), error.mean(axis=(0, 1, 2))
    return Metrics(
        peak=peak,
        psnr_db=10 * math.log10(peak**2 / squared) if squared else None,
        identical=not squared,
        max_abs=float(error.max()),
        mean_abs=float(error.mean()),
        p999_abs=float(np.quantile(error, 0.999)),
        ssim=_ssim(reference, candidate) if picture else None,
        nan_count=0,
        inf_count=0,
        worst=_place(reference, candidate, int(error.argmax())),
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
    planes = [
        structural_similarity(  # type: ignore[no-untyped-call]
            one.astype(np.float32),
            other.astype(np.float32),
            data_range=1.0,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
        )
        for first, second in zip(reference, candidate, strict=True)
        for one, other in zip(first, second, strict=True)
    ]
    return float(np.mean(planes))


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
