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

    def axis(size: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return linspace(-1, 1, size), and (size - 1) / 2; `length` is the traced size, used only for the shape."""
        zero, one = torch.zeros(()), torch.ones(())
        # FP32 counts pixels exactly, to 2**24; (2i - last) is exact too, so each value is rounded once.
        pixels: Tensor = symbolic("Range", (zero, size, one), dtype=torch.float32, shape=(length,), version=OPSET)
        last = size - 1.0
        return (pixels * 2.0 - last) / last, last / 2.0

    def size_free_warp(image: Tensor, flow: Tensor) -> Tensor:
        height, width = flow.shape[-2:]
        shape: Tensor = symbolic("Shape", (flow,), dtype=torch.int64, shape=(4,), version=OPSET)
        sizes = shape.to(torch.float32)
        column, half_width = axis(sizes[3], width)
        row, half_height = axis(sizes[2], height)
        x = column + flow[:, 0] / half_width
        y = row.unsqueeze(-1) + flow[:, 1] / half_height
        grid = torch.stack((x, y), dim=-1)
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


def check_same(graph: str, first: ir.Model, second: ir.Model) -> None:
    """Check that two traces are one graph, and forget the sizes of both.

    Postcondition: the same operators, attributes and constants, joined in the same way.

    Raises:
        InternalError: a node or a constant depends on the traced size.
    """
    for model in (first, second):
        for node in model.graph:
            for value in node.outputs:
                value.shape = None
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
