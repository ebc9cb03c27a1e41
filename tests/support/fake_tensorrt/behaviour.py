"""What the fake is told to be, and the calls that can fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .callbacks import ILogger, say

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
    """`tensorrt.__version__`; its first number chooses between the two APIs."""
    compute_capability: tuple[int, int] = (9, 0)
    gpu: bool = True
    """Without, `Builder`, `Runtime` and `Refitter` raise TypeError as the bindings do."""
    failing: set[str] = field(default_factory=set)
    """Names out of `CALLS`."""
    parser_errors: Sequence[Mapping[str, Any]] = ()
    """Errors of the ONNX parser: mappings of `code` (a name), `desc`, `node`, `name`, `operator`, all optional."""
    knows_linear: bool = False
    """The parser knows opset 20's GridSample mode "linear"; without, it silently stays at NEAREST."""
    grid_sample: Mapping[str, Any] = field(default_factory=dict)
    """What the parser gets wrong: attribute -> value, such as `{"interpolation_mode": "NEAREST"}`."""
    frozen: Sequence[str] = ()
    """GridSample attributes that keep their value when they are set."""
    build_log: Sequence[tuple[str, str]] = ()
    """Severity and text of lines that each build logs."""
    build_seconds: float = 0.0
    """Spread over the steps of the progress monitor."""
    dies_at_step: int | None = None
    """The process gets SIGKILL in this step: for child processes."""
    convolutions: str | None = None
    """The type that the inspector reports for convolutions in place of the graph's, such as `FLOAT`."""
    edit_layers: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
    """The last word on the inspector's list of layers."""
    wrong: str = ""
    """Engines that compute something else: `always`, `half` (with FP16 in them), `grid_sample`, or
    `fused_grid_sample` (with one whose output is neither an output nor a debug tensor)."""
    error: float = 0.25
    """What a wrong engine adds to its outputs."""
    module: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.failing = set(self.failing)
        if unknown := self.failing - CALLS:
            raise ValueError(f"failing has {sorted(unknown)}; expected names out of {sorted(CALLS)}")

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    @property
    def major(self) -> int:
        return min(max(self.numbers[0], 10), 11)

    def fails(self, call: str, logger: ILogger) -> bool:
        if call in self.failing:
            say(logger, "ERROR", f"{call}: Error Code 1: Fake Error (the test asked for it)")
        return call in self.failing
