"""Count the multiply-adds of a node, and the bytes that it reads and writes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

from refine_export.graph.operator_types import is_op
from refine_export.graph.sampling_coordinates import PATH_STARTS
from refine_export.graph.tensor_ranges import TensorRange


def multiply_adds(graph: ir.Graph, ranges: Mapping[str, TensorRange]) -> dict[str, int]:
    """Return the multiply-adds of each convolution and matrix product by node name, at the calibration feeds' shapes.

    Conv: outputs times kernel area times input channels of a group. ConvTranspose: inputs times kernel area times
    output channels of a group. Biases and pointwise operators are not counted.
    """
    found = {}
    for node in graph:
        if not is_op(node, *PATH_STARTS):
            continue
        source, weight, result = node.inputs[0], node.inputs[1], node.outputs[0]
        assert source is not None
        assert weight is not None
        if is_op(node, "Conv", "ConvTranspose"):
            counted = source if is_op(node, "ConvTranspose") else result
            # Conv weights are [M, C/group, ...], those of ConvTranspose [C, M/group, ...]: each is used once per place.
            terms = _shape(weight, ranges)[1:]
        else:
            transposed = is_op(node, "Gemm") and bool(node.attributes.get_int("transA", False))
            counted, terms = result, _shape(source, ranges)[-2 if transposed else -1 :][:1]
        found[node.name or ""] = math.prod(_shape(counted, ranges)) * math.prod(terms)
    return found


def bytes_moved(graph: ir.Graph, ranges: Mapping[str, TensorRange]) -> dict[str, int]:
    """Return the FP32 bytes that each node reads and writes, by node name; constants included."""
    found = {}
    for node in graph:
        values = [v for v in (*node.inputs, *node.outputs) if v is not None and v.dtype == ir.DataType.FLOAT]
        found[node.name or ""] = 4 * sum(math.prod(_shape(value, ranges)) for value in values)
    return found


def _shape(value: ir.Value, ranges: Mapping[str, TensorRange]) -> tuple[int, ...]:
    if value.const_value is not None:
        return tuple(int(size) for size in value.const_value.shape.numpy())
    known = ranges.get(value.name or "")
    if known is not None:
        return known.shape
    if value.shape is not None and all(isinstance(size, int) for size in value.shape):
        return tuple(int(size) for size in value.shape.numpy())
    return (0,)  # not calibrated: counts as nothing
