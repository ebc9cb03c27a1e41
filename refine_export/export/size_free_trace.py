"""Trace without a dependence on the size, and check that two traces are one graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from refine_export.errors import InternalError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.overrides import TorchFunctionMode

OPSET = 18
"""The newest opset whose GridSample states `bilinear`; from 20 it is `linear`, which TensorRT reads as nearest."""


def size_free() -> TorchFunctionMode:
    """Return a mode in which `warp` and `interpolate` trace to operators that ask for their size at run time."""
    import torch  # imported here, as in the networks: this module is imported where torch is missing
    from torch.nn.functional import grid_sample, interpolate
    from torch.onnx.ops import symbolic
    from torch.overrides import TorchFunctionMode

    from rife.warplayer import warp

    def operator(op_type: str, shape: tuple[int, ...], *inputs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        result: Tensor = symbolic(op_type, inputs, dtype=dtype, shape=shape, version=OPSET)
        return result

    def size_free_warp(image: Tensor, flow: Tensor) -> Tensor:
        sizes = operator("Shape", (4,), flow, dtype=torch.int64).to(torch.float32)
        starts = 1.0 - sizes
        # FP32 counts pixels exactly, to 2**24, so that each value of linspace(-1, 1, size) is rounded once.
        rows, columns = (
            operator("Range", (flow.shape[axis],), starts[axis], sizes[axis], torch.tensor(2.0)) for axis in (2, 3)
        )
        start = starts.index_select(0, torch.tensor([3, 2])).reshape(1, 1, 1, 2)  # of x and y
        x = columns.unsqueeze(-1) * torch.tensor([[[[-1.0, 0.0]]]]) / start
        y = rows.unsqueeze(-1).unsqueeze(-1) * torch.tensor([[[[0.0, -1.0]]]]) / start
        # Turned first, then moved as a whole: TensorRT makes one layer of each step, and one kernel of all.
        grid = flow.permute(0, 2, 3, 1) / (start / -2.0) + x + y
        return grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)

    def size_free_interpolate(x: Tensor, *, scale_factor: float, **how: Any) -> Tensor:
        if {name: value for name, value in how.items() if value} != {"mode": "bilinear"}:
            raise InternalError(
                f"interpolate with {how} has no form without sizes; only the networks' own has",
                code="unsupported-interpolation",
            )
        batch, channels, height, width = x.shape
        scales = torch.tensor([1.0, 1.0, scale_factor, scale_factor])
        resized: Tensor = symbolic(
            "Resize",
            (x, None, scales),
            {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
            dtype=x.dtype,
            shape=(batch, channels, int(height * scale_factor), int(width * scale_factor)),
            version=OPSET,
        )
        return resized

    replacements = {warp: size_free_warp, interpolate: size_free_interpolate}

    class SizeFree(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            return replacements.get(func, func)(*args, **(kwargs or {}))

    return SizeFree()


def share_sizes(graph: ir.Graph) -> None:
    """Let each Shape read the first value of its height and width, so that samplers of one size share their grid.

    Of two traces, `check_same` finds those that are of one size in one trace alone.
    """
    first: dict[tuple[object, ...], ir.Value] = {}
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.shape is not None and len(value.shape) == 4:
            first.setdefault(tuple(value.shape)[2:], value)
    for node in graph:
        source = node.inputs[0] if node.op_type == "Shape" else None
        if source is not None and source.shape is not None:
            node.replace_input_with(0, first[tuple(source.shape)[2:]])


def check_same(graph: str, first: ir.Model, second: ir.Model) -> None:
    """Check that two traces are one graph, and forget the sizes of the first in which they differ.

    Postcondition: the same operators, attributes and constants, joined in the same way.

    Raises:
        InternalError: a node or a constant depends on the traced size.
    """
    ours, theirs = _fingerprints(first.graph), _fingerprints(second.graph)
    different = next((name for (name, one), (_, other) in zip(ours, theirs, strict=False) if one != other), None)
    if different is None and len(ours) != len(theirs):
        different = "the number of nodes"
    if different is not None:
        raise InternalError(
            f"{graph} cannot be exported with dynamic sizes: {different} depends on the traced size",
            code="baked-size",
            graph=graph,
        )
    for node, same in zip(first.graph, second.graph, strict=True):
        for value, other in zip(node.outputs, same.outputs, strict=True):
            if value.shape is not None and other.shape is not None:
                pairs = zip(value.shape, other.shape, strict=True)
                value.shape = ir.Shape([size if size == again else None for size, again in pairs])


def _fingerprints(graph: ir.Graph) -> list[tuple[str, object]]:
    """Return each constant and node, with all that makes its meaning."""
    constants = [
        (f"the constant {name}", (name, _content(value.const_value))) for name, value in graph.initializers.items()
    ]
    nodes = [
        (
            f"the node {node.name}",
            (
                (node.domain, node.op_type),
                tuple(value and value.name for value in node.inputs),
                tuple(value.name for value in node.outputs),
                tuple((key, _content(attribute.value)) for key, attribute in node.attributes.items()),
            ),
        )
        for node in graph
    ]
    return [*constants, *nodes, ("the order of the outputs", tuple(value.name for value in graph.outputs))]


def _content(value: Any) -> object:
    """Return the content of a tensor; any other value as it is."""
    return (value.dtype, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value
