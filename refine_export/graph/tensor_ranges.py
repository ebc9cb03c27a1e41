"""A copy of a graph that says how large each of its FP32 tensors becomes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

_MEASURES = {"largest": "ReduceMax", "smallest": "ReduceMin", "total": "ReduceL1", "shape": "Shape"}


@dataclass(frozen=True)
class TensorRange:
    """What a tensor was on the calibration feeds."""

    largest: float
    """Largest magnitude."""
    shape: tuple[int, ...]
    """On the feed with the most elements."""


def with_ranges(model: ir.Model, values: list[ir.Value]) -> tuple[ir.Model, list[str]]:
    """A copy whose outputs are the maximum, the minimum, the sum of magnitudes and the shape of each value.

    They come in this order. A NaN is sure to show in the sum alone: ONNX Runtime's maximum may pass over it.

    Args:
        model: prepared; not modified, and its constants are shared.
        values: inputs and node outputs of `model`.

    Returns:
        The copy, and the names of the values.
    """
    names = [value.name or "" for value in values]
    copy = model.clone()
    graph = copy.graph
    mapping = ir.convenience.create_value_mapping(graph)
    graph.outputs.clear()
    taken = {*mapping, *(node.name or "" for node in graph)}
    number = 0
    while any(name.startswith(f"range{number}/") for name in taken):
        number += 1
    prefix = f"range{number}/"
    for name in names:
        value = mapping[name]
        for measure, op_type in _MEASURES.items():
            node = ir.node(
                op_type,
                [value],
                attributes={} if op_type == "Shape" else {"keepdims": 0},
                name=f"{prefix}{name}/{measure}",
            )
            node.outputs[0].name = f"{prefix}{name}/{measure}"
            node.outputs[0].dtype = ir.DataType.INT64 if op_type == "Shape" else ir.DataType.FLOAT
            graph.append(node)
            graph.outputs.append(node.outputs[0])
    return copy, names
