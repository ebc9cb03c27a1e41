"""Make an FP32 ONNX model of any tool ready for the passes: flat, typed, every node named; or refuse it."""

from __future__ import annotations

from collections import Counter
from typing import Final

import onnx
import onnx.checker
import onnx_ir as ir
from onnx_ir.passes import common

from refine_export.errors import GraphError
from refine_export.graph.operator_types import HALF, is_op, opset_of
from refine_export.graph.sampling_coordinates import size_values

_OLDEST_OPSET: Final = 16  # GridSample is a standard operator from here on
_LISTS: Final = ("Sequence", "Optional", "SplitToSequence", "ConcatFromSequence")
_GRAPH_TYPES: Final = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def prepare(model: ir.Model) -> ir.Model:
    """Inline functions, lift constants to initializers, drop what is unused, infer types, name nodes; in place.

    Postcondition: the graph is flat; every node has a name of its own, every tensor a type, none of them FP16 or BF16,
    and FP64 only apart from what is computed from pictures; no Identity or Cast is idle but between an input and an
    output.

    Raises:
        GraphError: an opset before 16, functions of another opset, control flow, sequences, FP16 or FP64 tensors, or a
            tensor whose type is not known.
    """
    _unify_domain(model)
    opset = opset_of(model.graph)
    if opset < _OLDEST_OPSET:
        raise GraphError(
            f"the model has opset {opset}; expected {_OLDEST_OPSET} or newer, where GridSample is a standard operator: "
            "export it again at opset 18",
            code="unsupported-opset",
            opset=opset,
        )
    for nodes in (model.graph, *model.functions.values()):
        count: Counter[str] = Counter()
        for node in nodes:
            count[node.op_type] += 1
            node.name = node.name or f"{node.op_type}_{count[node.op_type]}"
    if model.functions:
        try:
            common.InlinePass()(model)
            # A call may leave out inputs of a function, which nodes inside of it need.
            onnx.checker.check_model(ir.to_proto(model))
        except Exception as error:  # of onnx and onnx_ir, which share no base class
            raise GraphError(
                f"the model's functions cannot be inlined ({error}); expected functions of the model's own opset, with "
                "all inputs that they need: export it again, or inline them with onnx.inliner",
                code="unsupported-functions",
            ) from error
    _refuse_control_flow(model.graph)
    tidy(model)
    _refuse_types(model.graph)
    for node in model.graph:
        # A CastLike takes its type from a tensor whose type a pass may change; a Cast states it.
        if is_op(node, "CastLike") and (dtype := node.outputs[0].dtype) is not None:
            node.op_type = "Cast"
            node.resize_inputs(1)
            node.attributes["to"] = ir.AttrInt64("to", int(dtype))
    _remove_idle(model.graph)
    return model


def tidy(model: ir.Model) -> None:
    """Lift constants to initializers, drop unused nodes, make names unique and infer shapes, in place."""
    for clean in (
        common.RemoveInitializersFromInputsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveUnusedNodesPass(),
        common.NameFixPass(),
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True),
    ):
        clean(model)


def float_values(graph: ir.Graph) -> list[ir.Value]:
    """Return every FP32 input and node output of a graph, in order; constants are left out."""
    computed = (value for node in graph for value in node.outputs)
    return [value for value in (*graph.inputs, *computed) if value.dtype == ir.DataType.FLOAT]


def _unify_domain(model: ir.Model) -> None:
    """Rename the standard domain's second name, `ai.onnx`: the passes of onnx_ir know only the first."""
    for imports in (model.graph.opset_imports, *(function.opset_imports for function in model.functions.values())):
        if "ai.onnx" in imports:
            imports[""] = max(imports.pop("ai.onnx"), imports.get("", 0))
    for function in list(model.functions.values()):
        if function.domain == "ai.onnx":  # it takes the place of a standard operator
            del model.functions[function.identifier()]
            function.domain = ""
            model.functions[function.identifier()] = function
    for node in (*model.graph.all_nodes(), *(node for function in model.functions.values() for node in function)):
        if node.domain == "ai.onnx":
            node.domain = ""


def _refuse_control_flow(graph: ir.Graph) -> None:
    for node in graph:
        if any(attribute.type in _GRAPH_TYPES for attribute in node.attributes.values()):
            raise GraphError(
                f"node {node.name!r} is {node.op_type}, whose body is a graph of its own; expected a graph without "
                "control flow: export the branch that is used, or unroll the loop; onnx-simplifier folds constant ones",
                code="control-flow",
                node=node.name,
            )
        if node.op_type.startswith(_LISTS):
            raise GraphError(
                f"node {node.name!r} is {node.op_type}, which is for sequences of tensors; expected tensors alone: "
                "onnx-simplifier replaces most sequences by Split and Concat",
                code="sequence",
                node=node.name,
            )


def _refuse_types(graph: ir.Graph) -> None:
    computed = (value for node in graph for value in node.outputs if value.name)
    values = [*graph.inputs, *graph.initializers.values(), *computed]
    half = [value for value in values if value.dtype in HALF]
    if half:
        raise GraphError(
            f"the model has FP16 tensors already ({len(half)} of {len(values)}, such as {half[0].name!r}); expected an "
            "FP32 model: lower the file that this one was made from",
            code="not-fp32",
            tensor=half[0].name,
        )
    sizes = size_values(graph)
    for value in values:
        node = value.producer()
        made = f", made by the operator {node.domain or 'ai.onnx'}.{node.op_type}," if node else ""
        if value.dtype is None:
            raise GraphError(
                f"the type of tensor {value.name!r}{made} is not known; expected types that can be inferred: replace "
                "custom operators by standard ones, or declare the type in value_info",
                code="unknown-type",
                tensor=value.name,
            )
        # Numbers and sizes, and what leads to an output of its own, never meet what FP16 computes: they stay FP64.
        apart = value.const_value is not None or value in sizes
        if value.dtype == ir.DataType.DOUBLE and not apart and _leads_to(value, ir.DataType.FLOAT):
            raise GraphError(
                f"tensor {value.name!r}{made} is FP64, and FP32 tensors are computed from it; expected an FP32 model: "
                "export it in FP32",
                code="not-fp32",
                tensor=value.name,
            )


def _leads_to(start: ir.Value, dtype: ir.DataType) -> bool:
    """Return whether a tensor of a type is computed from a value."""
    waiting, seen = [start], set()
    while waiting:
        for node, _ in waiting.pop().uses():
            if node not in seen:
                seen.add(node)
                waiting += node.outputs
    return any(value.dtype == dtype for node in seen for value in node.outputs)


def _remove_idle(graph: ir.Graph) -> None:
    """Drop each Identity, and each Cast to the type that a value has: they hide how it is used."""
    for node in list(graph):
        source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
        if not is_op(node, "Identity", "Cast") or source is None or source.dtype != result.dtype:
            continue
        if result.is_graph_output():
            if source.producer() is None or source.is_graph_output():  # both have names of their own to keep
                node.op_type = "Identity"
                node.attributes.clear()
                continue
            source.name, source.shape = result.name, result.shape
        ir.convenience.replace_all_uses_with(result, source, replace_graph_outputs=True)
        graph.remove(node, safe=True)
