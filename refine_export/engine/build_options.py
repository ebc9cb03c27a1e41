"""What an engine is built for; there is no precision here, because precision is in the ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refine_export.signature import parse_size

Rung = Literal["native", "unfused", "gather", "fp32"]
RUNGS: tuple[Rung, ...] = ("native", "unfused", "gather", "fp32")

LARGEST_BATCH = 256
LARGEST = 2**31 - 1
"""Of all numbers: TensorRT's are of 32 bits, and MiB and seconds of this size are none that anyone has."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How ONNX files become TensorRT engines."""

    min_size: str | None = None
    """Smallest HEIGHTxWIDTH of a dynamic file's engine, multiples of 32; without it, `opt_size`."""
    opt_size: str = "1088x1920"
    """The size that a dynamic file's engine is tuned for."""
    max_size: str | None = None
    """Largest HEIGHTxWIDTH; without it, `opt_size`."""
    min_batch: int = 1
    """Smallest batch of a dynamic file's engine."""
    opt_batch: int = 1
    """The batch that it is tuned for."""
    max_batch: int = 1
    """Largest batch."""
    workspace_mib: int | None = None
    """Scratch memory that a layer may use; without it, all of the GPU's."""
    optimization_level: int = 3
    """0 to 5: how long TensorRT looks for faster kernels; 0 ignores the timing cache."""
    tf32: bool = False
    """FP32 layers may round their inputs to TF32 (10 bits of mantissa), which coordinates do not survive."""
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    """Other GPUs that the engine runs on, at some cost of speed."""
    version_compatible: bool = False
    """The engine runs on newer TensorRT (10 to 11, never back), with a lean runtime inside; costs speed."""
    exclude_lean_runtime: bool = False
    """Leave the lean runtime out of a version-compatible engine; the host then needs its own."""
    strip_weights: bool = False
    """Leave the weights out (they come back by a refit with the same ones)."""
    refittable: bool = False
    """Weights can be replaced by those of another checkpoint; costs speed, and takes one profile only."""
    verbosity: Literal["detailed", "layer_names_only"] = "detailed"
    """What the inspector can tell of layers; the proof of precision needs `detailed`."""
    tiling_level: Literal["none", "fast", "moderate", "full"] = "none"
    """How hard TensorRT looks for tilings that keep data on the chip."""
    aux_streams: int | None = None
    """Streams beside the main one; without it, TensorRT's own choice."""
    timing_cache: str | None = None
    """Folder of timing caches; without it, beside the engine."""
    time_limit_s: int = 3600
    """After which the build of a rung is stopped."""
    memory_limit_mib: int | None = None
    """Host memory that the build's process may take; without it, no limit."""
    rung: Literal["auto", "native", "unfused", "gather", "fp32"] = "auto"
    """Which lowering of the samplers; auto takes the first that is exact enough."""

    def __post_init__(self) -> None:
        sizes = [(name, getattr(self, name)) for name in ("min_size", "opt_size", "max_size")]
        for name, size in sizes:
            try:
                if size is not None:
                    parse_size(size)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        low, opt, high = (parse_size(size or self.opt_size) for _, size in sizes)
        if not all(one <= other <= another for one, other, another in zip(low, opt, high, strict=True)):
            raise ValueError(
                f"min_size {low[0]}x{low[1]}, opt_size {opt[0]}x{opt[1]}, max_size {high[0]}x{high[1]} are not "
                "ascending; expected min <= opt <= max for height and for width"
            )
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch <= LARGEST_BATCH:
            raise ValueError(
                f"min_batch {self.min_batch}, opt_batch {self.opt_batch}, max_batch {self.max_batch} are not "
                f"batches; expected 1 <= min <= opt <= max <= {LARGEST_BATCH}"
            )
        if not 0 <= self.optimization_level <= 5:
            raise ValueError(f"optimization_level is {self.optimization_level}; expected 0 to 5")
        for name in ("workspace_mib", "memory_limit_mib", "time_limit_s"):
            if (value := getattr(self, name)) is not None and not 1 <= value <= LARGEST:
                raise ValueError(f"{name} is {value}; expected 1 to {LARGEST}")
        if self.aux_streams is not None and not 0 <= self.aux_streams <= LARGEST:
            raise ValueError(f"aux_streams is {self.aux_streams}; expected 0 to {LARGEST}")
        if self.exclude_lean_runtime and not self.version_compatible:
            raise ValueError("exclude_lean_runtime is true; expected it with version_compatible = true only")
        if self.version_compatible and (self.strip_weights or self.refittable):
            raise ValueError(
                "version_compatible is true with strip_weights or refittable; expected one or the other: the lean "
                "runtime, which runs such an engine, can't refit it"
            )
        if self.strip_weights and self.refittable:
            raise ValueError("strip_weights and refittable are both true; expected one of them")
