"""The samplers of a graph: GridSample nodes, and what `gather_sampler.py` writes in their place.

for sampler in samplers(model.graph):
    print(sampler.node.name, sampler.grid.name)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from refine_export.graph.operator_types import is_op
from refine_export.graph.sampling_coordinates import grids, upstream


class UnknownSamplerError(Exception):
    """A sampler is written out in a form that `gather_sampler.py` does not write."""

    def __init__(self, node: ir.Node) -> None:
        super().__init__(f"the sampler at {node.op_type} {node.name!r} is written out in a form of another tool")


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A place where a graph samples an image by a grid."""

    node: ir.Node
    """GridSample; of a Gather form the Reshape that its output comes from, [N, C, P] to [N, C, H, W]."""
    image: ir.Value
    grid: ir.Value
    """Normalised coordinates [N, H, W, 2]; those of a Gather form are FP32."""
    reader: ir.Node
    """GridSample, or the Transpose that a Gather form begins with."""
    native: bool
    """It is a GridSample."""


def samplers(graph: ir.Graph) -> list[Sampler]:
    """Find all samplers of a graph, in order.

    Raises:
        UnknownSamplerError: one is written out in another form.
    """
    found: dict[ir.Node, Sampler] = {}
    for node, grid in grids(graph).items():
        if is_op(node, "GridSample"):
            image = node.inputs[0]
            assert image is not None, "not optional in ONNX"
            found[node] = Sampler(node=node, image=image, grid=grid, reader=node, native=True)
        else:  # one of the four corners; all of them lead to one Reshape
            sampler = _written_out(node)
            found.setdefault(sampler.node, sampler)
    return list(found.values())


def _written_out(gather: ir.Node) -> Sampler:
    """Follow a GatherElements back to the image and the grid, and on to the sampled output.

    Raises:
        UnknownSamplerError: its surroundings are not those that `gather_sampler.py` writes.
    """
    clip = next((node for value in upstream(gather.inputs[1]) if _is_border(node := value.producer())), None)
    first = _before(_before(clip, "Reshape"), "Transpose")
    planes = _before(_before(gather, "Split") or gather, "Reshape")
    last: ir.Node | None = gather
    while last is not None and is_op(last, "GatherElements", "Sub", "Mul", "Add", "Concat"):  # lerps, then all planes
        last = next((reader for reader, _ in last.outputs[0].uses()), None)
    written_here = is_op(gather, "GatherElements") and is_op(last, "Reshape")
    if first is None or planes is None or last is None or not written_here:
        raise UnknownSamplerError(gather)
    image, grid = planes.inputs[0], first.inputs[0]
    assert image is not None and grid is not None, "not optional in ONNX"  # noqa: PT018
    return Sampler(node=last, image=image, grid=grid, reader=first, native=False)


def _before(node: ir.Node | None, op_type: str) -> ir.Node | None:
    """Return the maker of a node's first input, if it is of that operator."""
    maker = None if node is None or node.inputs[0] is None else node.inputs[0].producer()
    return maker if is_op(maker, op_type) else None


def _is_border(node: ir.Node | None) -> bool:
    """Return whether a node clips a grid to [-1, 1], as border padding does first."""
    if node is None or not is_op(node, "Clip") or len(node.inputs) != 3:
        return False
    bounds = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs[1:]]
    return all(
        tensor is not None and np.array_equal(tensor.numpy(), bound)
        for tensor, bound in zip(bounds, (-1, 1), strict=True)
    )
