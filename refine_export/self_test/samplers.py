"""The samplers of a graph: GridSample nodes, and what `gather_sampler.py` writes in their place.

for sampler in samplers(model.graph):
    print(sampler.node.name, sampler.grid.name)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from refine_export.graph.operator_types import is_op
from refine_export.graph.sampling_coordinates import grids, size_values, upstream


class UnknownSamplerError(Exception):
    """A sampler is written out in a form that `gather_sampler.py` does not write."""

    def __init__(self, node: ir.Node) -> None:
        super().__init__(f"the sampler at {node.op_type} {node.name!r} is written out in a form of another tool")


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Where a graph samples by one grid."""

    node: ir.Node
    """GridSample, or the Clip that its Gather form begins with."""
    grid: ir.Value
    """Normalised coordinates [N, H, W, 2]; [N, P, 2] of a Gather form."""
    grid_index: int
    """Index of the grid among the node's inputs."""
    positions: tuple[tuple[ir.Value, ir.Value, ir.Value], ...] = ()
    """Gather form: position in pixels, grid + 1, and (size - 1) / 2 along each axis; the first is the product."""
    fractions: tuple[ir.Value, ...] = ()
    """Gather form: position - floor(position) along each axis."""
    corners: tuple[ir.Value, ...] = ()
    """Gather form: the pixels [N, P, C] that it mixes."""


def samplers(graph: ir.Graph) -> list[Sampler]:
    """Find all samplers of a graph, in order; a Gather form that samples several images by one grid is one sampler.

    Raises:
        UnknownSamplerError: one is written out in another form.
    """
    native: list[Sampler] = []
    written: dict[ir.Node, list[ir.Node]] = {}
    for node, grid in grids(graph).items():
        if is_op(node, "GridSample"):
            native.append(Sampler(node=node, grid=grid, grid_index=1))
            continue
        clip = next((maker for value in upstream(grid) if _is_border(maker := value.producer())), None)
        if clip is None or not is_op(node, "GatherND"):
            raise UnknownSamplerError(node)
        written.setdefault(clip, []).append(node)
    sizes = size_values(graph) if written else set()
    return native + [_written_out(clip, gathers, sizes) for clip, gathers in written.items()]


def _is_border(node: ir.Node | None) -> bool:
    """Return whether a node clips a grid to [-1, 1], as border padding does first."""
    if node is None or not is_op(node, "Clip") or len(node.inputs) != 3:
        return False
    bounds = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs[1:]]
    return all(
        tensor is not None and np.array_equal(tensor.numpy(), bound)
        for tensor, bound in zip(bounds, (-1, 1), strict=True)
    )


def _written_out(clip: ir.Node, gathers: list[ir.Node], sizes: set[ir.Value]) -> Sampler:
    """Follow the indices of the Gathers back to the positions that they round."""
    grid = clip.inputs[0]
    assert grid is not None, "not optional in ONNX"
    positions: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]] = {}
    fractions: dict[ir.Value, None] = {}
    for gather in gathers:
        for value in upstream(gather.inputs[1]):
            floor = value.producer()
            if floor is None or not is_op(floor, "Floor") or (position := floor.inputs[0]) is None:
                continue
            positions[position] = _product(gather, position, sizes)
            for reader, _ in position.uses():
                if is_op(reader, "Sub") and tuple(reader.inputs) == (position, value):
                    fractions[reader.outputs[0]] = None
    return Sampler(
        node=clip,
        grid=grid,
        grid_index=0,
        positions=tuple(positions.values()),
        fractions=tuple(fractions),
        corners=tuple(gather.outputs[0] for gather in gathers),
    )


def _product(gather: ir.Node, position: ir.Value, sizes: set[ir.Value]) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return a position and its two factors.

    Raises:
        UnknownSamplerError: the position is not a product of coordinates and a size.
    """
    maker = position.producer()
    if maker is not None and is_op(maker, "Mul"):
        shifted, half = maker.inputs
        if shifted is not None and half is not None and (half.const_value is not None or half in sizes):
            return position, shifted, half
    raise UnknownSamplerError(gather)
