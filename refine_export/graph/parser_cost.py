"""Rewrite what TensorRT's parser makes many layers of; every value stays the same to the bit.

A Slice of a static input is 27 layers of TensorRT for RTX 1.7, for bounds and sizes that it computes; a Split is one
for each output, and nine more where sizes are free. A constant of lower rank costs a reshape where it is used.
"""

from __future__ import annotations

from itertools import pairwise

import onnx_ir as ir

from refine_export.graph.node_writer import NodeWriter
from refine_export.graph.operator_types import is_op

Part = tuple[int, int]
"""The first and one past the last of the channels that a Slice takes."""
_BROADCAST = ("Add", "Sub", "Mul", "Div", "PRelu")


def split_slices(graph: ir.Graph) -> None:
    """Replace the Slices that take channels of one value by a Split, in place; parts that overlap get one each.

    A value without a known number of channels keeps its Slices.
    """
    _take_from_whole(graph)
    for value in [*graph.inputs, *(value for node in graph for value in node.outputs)]:
        slices: dict[Part, list[ir.Node]] = {}
        for node, _ in value.uses():
            if node.outputs[0].uses() and (part := _channels(node, value)) is not None:
                slices.setdefault(part, []).append(node)
        groups: list[dict[Part, list[ir.Node]]] = []
        for part in sorted(slices, key=lambda part: part[0] - part[1]):  # the widest first
            start, end = part
            apart = (one for one in groups if all(end <= first or last <= start for first, last in one))
            if (group := next(apart, None)) is None:
                groups.append(group := {})
            group[part] = slices[part]
        for group in groups:
            _split(graph, value, group)


def _take_from_whole(graph: ir.Graph) -> None:
    """Let each Slice of channels of such a Slice take them from what that one is a part of."""
    writer = NodeWriter(graph, "channels")
    for node in graph:
        part = node.inputs[0] if is_op(node, "Slice") else None
        outer = None if part is None else part.producer()
        if part is None or outer is None or not outer.inputs or (whole := outer.inputs[0]) is None:
            continue
        taken, place = _channels(node, part), _channels(outer, whole)
        if taken is not None and place is not None:
            bounds = (writer.constant([place[0] + bound]) for bound in taken)
            for index, value in enumerate((whole, *bounds)):
                node.replace_input_with(index, value)


def _split(graph: ir.Graph, value: ir.Value, slices: dict[Part, list[ir.Node]]) -> None:
    """Replace the Slices of parts of a value, of which no two overlap, by a Split."""
    bounds = sorted({0, _channels_of(value), *(bound for part in slices for bound in part)})
    nodes = {node for taking in slices.values() for node in taking}
    first = next(node for node in graph if node in nodes)
    name = f"{first.outputs[0].name}_sizes"
    sizes = ir.Value(name=name, const_value=ir.tensor([end - start for start, end in pairwise(bounds)], name=name))
    graph.register_initializer(sizes)
    split = ir.node("Split", [value, sizes], {"axis": 1}, num_outputs=len(bounds) - 1)
    split.metadata_props.update(first.metadata_props)
    graph.insert_before(first, split)
    for place, (part, output) in enumerate(zip(pairwise(bounds), split.outputs, strict=True)):
        output.name, output.type = f"{first.outputs[0].name}_{place}", value.type
        for node in slices.get(part, ()):
            output.shape = node.outputs[0].shape
            ir.convenience.replace_all_uses_with(node.outputs[0], output)
            graph.remove(node, safe=True)


def widen_constants(graph: ir.Graph) -> None:
    """Give the constants of elementwise operators the rank of what they are combined with, in place."""
    for node in graph:
        ranks = [len(value.shape) for value in node.inputs if value is not None and value.shape is not None]
        if not is_op(node, *_BROADCAST) or len(ranks) < 2:
            continue
        for place, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value.const_value is None:
                continue
            array = value.const_value.numpy()
            if array.ndim == max(ranks):
                continue
            name = f"{value.name}_of_rank_{max(ranks)}"
            if name not in graph.initializers:
                wide = ir.tensor(array.reshape((1,) * (max(ranks) - array.ndim) + array.shape), name=name)
                graph.register_initializer(ir.Value(name=name, type=ir.TensorType(wide.dtype), const_value=wide))
            node.replace_input_with(place, graph.initializers[name])


def _channels(node: ir.Node, value: ir.Value) -> Part | None:
    """Return the channels that a Slice takes of a value; None for any other node."""
    if not is_op(node, "Slice") or node.inputs[0] is not value or node.outputs[0].is_graph_output():
        return None
    constants = [ir.convenience.get_const_tensor(given) for given in node.inputs[1:] if given is not None]
    bounds = [tensor.numpy().tolist() for tensor in constants if tensor is not None]
    if len(bounds) < len(constants) or bounds[2:] not in ([[1]], [[1], [1]]):  # axes, steps
        return None
    [start], [end] = bounds[:2]
    end = min(end, _channels_of(value))
    return (start, end) if 0 <= start < end else None


def _channels_of(value: ir.Value) -> int:
    """Return the size of axis 1; 0 where it is not known."""
    size = value.shape[1] if value.shape is not None and len(value.shape) > 1 else 0
    return size if isinstance(size, int) else 0
