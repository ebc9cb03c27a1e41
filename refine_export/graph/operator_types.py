"""What the ONNX standard says of operators that the passes need: which types they take, whether they compute."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Final

import onnx
import onnx.defs
import onnx_ir as ir

from refine_export.graph.tensor_ranges import TensorRange

MOVES: Final = frozenset(
    """
    Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Pad Reshape Slice SpaceToDepth Split
    Squeeze Tile Transpose Unsqueeze
    """.split()  # noqa: SIM905
)
"""Operators that move values and compute none."""

SHRINKS: Final = ("Gather", "GatherElements", "GatherND", "Slice", "Split")
"""Those whose result may be smaller than their input."""

SUMS: Final = frozenset(
    """
    AveragePool GlobalAveragePool GlobalLpPool GroupNormalization InstanceNormalization LpNormalization LpPool
    MeanVarianceNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceSum ReduceSumSquare
    """.split()  # noqa: SIM905
)
"""Operators that add up many values of one tensor. Convolutions and matrix products accumulate in FP32, and
LayerNormalization and RMSNormalization do by their `stash_type`."""

_SQUARES: Final = (
    *("GlobalLpPool", "GroupNormalization", "InstanceNormalization", "LpNormalization", "LpPool"),
    *("MeanVarianceNormalization", "ReduceL2", "ReduceSumSquare"),
)
_NOT_CONVERTED: Final = {"Resize": (1, 2)}
"""Operator -> inputs that stay FP32 in an FP16 node (roi and scales)."""


def sum_bound(node: ir.Node, ranges: Mapping[str, TensorRange]) -> float | None:
    """How large the sum in a node of `SUMS` may become, by the largest magnitude of its input; None if not known."""
    source, result = node.inputs[0], node.outputs[0]
    known = ranges.get(source.name or "") if source is not None else None
    made = ranges.get(result.name or "")
    if known is None or made is None:
        return None
    count = math.prod(known.shape) / max(1, math.prod(made.shape))
    if node.op_type in ("AveragePool", "LpPool"):
        count = math.prod(node.attributes["kernel_shape"].as_ints())
    elif node.op_type == "LpNormalization":
        count = known.shape[node.attributes.get_int("axis", -1)]
    elif node.op_type.endswith("Normalization"):
        count = math.prod(known.shape[2:])
        if node.op_type == "GroupNormalization":
            count *= known.shape[1] / node.attributes["num_groups"].as_int()
        elif node.op_type == "MeanVarianceNormalization":
            count *= known.shape[0]
    return float(count * known.largest ** (2 if node.op_type in _SQUARES else 1))


def low_inputs(node: ir.Node, opset: int, low: str) -> list[int]:
    """The FP32 inputs of a node that become FP16 with it, by index: those of whose type variable FP16 is a value."""
    schema = _schema(node.op_type, opset)
    kept = _NOT_CONVERTED.get(node.op_type, ())
    found = []
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype != ir.DataType.FLOAT or index in kept:
            continue
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if f"tensor({low})" in _allowed(schema, formal.type_str):
            found.append(index)
    return found


def has_half_form(node: ir.Node, opset: int, low: str) -> bool:
    """Whether a standard operator takes FP16 (BF16) for all FP32 inputs and outputs that have to change with it."""
    try:
        schema = _schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return False
    kept = _NOT_CONVERTED.get(node.op_type, ())
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, value in enumerate(values):
            if value is None or value.dtype != ir.DataType.FLOAT or (values is node.inputs and index in kept):
                continue
            if f"tensor({low})" not in _allowed(schema, formals[min(index, len(formals) - 1)].type_str):
                return False
    return True


@functools.cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op_type, opset, "")


def _allowed(schema: onnx.defs.OpSchema, type_str: str) -> tuple[str, ...]:
    """The types of a formal parameter: of its type variable, or the one type that it has."""
    for constraint in schema.type_constraints:
        if constraint.type_param_str == type_str:
            return tuple(constraint.allowed_type_strs)
    return (type_str,)


ONNX_DOMAINS: Final = ("", "ai.onnx")


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these standard operators."""
    return node is not None and node.domain in ONNX_DOMAINS and node.op_type in op_types


def opset_of(graph: ir.Graph) -> int:
    """The opset of the standard operators; 0 where none is imported."""
    return max((graph.opset_imports.get(domain, 0) for domain in ONNX_DOMAINS), default=0)
