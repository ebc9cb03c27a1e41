"""Write nodes and constants into a graph, under names that nothing else in it has."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx_ir as ir


class NodeWriter:
    """Makes nodes, which are for the caller to place, and constants; a node and its first output have one name."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self.graph = graph
        self.prefix = prefix
        """First part of the names of nodes; unnamed constants keep that of the beginning."""
        self.nodes: list[ir.Node] = []
        """Nodes that were made since `replace`, in topological order."""
        made = (value for node in graph for value in node.outputs)
        self._taken = {value.name for value in (*graph.inputs, *graph.initializers.values(), *made)}
        self._constants: dict[object, ir.Value] = {}
        self._first_prefix = prefix

    def op(self, op_type: str, *inputs: ir.Value | None, name: str = "", **attributes: Any) -> ir.Value:
        """Make a node of one output, called `<prefix>/<name>`, or by its type."""
        return self.outputs(op_type, *inputs, names=(name or op_type,), **attributes)[0]

    def outputs(
        self, op_type: str, *inputs: ir.Value | None, names: tuple[str, ...], **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Make a node with an output for each name, of its first input's type unless it is a Shape or a Cast."""
        dtype = attributes.get("to", inputs[0] and inputs[0].dtype) if op_type != "Shape" else ir.DataType.INT64
        type_ = None if dtype is None else ir.TensorType(dtype)
        made = tuple(ir.Value(name=self._free(f"{self.prefix}/{name}"), type=type_) for name in names)
        self.nodes.append(ir.node(op_type, inputs, attributes, outputs=made, name=made[0].name))
        return made

    def constant(self, content: Any, name: str = "") -> ir.Value:
        """Return the initializer of a name and a content: an array, a list of INT64 or an FP32 number."""
        array = np.asarray(content, {list: np.int64, float: np.float32}.get(type(content)))
        key = (name, array.dtype, array.shape, array.tobytes())
        if key not in self._constants:
            own = name or f"{self._first_prefix}/{array.dtype}_{array.tolist()}".replace(" ", "")
            tensor = ir.tensor(array, name=self._free(own))
            type_, shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
            value = ir.Value(name=tensor.name, type=type_, shape=shape, const_value=tensor)
            self.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def replace(self, node: ir.Node, output: ir.Value) -> None:
        """Put the new nodes in the place of one whose only output becomes `output`."""
        for made in self.nodes:
            made.metadata_props.update(node.metadata_props)
        ir.convenience.replace_nodes_and_values(self.graph, node, [node], self.nodes, node.outputs, [output])
        self.nodes = []

    def _free(self, name: str) -> str:
        free = next(free for k in itertools.count(1) if (free := f"{name}_{k}" if k > 1 else name) not in self._taken)
        self._taken.add(free)
        return free
