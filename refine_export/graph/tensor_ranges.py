"""Make a copy of a graph that puts out how large each of its FP32 tensors becomes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

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


def with_ranges(model: ir.Model, values: list[ir.Value]) -> tuple[ir.Model, list[str]]:
    """Return a copy whose outputs are the `MEASURES` of each value, and the names of the values.

    Args:
        model: prepared; not modified, and its constants are shared.
        values: inputs and node outputs of `model`.
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
    # ONNX Runtime begins with what the last node needs: in reverse, each tensor is measured and freed as soon as it is
    # there; in the other order all of them are kept to the end.
    graph.extend(reversed(nodes))
    return copy, names
