"""Write the meaning of an FP16 or BF16 graph as an FP32 graph whose roundings are nodes.

A backend may compute an FP16 node in any precision: ONNX Runtime on a CPU takes FP32 and hands the unrounded result
to the next node. Here each value that is FP16 (BF16) in the model is rounded by a pair of Casts of its own, to the
type and back to FP32:

    emulated = emulation_from_half(ir.from_proto(model))

A node then computes FP32 on FP16 (BF16) values, with one rounding to nearest even at its end. For a convolution that
is what tensor cores do: products and sums in FP32, bias included.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import onnx_ir as ir

from refine_export.errors import GraphError
from refine_export.graph.model_file import ONNX_DOMAINS
from refine_export.graph.operator_types import HALF, subgraphs

Types = dict[ir.Value, ir.DataType]
"""The FP16 (BF16) values of a graph and the type that each has in the model."""

EXACT: Final = frozenset(
    (
        *("Abs", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather"),
        *("GatherElements", "GatherND", "Identity", "Max", "Min", "Neg", "Pad", "Relu", "Reshape", "Slice"),
        *("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"),
    )
)
"""Operators whose results are values they were given, negated or not, or zeros: a rounding would change nothing.

MaxPool and Clip are not among them: where the FP16 minimum would stand, their FP32 kernels put that of FP32.
"""

_RESULT_TYPES: Final = ("dtype", "output_datatype", "to")  # attributes that state the type of the result
_INNER_TYPES: Final = ("stash_type", "softmax_precision")  # and the type that a node computes with
_REFUSED: Final = {
    **dict.fromkeys(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"), "gives random values"),
    **dict.fromkeys(("RandomUniform", "RandomUniformLike"), "gives random values"),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), "is quantised"),
    "BitCast": "reads the bits of a value",
    "CastLike": "takes its type from another value",
}
_QUANTISED: Final = ("QLinear", "Quantize", "Dequantize", "DynamicQuantize")


def emulation_from_half(model: ir.Model) -> ir.Model:
    """Return the FP32 graph that computes what an FP16 or BF16 graph means.

    Precondition: the model is valid, and so strongly typed, ONNX; its external data are loaded.

    Postcondition: inputs and outputs (names, types, shapes) and the opset are the model's. FP16 and BF16 values are
    inputs, outputs and what one Cast passes to another; nodes without any are as they were.

    Args:
        model: not modified.

    Returns:
        A new model, with functions inlined.

    Raises:
        GraphError: the model is invalid; or a type is not known, as behind a custom operator; or FP16 or BF16 meets
            what has no emulation here: an operator that is random or quantised, a subgraph, a sequence.
    """
    emulated = _typed(model)
    graph = emulated.graph
    for node in graph:
        _check_node(node)
    types: Types = {value: value.dtype for value in _values(graph) if value.dtype in HALF}
    _rewrite(graph, types, [value for value in types if _needs_rounding(value.producer(), types)])
    return emulated


def _typed(model: ir.Model) -> ir.Model:
    """Return a copy with functions inlined and types inferred only from the nodes.

    Types that the file declares may be stale: converters leave those of the FP32 model behind. Only of custom
    operators, of which nothing can be inferred, are the declared ones kept.
    """
    try:
        proto = ir.to_proto(model)
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
        declared = [onnx.ValueInfoProto.FromString(output.SerializeToString()) for output in proto.graph.output]
        custom = {name for node in proto.graph.node if node.domain not in ONNX_DOMAINS for name in node.output}
        declared_types = [value for value in proto.graph.value_info if value.name in custom]
        del proto.graph.value_info[:]
        proto.graph.value_info.extend(declared_types)
        for output in proto.graph.output:
            output.type.tensor_type.ClearField("shape")
        proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
        for output, value in zip(proto.graph.output, declared, strict=True):
            output.CopyFrom(value)
        return ir.from_proto(proto)
    except Exception as error:  # InferenceError, ValidationError, and what a damaged model makes protobuf raise
        raise GraphError(
            f"the model is not valid ONNX, so its types mean nothing; convert it again: {error}", code="invalid-onnx"
        ) from error


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield inputs, constants and results, each once."""
    yield from graph.inputs
    yield from (value for value in graph.initializers.values() if not value.is_graph_input())
    yield from (value for node in graph for value in node.outputs if value.name)


def _check_node(node: ir.Node) -> None:
    """Refuse a node that has no emulation.

    Raises:
        GraphError: see `emulation_from_half`.
    """
    label = f"{node.op_type} {node.name or node.outputs[0].name!r}"
    bodies = subgraphs(node)
    nodes = [node, *(inner for body in bodies for inner in body.all_nodes())]
    values = [value for one in nodes for value in (*one.inputs, *one.outputs) if value is not None and value.name]
    for value in values:
        if value.dtype is None:
            message = f"the type of {value.name!r} at {label} is not known; expected operators of ONNX alone"
            raise GraphError(message, code="unknown-type", tensor=value.name)
    half = [value for value in values if value.dtype in HALF]
    if not half:
        return
    reason = _REFUSED.get(node.op_type)
    if node.op_type.startswith(_QUANTISED):
        reason = "is quantised"
    elif bodies:
        reason = "has a subgraph"
    elif any(not isinstance(value.type, ir.TensorType) for value in half):
        reason = "has a sequence, an optional or a sparse tensor"
    elif any(node.attributes.get_int(name, 0) in HALF for name in _INNER_TYPES):
        reason = "computes with fewer bits than FP32, by an attribute"
    if reason:
        raise GraphError(
            f"{label} {reason}, which has no strict emulation with {half[0].name!r}, {half[0].dtype}; keep it in FP32",
            code="no-emulation",
            operator=node.op_type,
            reason=reason,
        )


