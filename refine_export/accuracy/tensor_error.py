"""How far two tensors are apart: the largest difference, in units of a peak, NaN and infinity included."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def peak_of(array: NDArray[Any]) -> float:
    """The largest magnitude that is finite; 1 where nothing differs from zero."""
    import numpy as np

    values = array.astype(np.float32, copy=False)
    largest = float(max(values.max(initial=0.0), -values.min(initial=0.0)))
    if not math.isfinite(largest):
        largest = float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))
    return largest or 1.0


def largest_error(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """The largest difference in units of the largest magnitude of `expected`."""
    return error_of(expected, actual, peak_of(expected))


def error_of(expected: NDArray[Any], actual: NDArray[Any], peak: float) -> float:
    """The largest difference in units of the peak; infinite for another shape, or NaN or infinity on one side."""
    import numpy as np

    if expected.shape != actual.shape:
        return math.inf
    one, other = (array.astype(np.float32, copy=False) for array in (expected, actual))
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other)
        largest = float(difference.max(initial=0.0))
        if not math.isfinite(largest):
            same = (one == other) | (np.isnan(one) & np.isnan(other))
            largest = float(np.where(same, 0.0, difference).max(initial=0.0))
    return math.inf if math.isnan(largest) else largest / peak
