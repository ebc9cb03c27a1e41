"""Rewrite what TensorRT's parser makes many layers of; every value stays the same to the bit.

A Slice of a static input is 27 layers of TensorRT for RTX 1.7, for bounds and sizes that it computes; a Split is one
for each output, and nine more where sizes are free. A constant of lower rank costs a reshape where it is used.
"""

from __future__ import annotations

from itertools import pairwise

import onnx_ir as ir

from refine_export.graph.operator_types import is_op

_BROADCAST = ("Add", "Sub", "Mul", "Div", "PRelu")


def split_slices(graph: ir.Graph) -> None:
    """Replace the Slices that take channels of one value, none of them twice, by a Split, in place.

    A value without a known number of channels keeps its Slices.
    """
    for value in [*graph.inputs, *(value for node in graph for value in node.outputs)]:
        slices = [(node, part) for node, _ in value.uses() if (part := _channels(node, value)) is not None]
        if not slices:
            continue
        bounds = sorted({0, _channels_of(value), *(bound for _, part in slices for bound in part)})
        places = {part: place for place, part in enumerate(pairwise(bounds))}
        if not all(part in places for _, part in slices):
            continue  # they overlap
        first = next(node for node in graph if any(node is sliced for sliced, _ in slices))
        name = f"{first.outputs[0].name}_sizes"
        sizes = ir.Value(name=name, const_value=ir.tensor([end - start for start, end in places], name=name))
        graph.register_initializer(sizes)
        split = ir.node("Split", [value, sizes], {"axis": 1}, num_outputs=len(places))
        split.metadata_props.update(first.metadata_props)
        for place, output in enumerate(split.outputs):
            output.name, output.type = f"{first.outputs[0].name}_{place}", value.type
        graph.insert_before(first, split)
        for node, part in slices:
            output = split.outputs[places[part]]
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


def _channels(node: ir.Node, value: ir.Value) -> tuple[int, int] | None:
    """Return the first and one past the last of the channels that a Slice takes; None for any other node."""
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
