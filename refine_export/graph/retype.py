"""Give a graph the types that were decided: constants converted, one Cast for each tensor and type that is needed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from refine_export.graph.fp16_constants import DTYPES
from refine_export.graph.model_file import ONNX_DOMAINS
from refine_export.graph.operator_types import is_op, low_inputs, opset_of
from refine_export.graph.precision_rule import Decision

_FLOATS = tuple(DTYPES.values())


class Retype(ir.passes.InPlacePass):
    """Change every FP32 tensor to the type of the node that makes it, and cast where a reader needs another.

    Precondition: an FP32 graph (`prepare`). Postcondition: each node has one type, that of its decision; no tensor is
    cast to the same type twice, no Cast undoes another, no constant is cast.

    Args:
        decisions: type of every node.
        io: type of each graph input and output that is not FP32, by name.
    """

    def __init__(self, decisions: Mapping[ir.Node, Decision], io: Mapping[str, ir.DataType]) -> None:
        super().__init__()
        self._decisions = decisions
        self._io = io
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._outputs: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._taken: set[str] = set()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        opset = opset_of(graph)
        nodes = list(graph)
        values = (value for node in nodes for value in node.outputs)
        named = (*graph.inputs, *graph.initializers.values(), *values)
        self._taken = {value.name or "" for value in named} | {node.name or "" for node in nodes}
        # Which inputs need which type is read off the FP32 types, so before any of them changes.
        needed = {node: self._needed(node, opset) for node in nodes}
        outputs = [(value, self._io.get(value.name or "", ir.DataType.FLOAT)) for value in graph.outputs]
        for value in graph.inputs:
            value.type = ir.TensorType(self._io.get(value.name or "", value.dtype or ir.DataType.FLOAT))
        low = [
            (node, DTYPES[type_]) for node in nodes if (type_ := self._decisions[node].type) not in ("none", "float32")
        ]
        for node, dtype in low:
            for result in node.outputs:
                if result.dtype == ir.DataType.FLOAT:
                    result.type = ir.TensorType(dtype)  # a new object: a clone shares its types
            _retype_attributes(node, dtype)
        for node in nodes:
            for index, dtype in needed[node].items():
                source = node.inputs[index]
                assert source is not None
                node.replace_input_with(index, self._as(graph, source, dtype))
        for index, (value, dtype) in enumerate(outputs):
            if value.dtype in _FLOATS and value.dtype != dtype:
                self._cast_output(graph, index, value, dtype)
        common.RemoveUnusedNodesPass()(model)  # FP32 constants that no node reads any more
        for (value, _), converted in self._casts.items():
            # A constant that is left in one type alone keeps its own name.
            if converted.is_initializer() and value.name not in graph.initializers:
                converted.name = value.name
        return ir.passes.PassResult(model, modified=bool(low or self._io))

    def _needed(self, node: ir.Node, opset: int) -> dict[int, ir.DataType]:
        """Return the type of each FP32 input that a node reads with its decision; empty where it takes any."""
        decision = self._decisions[node]
        if decision.type == "none":
            return {}
        floats = [k for k, value in enumerate(node.inputs) if value is not None and value.dtype == ir.DataType.FLOAT]
        needed = dict.fromkeys(floats, ir.DataType.FLOAT)
        if decision.type != "float32" and node.domain in ONNX_DOMAINS:
            needed.update(dict.fromkeys(low_inputs(node, opset, decision.type), DTYPES[decision.type]))
        return needed

    def _as(self, graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return `value` in a type: itself, a converted constant, or the output of its one Cast to that type."""
        if value.dtype == dtype:
            return value
        key = (value, dtype)
        if key not in self._casts:
            name = self._free(f"{value.name}/{dtype.name.lower()}")
            convert = _converted if value.is_initializer() else _cast
            self._casts[key] = convert(graph, value, dtype, name)
        return self._casts[key]

    def _free(self, name: str) -> str:
        """Return this name, with a number where the file has it already."""
        names = (f"{name}_{k}" if k else name for k in itertools.count())
        free = next(one for one in names if not {one, f"{one}/Cast"} & self._taken)  # a Cast is called after its result
        self._taken |= {free, f"{free}/Cast"}
        return free

    def _cast_output(self, graph: ir.Graph, index: int, value: ir.Value, dtype: ir.DataType) -> None:
        """Put a Cast between an output and the node that made it; the output keeps its name."""
        if value.name in graph.initializers:
            graph.outputs[index] = self._as(graph, value, dtype)
            return
        if (value, dtype) not in self._outputs:  # an output may be listed twice
            name, shape = value.name, value.shape
            known = self._casts.get((value, dtype))
            value.name = self._free(f"{name}/{value.dtype.name.lower() if value.dtype else ''}")
            cast = known if known is not None else _cast(graph, value, dtype, self._free(f"{name}/output"))
            cast.name, cast.shape = name, shape
            self._outputs[value, dtype] = cast
        graph.outputs[index] = self._outputs[value, dtype]


def _retype_attributes(node: ir.Node, dtype: ir.DataType) -> None:
    for name in ("to", "dtype"):  # Cast, Range-like and random operators
        if name in node.attributes and node.attributes[name].as_int() == ir.DataType.FLOAT:
            node.attributes[name] = ir.AttrInt64(name, int(dtype))
    if is_op(node, "ConstantOfShape"):  # whose type is that of its value, an FP32 zero where it is left out
        value = node.attributes.get_tensor("value")
        values = np.zeros(1, np.float32) if value is None else value.numpy()
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(values.astype(dtype.numpy()), dtype=dtype))


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
    """Insert a Cast right behind the node that makes `value`, or at the start of the graph."""
    result = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    node = ir.node("Cast", [value], {"to": int(dtype)}, outputs=[result], name=f"{name}/Cast")
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return result


def _converted(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
    """Register the constant in another type."""
    assert value.const_value is not None
    with np.errstate(over="ignore"):
        tensor = ir.tensor(value.const_value.numpy().astype(dtype.numpy()), dtype=dtype, name=name)
    converted = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape, const_value=tensor)
    graph.register_initializer(converted)
    return converted
