"""How artifacts are served by Triton, as the command line gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from refine_export.errors import RequestError
from refine_export.signature import parse_size

DEFAULT_SIZES = ("256x448", "1088x1920")
"""What a dynamic file is warmed up at: the size of Vimeo-90K, and Full HD."""
DEFAULT_BATCH = 8
"""The largest of a file that takes any."""
MOST_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """How artifacts are served."""

    backend: Literal["auto", "python"] = "auto"
    """auto: plans by `tensorrt`, ONNX files by `onnxruntime`. python: ONNX files by ONNX Runtime in Python."""
    accelerator: Literal["none", "cuda", "tensorrt"] | None = None
    """What ONNX Runtime's backend computes with on a GPU. Default: cuda, and none where the device is a CPU."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """auto: a GPU where the server has one."""
    instances: int = 1
    """Copies of each network, on each device."""
    max_batch: int | None = None
    """Pairs that the server may join. Default: the profile's largest; 8 for ONNX files with a free batch."""
    preferred: tuple[int, ...] = ()
    """Batches that are sent off at once. Default: what a plan was tuned for, if that is more than one."""
    delay_us: int = 1000
    """How long a request may wait for others, in microseconds."""
    sizes: tuple[str, ...] = ()
    """HxW that ship: what is warmed up. Default: the file's own, or those of `DEFAULT_SIZES` that it takes."""
    version_policy: str = "latest"
    """latest, all, or the number of the version that is served."""
    graph_level: int = 0
    """Of ONNX Runtime, as its backend counts: 0 all optimizations, 1 extended, -1 basic, 2 none."""
    threads: int = 0
    """Within an operator, of ONNX Runtime on a CPU; 0 for as many as there are cores."""
    io: Literal["fp32", "fp16"] | None = None
    """Type of the images of plans whose manifest does not say it."""
    ensemble: bool = True
    """`interpolate` as well, where there is an interpolator."""

    def __post_init__(self) -> None:
        checks = {
            "instances": (1 <= self.instances <= 64, "1 to 64"),
            "max_batch": (self.max_batch is None or 1 <= self.max_batch <= MOST_BATCH, f"1 to {MOST_BATCH}"),
            "delay_us": (0 <= self.delay_us <= 10_000_000, "0 to 10000000 (ten seconds)"),
            "graph_level": (self.graph_level in (-1, 0, 1, 2), "0, 1, -1 or 2"),
            "threads": (0 <= self.threads <= 1024, "0 to 1024"),
            "version_policy": (
                self.version_policy in ("latest", "all")
                or (
                    self.version_policy.isascii() and self.version_policy.isdecimal() and self.version_policy[0] != "0"
                ),
                "latest, all, or the number of a version",
            ),
        }
        for name, known in (
            ("backend", ("auto", "python")),
            ("accelerator", (None, "none", "cuda", "tensorrt")),
            ("device", ("auto", "gpu", "cpu")),
            ("io", (None, "fp32", "fp16")),
        ):
            checks[name] = getattr(self, name) in known, ", ".join(str(one) for one in known if one)
        for name, (right, expected) in checks.items():
            if not right:
                raise RequestError(f"{name} is {getattr(self, name)!r}; expected {expected}")
        if self.device == "cpu" and self.accelerator not in (None, "none"):
            raise RequestError(f"accelerator is {self.accelerator}, and device cpu; expected a GPU, or no accelerator")
        for size in self.sizes:
            size_from_text(size)


def triton_options(**given: Any) -> TritonOptions:
    """The options from values that are checked here alone, as a command line has them.

    Raises:
        RequestError: a value that is not allowed.
    """
    return TritonOptions(**given)


def size_from_text(text: str) -> tuple[int, int]:
    """`1088x1920` to height and width.

    Raises:
        RequestError: not of this form, or no multiples of the stride.
    """
    try:
        return parse_size(text)
    except ValueError as error:
        raise RequestError(str(error)) from error
