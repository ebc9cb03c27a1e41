"""Options of the validation: runtimes, feeds and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refine_export.accuracy.limits import LimitsOptions
from refine_export.data.frame_options import FLOW_KINDS, FlowKind
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.runners.runtime_names import Runtime
from refine_export.signature import check_sizes_option, fitting_size

FEWEST_ROUNDS = 5
"""Lower bound of the rounds of a latency, below which its spread is not known."""


@dataclass(frozen=True, kw_only=True)
class ValidateOptions(EngineRunOptions):
    """Options of the comparison with the reference: runtimes, feeds and limits."""

    runtimes: tuple[Runtime, ...] = field(default=(), metadata={"flag": "--runtime"})
    """Runtimes of each ONNX file: onnxruntime-cpu, onnxruntime-cuda, onnxruntime-tensorrt, onnxruntime-rtx (TensorRT
    for RTX, a plugin), half (strict FP16 on a CPU). By default FP32 files are run by onnxruntime-cpu and others by
    half, because ONNX Runtime computes FP16 in FP32 on a CPU. Engines are run by TensorRT."""
    reference: Literal["float32", "float64"] = "float32"
    """Type of the torch reference's arithmetic, on the original weights."""
    flows: tuple[FlowKind, ...] = FLOW_KINDS
    """Kinds of flows for the graphs that take one."""
    timesteps: tuple[float, ...] = (0.5, 0.2)
    """Timesteps for an interpolator that takes one, each in (0, 1); the default shows one that is fixed or counted
    backwards."""
    sizes: tuple[str, ...] = field(default=("1088x1920",), metadata={"flag": "--size", "metavar": "HxW"})
    """HEIGHTxWIDTH, multiples of the network's padding, at which a dynamic file is compared beside the size of the
    frames and a small batch of two (2x96x160, padded), which always are."""
    share: float = 1.0
    """Share of the feeds of one file in one runtime at one size that have to pass."""
    may_fail: int | None = None
    """Upper bound of the feeds that may fail; default: only the share counts."""
    ssim: bool = False
    """Measure SSIM of pictures too, which needs scikit-image; a limit of SSIM measures it in any case."""
    latency: int = field(default=0, metadata={"flag": "--latency", "metavar": "ROUNDS"})
    """Rounds in which each file and the reference are timed in turn on the first feed; 0 for none, or 5 and more."""
    limits: LimitsOptions = field(default_factory=LimitsOptions)
    """Limits by graph and precision."""

    def sizes_at(self, multiple_of: int) -> list[tuple[int, int]]:
        """Return heights and widths for a network's padding.

        Raises:
            RequestError: `wrong-size`; one that the user gave does not fit it.
        """
        default = self.sizes == ValidateOptions.sizes
        return [fitting_size(size, multiple_of, default=default) for size in self.sizes]

    def __post_init__(self) -> None:
        for name in ("runtimes", "flows", "timesteps"):
            values = getattr(self, name)
            if not values and name != "runtimes":
                raise ValueError(f"{name} is empty; expected one or more")
            if len(set(values)) != len(values):
                raise ValueError(f"{name} has the same value twice; expected each once")
        for timestep in self.timesteps:
            if not 0 < timestep < 1:
                raise ValueError(f"timesteps has {timestep}; expected numbers between 0 and 1")
        check_sizes_option("sizes", self.sizes)
        if self.latency and self.latency < FEWEST_ROUNDS:
            raise ValueError(f"latency is {self.latency}; expected {FEWEST_ROUNDS} rounds or more, or 0 for none")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; expected a number above 0, to 1")
        if self.may_fail is not None and self.may_fail < 0:
            raise ValueError(f"may_fail is {self.may_fail}; expected 0 or more")
