"""Copies of a graph that show what is inside: intermediate tensors as outputs, or as inputs.

Every copy shares the constants of the model it is made of, and leaves that model as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from refine_export.errors import GraphError
from refine_export.graph.prepare import tidy

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def inspectable_model(proto: onnx.ModelProto) -> ir.Model:
    """Name the nodes and infer the types of a model, inline its functions and lift its constants.

    It computes the same as `proto`, and its tensors keep their names.

    Args:
        proto: of any types, external data loaded; not modified.

    Raises:
        GraphError: `invalid-onnx`.
    """
    try:
        model = ir.from_proto(proto)
        if model.functions:
            common.InlinePass()(model)
        tidy(model)
        model.graph.sort()
        model.clone()  # fails where a node reads what nothing makes
    except Exception as error:  # of onnx and onnx_ir, which have a class of their own for each way to be wrong
        reason: BaseException = error
        while reason.__cause__ is not None:  # onnx_ir's own name a function and print the whole graph
            reason = reason.__cause__
        problem = f"the model is not valid ONNX ({' '.join(str(reason).split())})"
        raise GraphError(f"{problem}; expected a valid one: export it again", code="invalid-onnx") from error
    return model


def float_tensors(graph: ir.Graph) -> list[ir.Value]:
    """Return every float tensor that a node of the graph puts out, in topological order; bodies are left out."""
    return [value for node in graph for value in node.outputs if value.name and value.dtype in FLOATS]


def with_shapes(model: ir.Model, names: Collection[str]) -> ir.Model:
    """Copy a model so that its outputs are the shapes of these node outputs, in this order.

    A run of it gives shapes that inference cannot, and holds no tensor longer than the graph itself does.
    """
    copy = model.clone()
    values = ir.convenience.create_value_mapping(copy.graph)
    copy.graph.outputs.clear()
    for number, name in enumerate(names):
        node = ir.node("Shape", [values[name]], name=f"bisect/shape{number}")
        node.outputs[0].name, node.outputs[0].dtype = node.name, ir.DataType.INT64
        copy.graph.append(node)
        copy.graph.outputs.append(node.outputs[0])
    common.RemoveUnusedNodesPass()(copy)
    return copy


def with_outputs(
    model: ir.Model, names: Collection[str], given: Mapping[str, tuple[int, ...]] | None = None
) -> ir.Model:
    """Copy a model so that its outputs are these node outputs, computed from the given tensors nearest before them.

    The inputs that are left are those of the given tensors and of the graph that are read, by their own names; a
    tensor that is both given and asked for is the output `made/...` and the input of its name.

    Args:
        model: of `inspectable_model`.
        names: of node outputs.
        given: name of a node output -> its shape; without any, everything is computed from the graph's inputs.
    """
    copy = model.clone()
    graph = copy.graph
    values = ir.convenience.create_value_mapping(graph)
    outputs = [values[name] for name in names]
    for name, shape in (given or {}).items():
        value = values[name]
        value.name = made_name(name)
        inserted = ir.Value(name=name, type=value.type, shape=ir.Shape(shape))
        for reader, index in tuple(value.uses()):
            reader.replace_input_with(index, inserted)
        graph.inputs.append(inserted)
    graph.outputs.clear()
    for value in outputs:
        value.shape = None  # a shape that is declared inside of a graph may be wrong; of an output it must not
        graph.outputs.append(value)
    common.RemoveUnusedNodesPass()(copy)
    for value in list(graph.inputs):
        if not value.uses():
            graph.inputs.remove(value)
    return copy


def made_name(name: str) -> str:
    """Return the name that `with_outputs` gives the computed tensor where its own is that of the given one."""
    return f"made/{name}"


def constant(value: ir.Value | None) -> np.ndarray | None:
    """Return the content of a constant; None for any other tensor."""
    return None if value is None or value.const_value is None else np.asarray(value.const_value.numpy())
