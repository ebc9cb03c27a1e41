"""Find the tensors of a graph that are positions, by walking from what samples or sums them, not by names.

A *grid* is what a node takes for positions:

- the coordinates of `SAMPLERS`, such as the second input of a GridSample;
- the indices of a Gather, a Scatter or a MaxUnpool that were computed from float positions (a sampler or splat that was
  written out, as `gather_sampler.py` does);
- a weighted sum of positions, such as softmax(correlation) times all pixels' places: the sum is a position itself,
  whoever reads it.

Its *coordinates* are all tensors it is computed from, back to the graph's inputs, to constants, to sizes, and to the
outputs of `PATH_STARTS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from refine_export.graph.operator_types import MOVES, SUMS, is_op, subgraphs

PATH_STARTS: Final = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""A coordinate path begins at the outputs of these: what they compute is an estimate, not yet a position."""

SAMPLERS: Final = {"GridSample": 1, "DeformConv": 2, "RoiAlign": 1, "MaxRoiPool": 1, "NonMaxSuppression": 0}
"""Operator -> the input that is its float coordinates: a grid, offsets or boxes."""

_POINT_TERMS: Final = 4
"""A matrix product over up to this many terms moves points (an affine grid, a homography): it starts no path."""
GATHERS: Final = ("Gather", "GatherElements", "GatherND")
_INDEXED: Final = (*GATHERS, "Scatter", "ScatterElements", "ScatterND", "MaxUnpool")
_SIZES: Final = ("Shape", "Size")
_COUNTS: Final = ("Range", "CumSum", "NonZero")
"""Operators that number the places of a tensor."""
_KEEPS_PLACES: Final = (*MOVES, "Add", "Cast", "Ceil", "Clip", "Div", "Floor", "Mod", "Mul", "Neg", "Round", "Sub")
"""Operators by which positions are made of numbers; of an encoding, as Sin makes it, nothing is a position."""
_PRODUCTS: Final = (*PATH_STARTS, "Einsum")
_MOST_LINES: Final = 64
"""Lines of a constant that are looked at: those of positions are alike."""


def starts_path(node: ir.Node | None) -> bool:
    """Return whether coordinates begin at the outputs of a node."""
    if node is None or not is_op(node, *PATH_STARTS) or _averages(node):
        return False
    if is_op(node, "Conv", "ConvTranspose") or (source := node.inputs[0]) is None or source.shape is None:
        return True
    axis = 0 if is_op(node, "Gemm") and bool(node.attributes.get_int("transA", False)) else -1
    terms = source.shape[axis] if len(source.shape) else 1
    return not isinstance(terms, int) or terms > _POINT_TERMS


def upstream(
    start: ir.Value | None,
    body_inputs: Mapping[ir.Value, ir.Node] | None = None,
    ends: Collection[ir.Value] = (),
) -> list[ir.Value]:
    """Return `start` and every value that it is computed from, nearest first, of any type.

    Args:
        start: usually a grid.
        body_inputs: input of a Loop or Scan body -> its node; the walk goes through it.
        ends: values that it does not go beyond, besides those at which a path begins.
    """
    found: dict[ir.Value, None] = {}
    waiting = [start]
    while waiting:
        value = waiting.pop(0)
        if value is None or value in found:
            continue
        found[value] = None
        node = value.producer() or (body_inputs or {}).get(value)
        if node is None or starts_path(node) or is_op(node, *_SIZES) or (value in ends and value is not start):
            continue
        if is_op(node, "MaxPool") and value is not node.outputs[0]:  # places of maxima are picked, not computed
            continue
        # What an If, Loop or Scan puts out is computed inside its body, from values of this graph too.
        waiting += [*node.inputs, *(output for body in subgraphs(node) for output in body.outputs)]
    return list(found)


def grids(nodes: Iterable[ir.Node], body_inputs: Mapping[ir.Value, ir.Node] | None = None) -> dict[ir.Node, ir.Value]:
    """Return every node that samples by positions or sums them, and its grid."""
    found: dict[ir.Node, ir.Value] = {}
    for node in nodes:
        if is_op(node, *SAMPLERS):
            grid = node.inputs[SAMPLERS[node.op_type]]
        elif _sums_positions(node):
            grid = node.outputs[0]
        elif is_op(node, *_INDEXED) and _is_float(node.inputs[0]):
            # Gathers of integers compute shapes; of those that pick floats, most pick by constant indices.
            grid = node.inputs[1] if _has_positions(upstream(node.inputs[1], body_inputs)) else None
        else:
            continue
        if grid is not None:
            found[node] = grid
    return found