def _needs_rounding(node: ir.Node | None, types: Types) -> bool:
    """Return whether the results of `node`, computed in FP32, may be values that their type does not have."""
    if node is None:  # an input or a constant is of its type already
        return False
    if node.op_type == "Cast":  # from FP16 to FP16 nothing is rounded; from BF16, FP32 or integers it may be
        return node.inputs[0] not in types or types[node.inputs[0]] != types[node.outputs[0]]
    # An FP32 attribute is not of the type: the value of Pad-2, for example.
    bounded = any(attribute.type == ir.AttributeType.FLOAT for attribute in node.attributes.values())
    return node.op_type not in EXACT or bounded


def _rewrite(graph: ir.Graph, types: Types, rounded: list[ir.Value]) -> None:
    """Make all of `types` FP32 and round those of `rounded`."""
    names = {value.name or "" for value in _values(graph)} | {node.name or "" for node in graph}
    outputs = [(value.name, value.dtype, value.shape) for value in graph.outputs]
    casts = [node for node in graph if node.op_type == "Cast" and {*node.inputs, *node.outputs} & types.keys()]
    for node in graph:
        _make_attributes_single(node)
    for value in types:
        if value.is_graph_input():  # its type is part of the contract: what reads it reads a Cast instead
            _read_after_casts(graph, value, [ir.DataType.FLOAT], names)
        else:
            value.dtype = ir.DataType.FLOAT
            value.const_value = None if value.const_value is None else _single(value.const_value)
    for value in rounded:
        _read_after_casts(graph, value, [types[value], ir.DataType.FLOAT], names)
    for index, (name, dtype, shape) in enumerate(outputs):
        value = graph.outputs[index]
        if dtype in HALF and value.dtype == ir.DataType.FLOAT:
            # The output keeps its name, and the value in front of the Cast takes the new one.
            cast = _cast(value, dtype, names)
            value.name, cast.outputs[0].name, cast.outputs[0].shape = cast.outputs[0].name, name, shape
            graph.append(cast)
            graph.outputs[index] = cast.outputs[0]
    for node in casts:
        _leave_out(node)


def _make_attributes_single(node: ir.Node) -> None:
    """Replace FP16 (BF16) by FP32 in attributes that hold such numbers or state the type."""
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in HALF:
            node.attributes.add(ir.AttrTensor(name, _single(attribute.as_tensor())))
        elif name in _RESULT_TYPES and attribute.as_int() in HALF:
            node.attributes.add(ir.AttrInt64(name, int(ir.DataType.FLOAT)))


def _single(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _read_after_casts(graph: ir.Graph, value: ir.Value, dtypes: list[ir.DataType], names: set[str]) -> None:
    """Put Casts, one to each of `dtypes`, between `value` and its readers; outputs of the graph stay."""
    readers, producer = value.uses(), value.producer()
    casts: list[ir.Node] = []
    for dtype in dtypes:
        casts.append(_cast(casts[-1].outputs[0] if casts else value, dtype, names))
    for reader, index in readers:
        reader.replace_input_with(index, casts[-1].outputs[0])
    if not readers:  # an output that nothing else reads is rounded by the Cast to its own type
        return
    if producer is None:
        graph.insert_before(graph[0], casts)
    else:
        graph.insert_after(producer, casts)


def _cast(value: ir.Value, dtype: ir.DataType, names: set[str]) -> ir.Node:
    """Make a Cast node, in no graph yet, whose name and whose output's name are not in `names`."""
    # The name matters: ONNX Runtime takes out any Cast that is called "InsertedPrecisionFreeCast_...".
    name = next(name for k in itertools.count() if (name := f"{dtype}#{k}/{value.name}") not in names)
    names.add(name)
    result = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    return ir.node("Cast", [value], {"to": int(dtype)}, outputs=[result], name=name)


def _leave_out(node: ir.Node) -> None:
    """Have the input of a Cast from FP32 to FP32 read instead of its output: it was from or to FP16 (BF16)."""
    given, result, graph = node.inputs[0], node.outputs[0], node.graph
    if given is None or graph is None or {given.dtype, result.dtype} != {ir.DataType.FLOAT}:
        return
    if result.is_graph_output():
        node.op_type = "Identity"
        node.attributes.clear()
    else:
        result.replace_all_uses_with(given)
        graph.remove(node, safe=True)
