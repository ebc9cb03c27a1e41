"""What passes: limits of accuracy for each graph and precision. Errors are in units of the peak (see `metrics`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from refine_export.onnx_file import FilePrecision
from refine_export.signature import GraphName

SMALL_FLOW_PX = 16.0
"""Up to which a flow is small: FP16 holds it to 2^-7 pixels or better."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one output of one run has to keep; None limits nothing."""

    max_abs: float
    """Largest error."""
    psnr_db: float
    """Smallest PSNR."""
    p999_abs: float | None = None
    """Largest 99.9th percentile of the error."""
    ssim: float | None = None
    """Smallest SSIM, of pictures."""
    flicker: float | None = None
    """Largest change of the error from one frame of a sequence to the next: its root mean square."""
    small: Limits | None = None
    """In place of these, for feeds whose flow is small (to `SMALL_FLOW_PX`): FP16 holds such a flow well, so that an
    error of the coordinates shows."""

    def on(self, largest_flow_px: float | None) -> Limits:
        """Those for a feed with such a flow; None where a feed has no flow."""
        small = self.small is not None and largest_flow_px is not None and largest_flow_px <= SMALL_FLOW_PX
        return self.small if self.small is not None and small else dataclasses.replace(self, small=None)

    def __post_init__(self) -> None:
        for name in ("max_abs", "p999_abs", "flicker"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name} is {value}; expected a number between 0 and 1")
        if not 0 < self.psnr_db < 400:
            raise ValueError(f"psnr_db is {self.psnr_db}; expected a number of decibels between 0 and 400")
        if self.ssim is not None and not 0 < self.ssim <= 1:
            raise ValueError(f"ssim is {self.ssim}; expected a number above 0, to 1")
        if self.p999_abs is not None and self.p999_abs > self.max_abs:
            raise ValueError(
                f"p999_abs is {self.p999_abs} and max_abs {self.max_abs}; expected the percentile's limit to be no "
                "larger: it would limit nothing"
            )
        if self.small is not None and self.small.small is not None:
            raise ValueError("small has limits for small flows itself; expected one level")


_FP32 = Limits(max_abs=1e-4, psnr_db=90.0)
_LOW = Limits(max_abs=0.05, psnr_db=58.0)


@dataclass(frozen=True, kw_only=True)
class LimitsOptions:
    """What passes, by graph and precision of the file: max_abs, psnr_db, and p999_abs, ssim, flicker where given.

    `small` has the limits for feeds whose flow is at most 16 px, for graphs that take a flow.
    """

    contextnet_fp32: Limits = _FP32
    contextnet_fp16: Limits = _LOW
    contextnet_bf16: Limits = _LOW
    unet_fp32: Limits = _FP32
    unet_fp16: Limits = _LOW
    unet_bf16: Limits = _LOW
    refine_fp32: Limits = _FP32
    refine_fp16: Limits = _LOW
    refine_bf16: Limits = _LOW
    interpolator_fp32: Limits = _FP32
    interpolator_fp16: Limits = _LOW
    interpolator_bf16: Limits = _LOW
    interpolator_m_fp32: Limits = _FP32
    interpolator_m_fp16: Limits = _LOW
    interpolator_m_bf16: Limits = _LOW

    def of(self, graph: GraphName, precision: FilePrecision) -> Limits:
        """The limits of a file."""
        limits: Any = getattr(self, limits_name(graph, precision))
        assert isinstance(limits, Limits)
        return limits


def limits_name(graph: GraphName, precision: FilePrecision) -> str:
    """`refine_fp16`"""
    return f"{graph}_{precision}"
