"""Puts nodes into a graph, behind what they read.

editor = Editor(model.graph)
uses = list(value.uses())
move_uses(editor.behind("Round", value), uses)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir


class Editor:
    """Of one graph, which it modifies; names of what is new begin with `mutant/`."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.made: list[ir.Node] = []
        """The new nodes."""
        made = (value for node in graph for value in node.outputs)
        self._taken = {value.name for value in (*graph.initializers.values(), *made)}
        self._count = 0

    def constant(self, array: Any) -> ir.Value:
        """A new initializer."""
        import numpy as np
        import onnx_ir as ir

        tensor = ir.tensor(np.asarray(array), name=self._free("constant"))
        value = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def behind(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """The result of a new node, right behind the maker of the first input, or before the first reader of it.

        The maker of another input may stand behind it: sort the graph in the end.
        """
        import onnx_ir as ir

        result_name = self._free(op_type, "/out")
        name = result_name.removesuffix("/out")
        dtype = attributes.get("to", inputs[0].dtype)
        result = ir.Value(name=result_name, type=None if dtype is None else ir.TensorType(dtype))
        node = ir.node(op_type, inputs, attributes, outputs=[result], name=name)
        maker = inputs[0].producer()
        if maker is None:
            reader = next((reader for reader in self.graph if inputs[0] in reader.inputs), self.graph[0])
            self.graph.insert_before(reader, node)
        else:
            self.graph.insert_after(maker, node)
        self.made.append(node)
        return result

    def _free(self, what: str, ending: str = "") -> str:
        """A name that nothing has."""
        while True:
            self._count += 1
            if (name := f"mutant/{what}_{self._count}{ending}") not in self._taken:
                return name


def move_uses(new: ir.Value, uses: Iterable[tuple[ir.Node, int]]) -> None:
    """Let `new` be read in these places."""
    for node, index in uses:
        node.replace_input_with(index, new)
