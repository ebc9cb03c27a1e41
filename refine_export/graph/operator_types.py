"""Facts of the ONNX standard about operators: their domain, the types they take, whether they compute or move."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Final

import onnx.defs
import onnx_ir as ir

from refine_export.graph.model_file import ONNX_DOMAINS
from refine_export.graph.tensor_ranges import TensorRange

HALF: Final = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

MOVES: Final = frozenset(
    """
    Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Pad Reshape Slice SpaceToDepth Split
    Squeeze Tile Transpose Unsqueeze
    """.split()  # noqa: SIM905
)
"""Operators that move values and compute none."""

RANDOM: Final = (
    *("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
)
"""Operators that draw random numbers; a Dropout does in training form."""

SHRINKS: Final = ("Gather", "GatherElements", "GatherND", "Slice", "Split")
"""Movers whose result may be smaller than their input."""

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
_STAYS_FP32: Final = {"Resize": (1, 2)}
"""Operator -> inputs that stay FP32 in an FP16 node (roi and scales)."""


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Return whether a node is one of these standard operators."""
    return node is not None and node.domain in ONNX_DOMAINS and node.op_type in op_types


def opset_of(graph: ir.Graph) -> int:
    """Return the opset of the standard operators; 0 where none is imported."""
    return max((graph.opset_imports.get(domain, 0) for domain in ONNX_DOMAINS), default=0)


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """Return the bodies of an If, Loop or Scan; of other operators an empty list."""
    return [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]


def sum_bound(node: ir.Node, ranges: Mapping[str, TensorRange]) -> float | None:
    """Return an upper bound of the sum in a node of `SUMS`, from the largest magnitude of its input.

    The number of terms is what one output is computed from: the kernel of a pool, an axis or the spatial axes of a
    normalization, else the ratio of the sizes of input and output. None if a size or magnitude is not known.
    """
    source, result = node.inputs[0], node.outputs[0]
    known = ranges.get(source.name or "") if source is not None else None
    made = ranges.get(result.name or "")
    if known is None or made is None:
        return None
    terms = math.prod(known.shape) / max(1, math.prod(made.shape))
    if node.op_type in ("AveragePool", "LpPool"):
        terms = math.prod(node.attributes["kernel_shape"].as_ints())
    elif node.op_type == "LpNormalization":
        terms = known.shape[node.attributes.get_int("axis", -1)]
    elif node.op_type.endswith("Normalization"):
        terms = math.prod(known.shape[2:])
        if node.op_type == "GroupNormalization":
            terms *= known.shape[1] / node.attributes["num_groups"].as_int()
        elif node.op_type == "MeanVarianceNormalization":
            terms *= known.shape[0]
    return float(terms * known.largest ** (2 if node.op_type in _SQUARES else 1))


def low_inputs(node: ir.Node, opset: int, low: str) -> list[int]:
    """Return the indices of the FP32 inputs that become FP16 (BF16) with the node: their type variable allows it."""
    schema = _schema(node.op_type, opset)
    return [k for k in _floats(node.inputs, node.op_type) if _allows(schema, schema.inputs, k, low)]


def has_half_form(node: ir.Node, opset: int, low: str) -> bool:
    """Return whether a standard operator takes FP16 (BF16) for all FP32 inputs and outputs that change with it."""
    try:
        schema = _schema(node.op_type, opset)
    except onnx.defs.SchemaError:  # no operator of this opset
        return False
    return all(_allows(schema, schema.inputs, k, low) for k in _floats(node.inputs, node.op_type)) and all(
        _allows(schema, schema.outputs, k, low) for k in _floats(node.outputs)
    )


def _floats(values: Sequence[ir.Value | None], op_type: str = "") -> list[int]:
    stays = _STAYS_FP32.get(op_type, ())
    return [k for k, v in enumerate(values) if v is not None and v.dtype == ir.DataType.FLOAT and k not in stays]


@functools.cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op_type, opset, "")


def _allows(
    schema: onnx.defs.OpSchema, formals: Sequence[onnx.defs.OpSchema.FormalParameter], index: int, low: str
) -> bool:
    """Return whether a formal parameter allows a type: its type variable does, or it is the one type that it has."""
    type_str = formals[min(index, len(formals) - 1)].type_str  # the last parameter may be variadic
    for constraint in schema.type_constraints:
        if constraint.type_param_str == type_str:
            return f"tensor({low})" in constraint.allowed_type_strs
    return type_str == f"tensor({low})"
