"""What the fake is told to be, and the calls that can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx
import tensorrt_rtx as rtx

Shape = tuple[int, ...]
CALLS = frozenset(
    """
    create_network create_builder_config create_optimization_profile add_optimization_profile
    create_timing_cache set_timing_cache build_serialized_network deserialize_cuda_engine
    create_execution_context set_input_shape infer_shapes set_tensor_address execute_async_v3
    set_optimization_profile_async refit_from_bytes refit_cuda_engine
    """.split()  # noqa: SIM905
)
"""What `Behaviour.failing` takes: these then give None, False or -1 with a line in the log, or raise RuntimeError."""


@dataclass(kw_only=True)
class Behaviour:
    """What this TensorRT is like, and what goes wrong in it."""

    version: str = "11.4.0"
    """`tensorrt.__version__`; its first number chooses between the forms of the inspector."""
    compute_capability: tuple[int, int] = (9, 0)
    gpu: bool = True
    """Without, `Builder` and `Runtime` raise TypeError as enterprise TensorRT's do."""
    failing: set[str] = field(default_factory=set)
    """Names out of `CALLS`."""
    knows_linear: bool = False
    """The parser knows opset 20's GridSample mode `linear`; enterprise parsers silently stay at NEAREST."""
    dies: bool = False
    """The process gets SIGKILL in a build: for child processes."""
    convolutions: str | None = None
    """The type that the inspector reports for convolutions in place of the graph's, such as `FLOAT`."""
    wrong: str = ""
    """Engines that compute something else: `always`, `half` (with FP16 in them), `grid_sample`, or
    `fused_grid_sample` (with one whose output is neither an output nor a debug tensor)."""
    error: float = 0.25
    """What a wrong engine adds to its outputs."""
    module: Any = field(init=False, default=None)
    models: dict[int, tuple[Any, onnx.ModelProto]] = field(init=False, default_factory=dict)
    """Identity of a network -> the network, and what was parsed into it."""

    def __post_init__(self) -> None:
        self.failing = set(self.failing)
        if unknown := self.failing - CALLS:
            raise ValueError(f"failing has {sorted(unknown)}; expected names out of {sorted(CALLS)}")

    @property
    def numbers(self) -> Shape:
        return tuple(int(part) for part in self.version.split("."))

    def fails(self, call: str, logger: Any) -> bool:
        if call in self.failing:
            say(logger, f"{call}: Error Code 1: Fake Error (the test asked for it)")
        return call in self.failing


def say(logger: Any, text: str) -> None:
    """Log an error."""
    logger.log(rtx.ILogger.ERROR, text)


class IHostMemory(bytes):
    """A buffer and no more."""

    nbytes = property(bytes.__len__)

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise TypeError("object of type 'IHostMemory' has no len()")

    def __getitem__(self, index: Any, /) -> Any:
        raise TypeError("'IHostMemory' object is not subscriptable")

    def __iter__(self) -> Any:
        raise TypeError("'IHostMemory' object is not iterable")