def _sums_positions(node: ir.Node) -> bool:
    """Return whether a node sums positions by weights, or picks one: its result is a position, or a distance."""
    if is_op(node, "Conv", "ConvTranspose"):  # of positions, by learned weights, it makes features
        return _is_positions(node.inputs[1]) and not _is_positions(node.inputs[0])
    if is_op(node, *_PRODUCTS):
        return any(map(_is_positions, node.inputs[:2])) and not all(map(_is_positions, node.inputs[:2]))
    if is_op(node, *GATHERS):
        computed = node.inputs[1] is not None and ir.convenience.get_const_tensor(node.inputs[1]) is None
        return computed and _is_float(node.inputs[0]) and _is_positions(node.inputs[0])
    product = _moved_from(node.inputs[0]) if is_op(node, *SUMS) else None
    return is_op(product, "Mul") and any(map(_is_positions, product.inputs)) if product is not None else False


def _averages(node: ir.Node) -> bool:
    """Return whether a product's result is of the kind of what it averages: the sum of positions, or by a Softmax."""
    if is_op(node, "Conv", "ConvTranspose"):
        return _is_positions(node.inputs[1])
    return any(_is_positions(value) or _adds_up_to_one(value) for value in node.inputs[:2])


def _adds_up_to_one(value: ir.Value | None) -> bool:
    """Return whether a value is weights that Softmax made, by that name or as a quotient by their own sum."""
    node = _moved_from(value)
    while is_op(node, "Mul", "Dropout", "Where"):  # by a confidence or a mask
        assert node is not None
        weights = [one for one in map(_moved_from, node.inputs) if is_op(one, "Softmax", "Div")]
        node = weights[0] if weights else None
    if is_op(node, "Div"):
        assert node is not None
        total = _moved_from(node.inputs[1])
        while is_op(total, "Add", "Clip", "Max"):
            assert total is not None
            total = _moved_from(total.inputs[0])
        return is_op(total, "ReduceSum", "ReduceL1") and total is not None and total.inputs[0] is node.inputs[0]
    return is_op(node, "Softmax")


def _moved_from(value: ir.Value | None) -> ir.Node | None:
    """Return the node that made a value, before it was moved or cast."""
    node = None if value is None else value.producer()
    while is_op(node, *MOVES, "Cast") and node is not None and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype is not None and value.dtype.is_floating_point()


def _is_positions(start: ir.Value | None) -> bool:
    """Return whether a value numbers the places of a tensor: counted from sizes, or a constant as regular as that."""
    found, seen, waiting = False, set(), [start]
    while waiting:
        value = waiting.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        node = value.producer()
        if (constant := ir.convenience.get_const_tensor(value)) is not None:
            found = found or _is_regular(constant)
        elif node is not None and is_op(node, *_COUNTS):
            if any(starts_path(one.producer()) for one in upstream(node.inputs[0])):
                return False  # a running sum of features
            found = True
        elif node is None or not is_op(node, *_SIZES, "ConstantOfShape", *_KEEPS_PLACES):
            return False
        elif is_op(node, *_KEEPS_PLACES):
            waiting += node.inputs[:1] if is_op(node, *MOVES) and not is_op(node, "Concat") else node.inputs
    return found


def _is_regular(tensor: ir.TensorProtocol) -> bool:
    """Return whether the lines of a constant along some axis are steps of one size, as places are, in rows or not."""
    # Weights that are left in a file of their own are too large for memory; those of positions are not.
    if isinstance(tensor, ir.ExternalTensor) or tensor.size <= _POINT_TERMS or tensor.dtype.itemsize < 2:
        return False
    array = tensor.numpy()
    # A half has steps of two sizes where a float has one.
    rounding = 8 * {ir.DataType.FLOAT16: 2.0**-10, ir.DataType.BFLOAT16: 2.0**-7}.get(tensor.dtype, 2.0**-23)
    long_axes = [axis for axis, size in enumerate(array.shape) if size > _POINT_TERMS]
    return any(_has_regular_lines(np.moveaxis(array, axis, -1), rounding) for axis in long_axes)


def _has_regular_lines(array: NDArray[Any], rounding: float) -> bool:
    """Return whether every line along the last axis has steps of one size, and one of them more than a few places."""
    found = False
    for index in itertools.islice(np.ndindex(array.shape[:-1]), _MOST_LINES):
        line = array[index].astype(np.float64)
        near = rounding * float(np.abs(line).max(initial=0))
        places, steps = (1 + int((np.diff(np.sort(one)) > near).sum()) for one in (line, np.diff(line)))
        if steps > 2:  # one step, and the return to the first place of the next row
            return False
        found = found or places > _POINT_TERMS  # the other coordinate may be constant along this axis
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
            if node in found or starts_path(node) or is_op(node, *_INDEXED, *SAMPLERS):
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
