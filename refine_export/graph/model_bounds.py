"""Refuse a model that a stranger's file made damaged or endless, before any pass, checker or runtime works on it.

Every bound is counted on the file as it is: shape inference, inlining and constant folding would do the work that the
bound is there to spare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx.helper
from onnx import numpy_helper

from refine_export.errors import GraphError

MOST_NODES: Final = 100_000
"""Nodes after functions are inlined, loops of a known length unrolled; the largest network of this tool has 1,300."""
MOST_CONSTANTS: Final = 50_000
MOST_CONSTANT_BYTES: Final = 2**30
"""Bytes that the constants of one node may make: a runtime folds it when it loads the file."""

_FILLS: Final = ("ConstantOfShape", "Expand", "Range", "Tile")
"""Operators that make large tensors of small constants."""
_Key = tuple[str, str, str]


def check_bounds(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a model that is damaged in a way that parsing does not show, or too large to be worked on.

    Raises:
        GraphError: `not-onnx`, `endless-model` or `model-too-large`.
    """
    graphs = list(graphs_of(model))
    if damage := next(_damages(graphs), None):
        problem = f"is damaged: {damage}; copy it again, or export it again"
        raise GraphError.about(path, "not-onnx", problem)
    constants = sum(len(graph.initializer) for graph in graphs if isinstance(graph, onnx.GraphProto))
    if constants > MOST_CONSTANTS:
        problem = f"has {constants} constants; expected at most {MOST_CONSTANTS}: join them, or export it again"
        raise GraphError.about(path, "model-too-large", problem)
    try:
        nodes = _Count(model).of(model.graph)
    except RecursionError as error:
        problem = "has functions that call one another too deeply; inline them with onnx.inliner, or export it again"
        raise GraphError.about(path, "endless-model", problem) from error
    if nodes > MOST_NODES:
        found = "calls functions or loops without end" if math.isinf(nodes) else f"comes to {nodes:.3g} nodes"
        problem = f"{found}, with functions inlined and loops unrolled; expected at most {MOST_NODES}: export it again"
        raise GraphError.about(path, "endless-model", problem)
    for graph in graphs:
        known = _constants(graph)
        for node in graph.node:
            if node.op_type in _FILLS and (made := _bytes_made(node, known)) > MOST_CONSTANT_BYTES:
                problem = (
                    f"makes {made:.3g} bytes of constants in {node.op_type} {node.name or node.output[0]!r}; expected "
                    f"at most {MOST_CONSTANT_BYTES}: compute it from the inputs, or export it again"
                )
                raise GraphError.about(path, "model-too-large", problem)


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the graph, the functions, and the bodies in both."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += (body for node in graph.node for body in _bodies(node))


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs)


def _damages(graphs: Iterable[onnx.GraphProto | onnx.FunctionProto]) -> Iterator[str]:
    """Yield names that are not text, and tensors whose bytes are not those of their shape."""
    for graph in graphs:
        tensors = list(graph.initializer) if isinstance(graph, onnx.GraphProto) else []
        names: list[object] = [graph.name, *(tensor.name for tensor in tensors)]
        for node in graph.node:
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
            if not _domain(node.domain):  # operators of others may keep bytes in a string
                strings = [one.s for one in node.attribute if one.type == onnx.AttributeProto.STRING]
                names += [text for text in strings if not _is_text(text)]
            tensors += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
        if isinstance(graph, onnx.GraphProto):
            values = [*graph.input, *graph.output, *graph.value_info]
            names += [value.name for value in values]
            names += [dim.dim_param for value in values for dim in value.type.tensor_type.shape.dim]
        if wrong := [name for name in names if not isinstance(name, str)]:  # protobuf gives such a field as bytes
            yield f"the name {wrong[0]!r} is not UTF-8"
        for tensor in tensors:
            if tensor.data_location != onnx.TensorProto.EXTERNAL and (damage := _damage_of(tensor)):
                yield f"tensor {tensor.name!r} of shape {list(tensor.dims)} {damage}"


