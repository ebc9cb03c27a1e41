"""Options of `deploy triton`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refine_export.signature import check_range, check_sizes_option

DEFAULT_SIZES = ("256x448", "1088x1920")
"""Sizes at which a dynamic file is warmed up: the size of Vimeo-90K, and Full HD."""
DEFAULT_BATCH = 8
"""`max_batch_size` of a file that takes any batch."""
MAX_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """Options of a Triton model repository."""

    backend: Literal["auto", "python"] = field(default="auto", metadata={"flag": "--backend"})
    """auto: engines by `tensorrt`, ONNX files by `onnxruntime`; python: ONNX files by ONNX Runtime in Python."""
    accelerator: Literal["none", "cuda", "tensorrt"] | None = field(default=None, metadata={"flag": "--accelerator"})
    """Accelerator of ONNX Runtime's backend on a GPU; default: cuda, or none where the device is a CPU."""
    device: Literal["auto", "gpu", "cpu"] = field(default="auto", metadata={"flag": "--device"})
    """gpu, cpu, or auto: a GPU where the server has one."""
    instances: int = field(default=1, metadata={"flag": "--instances"})
    """Copies of each network on each device."""
    max_batch: int | None = field(default=None, metadata={"flag": "--max-batch"})
    """Pairs that the server may batch; default: the profile's largest, 8 for ONNX files with a free batch."""
    delay_us: int = field(default=1000, metadata={"flag": "--delay-us"})
    """Longest time that a request waits for others to be batched with, in microseconds."""
    sizes: tuple[str, ...] = field(default=(), metadata={"flag": "--size", "metavar": "HxW"})
    """HxW to warm up at; default: the file's own size, or 256x448 and 1088x1920 as far as it takes them."""
    version_policy: str = field(default="latest", metadata={"flag": "--version-policy"})
    """Versions that are served: latest, all, or the number of one."""
    threads: int = field(default=0, metadata={"flag": "--threads"})
    """Threads within an operator of ONNX Runtime on a CPU; 0: one per core."""
    ensemble: bool = field(default=True, metadata={"flag": "--ensemble/--no-ensemble"})
    """Add the ensemble `interpolate` (pictures in, a picture out) where there is an interpolator."""

    def __post_init__(self) -> None:
        policy = self.version_policy
        check_range("instances", self.instances, 1, 64)
        check_range("max_batch", self.max_batch, 1, MAX_BATCH)
        check_range("delay_us", self.delay_us, 0, 10_000_000)
        check_range("threads", self.threads, 0, 1024)
        if policy not in ("latest", "all") and not (policy.isascii() and policy.isdecimal() and policy[0] != "0"):
            raise ValueError(f"version_policy is {policy!r}; expected latest, all, or the number of a version")
        if self.device == "cpu" and self.accelerator not in (None, "none"):
            raise ValueError(f"accelerator is {self.accelerator!r}, and device is cpu; expected no accelerator")
        check_sizes_option("sizes", self.sizes)
