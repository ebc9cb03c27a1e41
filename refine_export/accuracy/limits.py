"""Limits of accuracy for each graph and precision. Errors are in units of the peak (see `metrics`).

Loaded by `--help`: stays free of numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refine_export.signature import FilePrecision, GraphName


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one output of one run; None limits nothing."""

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

    def __post_init__(self) -> None:
        for name in ("max_abs", "p999_abs", "flicker", "ssim"):
            value = getattr(self, name)
            if value is not None and not (0 < value < 1 or (name == "ssim" and value == 1)):
                raise ValueError(f"{name} is {value}; expected a number between 0 and 1")
        for name in ("psnr_db", "snr_db"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 400:
                raise ValueError(f"{name} is {value}; expected a number of decibels between 0 and 400")
        if self.p999_abs is not None and self.p999_abs > self.max_abs:
            raise ValueError(
                f"p999_abs is {self.p999_abs} and max_abs {self.max_abs}; expected the percentile's limit to be no "
                "larger: it would limit nothing"
            )


_FP32 = Limits(max_abs=1e-4, psnr_db=90.0)
_FLOW_FP32 = Limits(max_abs=1e-4, psnr_db=90.0, snr_db=80.0)
_FLOW_LOW = Limits(max_abs=0.1, psnr_db=52.0, snr_db=53.0)
_FLOW_BF16 = Limits(max_abs=0.3, psnr_db=36.0, snr_db=36.0)  # 18 dB below those of FP16, as the rounding is coarser
_FRAME_LOW = Limits(max_abs=0.01, psnr_db=68.0, p999_abs=0.003)
_FRAME_BF16 = Limits(max_abs=0.08, psnr_db=52.0, p999_abs=0.024)


@dataclass(frozen=True, kw_only=True)
class LimitsOptions:
    """Limits by graph and precision of the file: max_abs and psnr_db, and others where given."""

    contextnet_fp32: Limits = _FLOW_FP32
    contextnet_fp16: Limits = _FLOW_LOW
    contextnet_bf16: Limits = _FLOW_BF16
    unet_fp32: Limits = _FLOW_FP32
    unet_fp16: Limits = _FLOW_LOW
    unet_bf16: Limits = _FLOW_BF16
    refine_fp32: Limits = _FLOW_FP32
    refine_fp16: Limits = _FLOW_LOW
    refine_bf16: Limits = _FLOW_BF16
    interpolator_fp32: Limits = _FP32
    interpolator_fp16: Limits = _FRAME_LOW
    interpolator_bf16: Limits = _FRAME_BF16

    def of(self, graph: GraphName, precision: FilePrecision) -> Limits:
        """Return the limits of a file of a graph and precision."""
        limits: Any = getattr(self, limits_name(graph, precision))
        assert isinstance(limits, Limits)
        return limits


def limits_name(graph: GraphName, precision: FilePrecision) -> str:
    """Return the recipe's key for a graph and precision, such as `refine_fp16`."""
    return f"{graph}_{precision}"