def _damage_of(tensor: onnx.TensorProto) -> str | None:
    """Return why a tensor's content is not that of its shape and type."""
    if tensor.HasField("raw_data"):
        bits = _BITS.get(tensor.data_type)
        expected = None if bits is None else -(-math.prod(tensor.dims) * bits // 8)
        size = len(tensor.raw_data)
        return None if expected in (None, size) else f"has {size} bytes, not {expected}"
    try:
        numpy_helper.to_array(tensor)
    except Exception as error:  # ValueError, TypeError and KeyError, by the type that the tensor states
        return f"cannot be read ({error})"
    return None


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


_BITS: Final = {
    number: 4 if name in ("INT4", "UINT4", "FLOAT4E2M1") else 8 * onnx.helper.tensor_dtype_to_np_dtype(number).itemsize
    for name, number in onnx.TensorProto.DataType.items()
    if name not in ("UNDEFINED", "STRING", "INT2", "UINT2")
}
"""Type -> bits of an element in `raw_data`."""


class _Count:
    """Number of nodes of a graph with its functions inlined and its loops unrolled; infinite where none ends."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._functions: dict[_Key, onnx.FunctionProto] = {
            (_domain(one.domain), one.name, one.overload): one for one in model.functions
        }
        self._known: dict[_Key, float] = {}

    def of(self, graph: onnx.GraphProto | onnx.FunctionProto, outer: Mapping[str, np.ndarray] | None = None) -> float:
        known = {**(outer or {}), **_constants(graph)}
        total = 0.0
        for node in graph.node:
            key = (_domain(node.domain), node.op_type, node.overload)
            inner = sum(self.of(body, known) for body in _bodies(node))
            if key[:2] == ("", "Loop"):
                inner *= _trips(node, known)
            total += 1 + inner + (self._of_function(key) if key in self._functions else 0)
        return total

    def _of_function(self, key: _Key) -> float:
        if key not in self._known:
            self._known[key] = math.inf  # until it is counted: one that calls itself never ends
            self._known[key] = self.of(self._functions[key])
        return self._known[key]


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _trips(node: onnx.NodeProto, known: Mapping[str, np.ndarray]) -> float:
    """Return how often a Loop runs, if that is a constant; where a condition that is computed may end it, once."""
    limit = known.get(node.input[0]) if node.input and node.input[0] else None
    body = next(_bodies(node), None)
    if body is not None and body.output:
        makers = {name: inner for inner in body.node for name in inner.output}
        name = body.output[0].name
        while name in makers and makers[name].op_type in ("Identity", "Cast") and makers[name].input:
            name = makers[name].input[0]
        if name in makers and makers[name].op_type != "Constant":  # exporters write a `while` with the largest limit
            return 1.0
        if not (node.input and node.input[0]):
            return math.inf
    return 1.0 if limit is None or not limit.size else float(max(limit.ravel()[0], 1))


def _constants(graph: onnx.GraphProto | onnx.FunctionProto) -> dict[str, np.ndarray]:
    """Return the constants of a graph that are small, as sizes are."""
    tensors = {one.name: one for one in graph.initializer} if isinstance(graph, onnx.GraphProto) else {}
    found: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute:
            attribute = node.attribute[0]
            if attribute.HasField("t"):
                tensors[node.output[0]] = attribute.t
            elif attribute.name.startswith(("value_int", "value_float")):
                found[node.output[0]] = np.asarray(onnx.helper.get_attribute_value(attribute))
    for name, tensor in tensors.items():
        if math.prod(tensor.dims) <= 16 and tensor.data_location != onnx.TensorProto.EXTERNAL:  # no shape is longer
            found[name] = numpy_helper.to_array(tensor)
    return found


def _bytes_made(node: onnx.NodeProto, known: Mapping[str, np.ndarray]) -> float:
    """Return the bytes that a node makes where its size is a constant, taking four for an element; else none."""
    given = [known.get(name) for name in node.input]
    if node.op_type == "Range":
        bounds = [float(one.ravel()[0]) for one in given if one is not None and one.size]
        return 4 * abs((bounds[1] - bounds[0]) / bounds[2]) if len(bounds) == 3 and bounds[2] else 0.0
    size = given[-1] if given else None
    if size is None or (node.op_type in ("Expand", "Tile") and given[0] is None):
        return 0.0
    with np.errstate(all="ignore"):
        return 4 * float(np.prod(np.abs(size.astype(np.float64))))
