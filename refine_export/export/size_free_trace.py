"""Trace without a dependence on the size, and check that two traces are one graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from refine_export.errors import InternalError
from refine_export.export.size_free_operators import DOMAIN
from refine_export.signature import Signature
from refine_export.support.imports import require

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from torch.overrides import TorchFunctionMode


def trace(network: nn.Module, signature: Signature, batch: int, height: int, width: int) -> ExportedProgram:
    """Trace a graph's module at a size; each `warp`, `interpolate` and `clamp` is a placeholder of `DOMAIN`."""
    torch = require("torch", extra="torch")
    examples = tuple(torch.empty(spec.shape_at(batch, height, width)) for spec in signature.inputs)
    with torch.no_grad(), _placeholders():
        return torch.export.export(network, examples, strict=False)  # type: ignore[no-any-return]


def _placeholders() -> TorchFunctionMode:
    """Return a mode in which `warp`, `interpolate` and `clamp` trace to placeholders."""
    import torch  # imported here, as in the networks: this module is imported where torch is missing
    from torch.nn.functional import interpolate
    from torch.onnx.ops import symbolic
    from torch.overrides import TorchFunctionMode

    from rife.warplayer import warp

    def placeholder(op_type: str, inputs: tuple[Tensor, ...], shape: tuple[int, ...], **attributes: float) -> Tensor:
        result: Tensor = symbolic(f"{DOMAIN}::{op_type}", inputs, {**attributes}, dtype=torch.float32, shape=shape)
        return result

    def traced_warp(image: Tensor, flow: Tensor) -> Tensor:
        return placeholder("Warp", (image, flow), (*image.shape[:2], *flow.shape[2:]))

    def traced_interpolate(x: Tensor, *, scale_factor: float, **how: Any) -> Tensor:
        if {name: value for name, value in how.items() if value} != {"mode": "bilinear"}:
            raise InternalError(
                f"interpolate with {how} has no form without sizes; only the networks' own has",
                code="unsupported-interpolation",
            )
        sides = (int(side * scale_factor) for side in x.shape[2:])
        return placeholder("Resize", (x,), (*x.shape[:2], *sides), scale=float(scale_factor))

    def traced_clamp(x: Tensor, low: float, high: float) -> Tensor:
        return placeholder("Clip", (x,), tuple(x.shape), low=float(low), high=float(high))

    replacements = {
        warp: traced_warp,
        interpolate: traced_interpolate,
        torch.clamp: traced_clamp,  # torch translates it to Max and Min
        torch.Tensor.clamp: traced_clamp,
    }

    class Placeholders(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            return replacements.get(func, func)(*args, **(kwargs or {}))

    return Placeholders()


def check_same(graph: str, first: ExportedProgram, second: ExportedProgram) -> None:
    """Check that two traces of different sizes are one graph.

    They have the same operators, arguments and constants, joined in the same way, and what has one height and width
    (or one number of channels) in the first trace also has in the second.

    Raises:
        InternalError: something depends on the traced size.
    """
    torch = require("torch", extra="torch")
    sizes: dict[tuple[int, ...], tuple[int, ...]] = {}
    for (ours, shape), (theirs, other) in zip_longest(_steps(first), _steps(second), fillvalue=("the end", ())):
        same = ours == theirs and len(shape) == len(other)
        if len(shape) == 4:
            same = same and shape[1] == other[1] and sizes.setdefault(shape[2:], other[2:]) == other[2:]
        if not same:
            raise _baked(graph, ours)
    for name, value in first.constants.items():
        if not torch.equal(value, second.constants[name]):
            raise _baked(graph, f"the constant {name}")


def _baked(graph: str, what: str) -> InternalError:
    return InternalError(
        f"{graph} cannot be exported with dynamic sizes: {what} depends on the traced size",
        code="baked-size",
        graph=graph,
    )


def _steps(program: ExportedProgram) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each step of a program as text, and the shape of its result."""
    for node in program.graph.nodes:
        arguments = {name: value for name, value in node.kwargs.items() if name != "shape"}  # of a placeholder
        result = node.meta.get("val")
        yield f"{node.name} = {node.target} {node.args} {arguments}", tuple(getattr(result, "shape", ()))
