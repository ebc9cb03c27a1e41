"""Options of the lowering."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from refine_export.signature import check_sizes_option, parse_size

Precision = Literal["fp16", "bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class LowerOptions:
    """Options of lowering FP32 ONNX to strongly typed FP16 ONNX."""

    precision: Precision = field(default="fp16", metadata={"flag": "--precision"})
    """fp16, or bf16 (opset 22; transposed convolutions stay FP16), or fp32 to change only the samplers."""
    io: Literal["fp32", "fp16"] = field(default="fp32", metadata={"flag": "--io"})
    """Type of images and of other planes at the file's inputs and outputs; flows and the timestep are always FP32."""
    gridsample: Literal["native", "gather"] = field(default="native", metadata={"flag": "--gridsample"})
    """gather writes each GridSample out in Gather and arithmetic, for runtimes that sample wrongly."""
    tune: Literal["none", "cpu"] = field(default="none", metadata={"flag": "--tune"})
    """cpu, with precision = fp32, rewrites what ONNX Runtime computes slowly on a CPU."""
    fp32_tail: bool = True
    """Keep the nodes after the last convolution (sigmoid, residual, blend) in FP32."""
    target_psnr_db: float | None = field(default=None, metadata={"flag": "--target-psnr", "metavar": "DB"})
    """Keep the cheapest set of regions in FP32 with which every feed reaches this PSNR."""
    max_error: float | None = field(default=None, metadata={"flag": "--max-error", "metavar": "E"})
    """The same by the largest error, in units of the peak."""

    sizes: tuple[str, ...] = field(
        default=(), metadata={"flag": "--sizes", "metavar": "HxW", "keyword": "target_sizes"}
    )
    """HEIGHTxWIDTH where the target has to hold too, beside the size of the calibration; for a file of free sizes."""

    def __post_init__(self) -> None:
        check_sizes_option("sizes", self.sizes)
        if self.sizes and not self.searches:
            raise ValueError("sizes are given without a target; expected target_psnr_db or max_error as well")
        if self.target_psnr_db is not None and not 0 < self.target_psnr_db < 400:
            raise ValueError(f"target_psnr_db is {self.target_psnr_db}; expected decibels between 0 and 400")
        if self.max_error is not None and not 0 < self.max_error < 1:
            raise ValueError(f"max_error is {self.max_error}; expected a number between 0 and 1")
        if self.precision == "fp32" and self.searches:
            raise ValueError("precision is fp32, where there is nothing to search for: expected no target")
        if self.precision == "fp32" and self.io == "fp16":
            raise ValueError("precision is fp32, with io = fp16; expected io = fp32")
        if self.tune == "cpu" and self.precision != "fp32":
            raise ValueError(f"tune is cpu, with precision = {self.precision}; expected precision = fp32")

    @property
    def searches(self) -> bool:
        """Whether FP32 regions are to be searched for."""
        return self.target_psnr_db is not None or self.max_error is not None

    @property
    def sorted_sizes(self) -> tuple[str, ...]:
        """The sizes, each once, smallest first."""
        return tuple(sorted(dict.fromkeys(self.sizes), key=lambda size: math.prod(parse_size(size))))


def lowered_suffix(options: LowerOptions) -> str:
    """Return the part of a lowered file's name between its graph and `.onnx`: `fp16`, `fp16.gather`, `fp32.cpu`."""
    parts = (options.precision, "gather" if options.gridsample == "gather" else "", options.tune.replace("none", ""))
    return ".".join(filter(None, parts))
