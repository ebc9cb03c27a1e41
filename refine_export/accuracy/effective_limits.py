"""Measured outputs beside their limits: one list of all limits, for verdicts, self-test and report."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import Metrics, Rounding

LABELS: Final = {
    "max_abs": "largest error",
    "psnr_db": "PSNR",
    "p999_abs": "99.9th percentile of the error",
    "flicker": "flicker",
    "snr_db": "signal to noise on the probe",
    "ssim": "SSIM",
}
"""Quantity of each limit, by the limit's name in a recipe."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """One measurement beside its limit."""

    limit: str
    """Name of the limit, as in a recipe; `finite` for outputs with NaN or infinity."""
    ratio: float
    """Measured error divided by the error that the limit allows. Decibels count as amplitudes: 6 dB are a factor of 2.
    For SSIM it is the distance from 1."""
    missed: bool
    """The limit is not kept. It is not taken from the ratio, whose rounding could hide the last bit."""
    reason: str
    """Missed limit and by how much, for people."""


_BELOW_ONE: Final = math.nextafter(1.0, 0.0)  # an error as large as the peak is wrong however chaotic the network is
LARGEST: Final = 4.0
"""Allowed growth of the largest error, which a single pixel decides, over that of the root mean square."""


def limits_on(limits: Limits, rounding: Rounding | None) -> Limits:
    """Return the limits of one output: the absolute ones, or `times` the cost of rounding where that allows more.

    This is the one rule for files, engines, fallbacks and servers.
    """
    if limits.times is None or rounding is None:
        return limits
    largest = LARGEST * limits.times * rounding.max_of_peak
    allowed_db = 20 * math.log10(limits.times)
    snr_db = limits.snr_db
    if snr_db is not None and rounding.snr_db is not None:
        snr_db = max(min(snr_db, rounding.snr_db - allowed_db), 1.0)
    # However much rounding costs, a limit stays one that `Limits` takes: above 0 dB, and below the peak.
    return replace(
        limits,
        max_abs=min(max(limits.max_abs, largest), _BELOW_ONE),
        psnr_db=max(min(limits.psnr_db, rounding.psnr_db - allowed_db), 1.0),
        snr_db=snr_db,
    )


def margins(metrics: Metrics, limits: Limits) -> list[Margin]:
    """Return a margin for each limit that is set and whose quantity was measured."""
    if metrics.nan_count or metrics.inf_count:
        reason = f"{metrics.nan_count} NaN and {metrics.inf_count} infinite values"
        return [Margin(limit="finite", ratio=math.inf, missed=True, reason=reason)]
    limits = limits_on(limits, metrics.rounding)
    found = []
    for name, label in LABELS.items():
        limit: float | None = getattr(limits, name)
        value: float | None = getattr(metrics, name)
        if limit is None or value is None:
            continue
        if name.endswith("_db"):  # `not >=` and `not <=`, so that NaN misses each limit
            ratio, missed = 10 ** ((limit - value) / 20), not value >= limit
            reason = f"{label} {value:.2f} dB, below {limit:g}"
        elif name == "ssim":
            missed = not value >= limit
            ratio = (1 - value) / (1 - limit) if limit < 1 else math.inf if missed else 0.0
            reason = f"{label} {value:.6f}, below {limit:g}"
        else:
            value /= metrics.peak
            ratio, missed = value / limit, not value <= limit
            reason = f"{label} {value:.3g} of the peak, above {limit:g}"
        found.append(Margin(limit=name, ratio=ratio, missed=missed, reason=reason))
    return found
