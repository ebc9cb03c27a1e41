"""Make a copy of a graph that puts out how large each of its FP32 tensors becomes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

MEASURES = {"largest": "ReduceMax", "smallest": "ReduceMin", "total": "ReduceL1", "shape": "Shape"}
"""Outputs for each tensor, in this order. A NaN is sure to show in the total alone: ONNX Runtime's maximum may pass
over it."""


@dataclass(frozen=True)
class TensorRange:
    """Size of a tensor on the calibration feeds."""

    largest: float
    """Largest magnitude."""
    shape: tuple[int, ...]
    """Shape on the feed with the most elements."""
    smallest: float = math.inf
    """Smallest magnitude other than zero, of what a result hangs on (`fragile_values`); infinite of all others."""

    def joined(self, other: TensorRange) -> TensorRange:
        """Return the range on the feeds of both."""
        shape = max(other.shape, self.shape, key=math.prod)
        return TensorRange(max(self.largest, other.largest), shape, min(self.smallest, other.smallest))


def with_ranges(model: ir.Model, values: list[ir.Value], divisors: Collection[str] = ()) -> tuple[ir.Model, list[str]]:
    """Return a copy whose outputs are the `MEASURES` of each value, and the names of the values.

    Args:
        model: prepared; not modified, and its constants are shared.
        values: inputs and node outputs of `model`.
        divisors: names of those whose smallest magnitude other than zero is put out too, behind all others.
    """
    names = [value.name or "" for value in values]
    copy = model.clone()
    graph = copy.graph
    mapping = ir.convenience.create_value_mapping(graph)
    graph.outputs.clear()
    taken = {*mapping, *(node.name or "" for node in graph)}
    prefix = next(p for k in itertools.count() if not any(name.startswith(p := f"range{k}/") for name in taken))
    nodes: list[ir.Node] = []
    for name in names:
        for measure, op_type in MEASURES.items():
            is_shape = op_type == "Shape"
            result = ir.Value(
                name=f"{prefix}{name}/{measure}",
                type=ir.TensorType(ir.DataType.INT64 if is_shape else ir.DataType.FLOAT),
            )
            attributes = {} if is_shape else {"keepdims": 0}
            nodes.append(ir.node(op_type, [mapping[name]], attributes, outputs=[result], name=result.name))
            graph.outputs.append(result)
    if divisors:
        bounds = [ir.tensor(np.float32(bound), name=f"{prefix}{bound}") for bound in (0, math.inf)]
        zero, infinity = (ir.Value(name=one.name, type=ir.TensorType(one.dtype), const_value=one) for one in bounds)
        graph.initializers.add(zero)
        graph.initializers.add(infinity)
    for number, name in enumerate(divisors):
        magnitude = ir.node("Abs", [mapping[name]])
        is_zero = ir.node("Equal", [magnitude.outputs[0], zero])
        others = ir.node("Where", [is_zero.outputs[0], infinity, magnitude.outputs[0]])
        least = ir.node("ReduceMin", [others.outputs[0]], {"keepdims": 0})
        for node in (least, others, is_zero, magnitude):  # in reverse, as all are
            node.name = node.outputs[0].name = f"{prefix}{number}/{node.op_type}"
            nodes.append(node)
        least.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(least.outputs[0])
    # ONNX Runtime begins with what the last node needs: in reverse, each tensor is measured and freed as soon as it is
    # there; in the other order all of them are kept to the end.
    graph.extend(reversed(nodes))
    return copy, names
