"""Limits of accuracy for each graph and precision. Errors are in units of the peak (see `metrics`).

Loaded by `--help`: stays free of numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from refine_export.signature import FilePrecision, GraphName


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one output of one run; None limits nothing.

    With `times`, an output that misses `max_abs`, `psnr_db` or `snr_db` passes all the same if its error is small
    beside what rounding costs the reference on the same feed (`effective_limits.limits_on`): flows and their errors
    grow with the frames, and no one number is right for all sizes and weights.
    """

    max_abs: float
    """Largest error."""
    psnr_db: float
    """Smallest PSNR."""
    p999_abs: float | None = None
    """Largest 99.9th percentile of the error."""
    ssim: float | None = None
    """Smallest SSIM, of pictures; it is measured only where this is set, and needs scikit-image."""
    flicker: float | None = None
    """Largest root mean square of the change of the error from one frame of a sequence to the next."""
    snr_db: float | None = None
    """Smallest ratio of signal to noise on the probe (see `feeds.probe_for`). Unlike a PSNR it does not depend on how
    much the weights make of what they see."""
    times: float | None = None
    """Largest root mean square of the error, in units of what rounding to the file's type costs the reference. None:
    the limits are absolute."""

    def __post_init__(self) -> None:
        for name in ("max_abs", "p999_abs", "flicker", "ssim"):
            value = getattr(self, name)
            if value is not None and not (0 < value < 1 or (name == "ssim" and value == 1)):
                raise ValueError(f"{name} is {value}; expected a number between 0 and 1")
        for name in ("psnr_db", "snr_db"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 400:
                raise ValueError(f"{name} is {value}; expected a number of decibels between 0 and 400")
        if self.times is not None and not 1 <= self.times < 1000:
            raise ValueError(f"times is {self.times}; expected a number from 1 to below 1000")
        if self.p999_abs is not None and self.p999_abs > self.max_abs:
            raise ValueError(
                f"p999_abs is {self.p999_abs} and max_abs {self.max_abs}; expected the percentile's limit to be no "
                "larger: it would limit nothing"
            )


# docs/validation.md has the measurements. A whole network amplifies rounding where its flows are uncertain; a
# refinement, whose flows are given, comes within a few per cent of what rounding costs.
_FP32 = Limits(max_abs=1e-4, psnr_db=90.0, times=3.0)
_FP16 = Limits(max_abs=1e-3, psnr_db=90.0, times=3.0)
_BF16 = Limits(max_abs=8e-3, psnr_db=72.0, times=3.0)  # its rounding is eight times coarser
_FLOW_FP32 = replace(_FP32, snr_db=80.0)
_FLOW_FP16 = replace(_FP16, snr_db=53.0, times=2.0)
_FLOW_BF16 = replace(_BF16, snr_db=36.0, times=2.0)


@dataclass(frozen=True, kw_only=True)
class LimitsOptions:
    """Limits by graph and precision of the file: max_abs and psnr_db, and others where given."""

    contextnet_fp32: Limits = _FLOW_FP32
    contextnet_fp16: Limits = _FLOW_FP16
    contextnet_bf16: Limits = _FLOW_BF16
    unet_fp32: Limits = _FLOW_FP32
    unet_fp16: Limits = _FLOW_FP16
    unet_bf16: Limits = _FLOW_BF16
    refine_fp32: Limits = _FLOW_FP32
    refine_fp16: Limits = _FLOW_FP16
    refine_bf16: Limits = _FLOW_BF16
    interpolator_fp32: Limits = _FP32
    interpolator_fp16: Limits = _FP16
    interpolator_bf16: Limits = _BF16

    def of(self, graph: GraphName, precision: FilePrecision) -> Limits:
        """Return the limits of a file of a graph and precision."""
        limits: Any = getattr(self, limits_name(graph, precision))
        assert isinstance(limits, Limits)
        return limits


def limits_name(graph: GraphName, precision: FilePrecision) -> str:
    """Return the recipe's key for a graph and precision, such as `refine_fp16`."""
    return f"{graph}_{precision}"
