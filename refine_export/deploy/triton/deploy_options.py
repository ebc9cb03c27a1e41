"""Options of `deploy triton`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from refine_export.errors import RecipeError
from refine_export.signature import parse_size

DEFAULT_SIZES = ("256x448", "1088x1920")
"""Sizes at which a dynamic file is warmed up: the size of Vimeo-90K, and Full HD."""
DEFAULT_BATCH = 8
"""`max_batch_size` of a file that takes any batch."""
MAX_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """How Triton serves the artifacts."""

    backend: Literal["auto", "python"] = "auto"
    """auto: plans by `tensorrt`, ONNX files by `onnxruntime`; python: ONNX files by ONNX Runtime in Python."""
    accelerator: Literal["none", "cuda", "tensorrt"] | None = None
    """What ONNX Runtime's backend computes with on a GPU; default: cuda, or none where the device is a CPU."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """gpu, cpu, or auto: a GPU where the server has one."""
    instances: int = 1
    """Copies of each network on each device."""
    max_batch: int | None = None
    """Pairs that the server may batch; default: the profile's largest, 8 for ONNX files with a free batch."""
    preferred: tuple[int, ...] = ()
    """Batch sizes that are sent off at once; default: the one that a plan was tuned for, if above 1."""
    delay_us: int = 1000
    """Longest time that a request waits for others to be batched with, in microseconds."""
    sizes: tuple[str, ...] = ()
    """HxW to warm up at; default: the file's own size, or 256x448 and 1088x1920 as far as it takes them."""
    version_policy: str = "latest"
    """Versions that are served: latest, all, or the number of one."""
    graph_level: int = 0
    """ONNX Runtime's optimizations as its backend counts them: 0 all, 1 extended, -1 basic, 2 none."""
    threads: int = 0
    """Threads within an operator of ONNX Runtime on a CPU; 0: one per core."""
    io: Literal["fp32", "fp16"] | None = None
    """Type of the images of plans whose manifest does not have it."""
    ensemble: bool = True
    """Add the ensemble `interpolate` (pictures in, a picture out) where there is an interpolator."""

    def __post_init__(self) -> None:
        policy = self.version_policy
        check_choice("backend", self.backend, ("auto", "python"))
        check_choice("accelerator", self.accelerator, (None, "none", "cuda", "tensorrt"))
        check_choice("device", self.device, ("auto", "gpu", "cpu"))
        check_choice("io", self.io, (None, "fp32", "fp16"))
        check_range("instances", self.instances, 1, 64)
        check_range("max_batch", self.max_batch, 1, MAX_BATCH)
        check_range("delay_us", self.delay_us, 0, 10_000_000)
        check_range("threads", self.threads, 0, 1024)
        check_choice("graph_level", self.graph_level, (0, 1, -1, 2))
        if policy not in ("latest", "all") and not (policy.isascii() and policy.isdecimal() and policy[0] != "0"):
            raise bad_option("version_policy", policy, "latest, all, or the number of a version")
        if self.device == "cpu" and self.accelerator not in (None, "none"):
            raise bad_option("accelerator", self.accelerator, "none where device is cpu")
        for size in self.sizes:
            try:
                parse_size(size)
            except ValueError as error:
                raise RecipeError(f"sizes: {error}", code="bad-option", option="sizes") from error


def bad_option(name: str, value: Any, expected: str) -> RecipeError:
    """Return the error for an option whose value is not allowed."""
    return RecipeError(f"{name} is {value!r}; expected {expected}", code="bad-option", option=name)


def check_range(name: str, value: int | None, low: int, high: int) -> None:
    """Raise `bad-option` unless a number is None or from `low` to `high`."""
    if value is not None and not low <= value <= high:
        raise bad_option(name, value, f"{low} to {high}")


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise `bad-option` unless a value is one of the choices."""
    if value not in choices:
        raise bad_option(name, value, ", ".join(str(choice) for choice in choices if choice is not None))
