"""Find the tensors of a graph that are sampling coordinates, by walking from each sampler, not by names.

A *grid* is the second input of a GridSample, or the indices of a Gather that were computed from float positions (a
sampler that was written out, as `gather_sampler.py` does). Its *coordinates* are all tensors it is computed from, back
to the graph's inputs, to constants, to sizes, and to the outputs of `PATH_STARTS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import onnx_ir as ir

from refine_export.graph.operator_types import is_op

PATH_STARTS: Final = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""A coordinate path begins at the outputs of these: what they compute is an estimate, not yet a position."""

_POINT_TERMS: Final = 4
"""A matrix product over up to this many terms moves points (an affine grid, a homography): it starts no path."""
_GATHERS: Final = ("Gather", "GatherElements", "GatherND")
_SIZES: Final = ("Shape", "Size")


def starts_path(node: ir.Node | None) -> bool:
    """Return whether coordinates begin at the outputs of a node."""
    if node is None or not is_op(node, *PATH_STARTS):
        return False
    if is_op(node, "Conv", "ConvTranspose") or (source := node.inputs[0]) is None or source.shape is None:
        return True
    axis = 0 if is_op(node, "Gemm") and bool(node.attributes.get_int("transA", False)) else -1
    terms = source.shape[axis] if len(source.shape) else 1
    return not isinstance(terms, int) or terms > _POINT_TERMS


def upstream(start: ir.Value | None, body_inputs: Mapping[ir.Value, ir.Node] | None = None) -> list[ir.Value]:
    """Return `start` and every value that it is computed from, nearest first, of any type.

    Args:
        start: usually a grid.
        body_inputs: input of a Loop or Scan body -> its node; the walk goes through it.
    """
    found: dict[ir.Value, None] = {}
    waiting = [start]
    while waiting:
        value = waiting.pop(0)
        if value is None or value in found:
            continue
        found[value] = None
        node = value.producer() or (body_inputs or {}).get(value)
        if node is None or starts_path(node) or is_op(node, *_SIZES):
            continue
        # What an If, Loop or Scan puts out is computed inside its body, from values of this graph too.
        bodies = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
        waiting += [*node.inputs, *(output for body in bodies for output in body.outputs)]
    return list(found)


def grids(nodes: Iterable[ir.Node], body_inputs: Mapping[ir.Value, ir.Node] | None = None) -> dict[ir.Node, ir.Value]:
    """Return every node that samples by coordinates, and its grid."""
    found: dict[ir.Node, ir.Value] = {}
    for node in nodes:
        if is_op(node, "GridSample") and (grid := node.inputs[1]) is not None:
            found[node] = grid
        elif is_op(node, *_GATHERS) and (indices := node.inputs[1]) is not None:
            # Gathers of integers compute shapes; of those that pick floats, most pick by constant indices.
            data = node.inputs[0]
            picks_floats = data is not None and data.dtype is not None and data.dtype.is_floating_point()
            if picks_floats and _has_positions(upstream(indices, body_inputs)):
                found[node] = indices
    return found


def _has_positions(values: Iterable[ir.Value]) -> bool:
    """Return whether an index was computed from floats of the graph's inputs or a convolution, not from sizes."""
    return any(
        value.dtype is not None
        and value.dtype.is_floating_point()
        and (starts_path(value.producer()) or (value.producer() is None and value.const_value is None))
        for value in values
    )


def weights_of(positions: Iterable[ir.Value], sizes: Collection[ir.Value]) -> list[ir.Node]:
    """Return the nodes that compute interpolation weights: only from `positions`, sizes and constants.

    Args:
        positions: the float values that a written-out sampler rounds to indices, with all that is computed on
            the way to the indices.
        sizes: values computed only from sizes (`size_values`).
    """
    known = set(positions)
    found: dict[ir.Node, None] = {}
    waiting = list(known)
    while waiting:
        for node, _ in waiting.pop().uses():
            if node in found or starts_path(node) or is_op(node, *_GATHERS, "GridSample"):
                continue
            inputs = [value for value in node.inputs if value is not None]
            # A node that reads pixels or features as well (the blend by the weights) is left to the other rules.
            if all(value in known or value.const_value is not None or value in sizes for value in inputs):
                found[node] = None
                known.update(node.outputs)
                waiting += node.outputs
    return list(found)


def size_values(graph: ir.Graph) -> set[ir.Value]:
    """Return every value that is computed only from sizes and constants."""
    found: set[ir.Value] = set()
    for node in graph:
        inputs = [value for value in node.inputs if value is not None and value.const_value is None]
        if is_op(node, *_SIZES) or (not starts_path(node) and all(value in found for value in inputs)):
            found.update(node.outputs)
    return found
