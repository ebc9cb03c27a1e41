"""New nodes and constants have names of their own, and the types of what they compute."""

import numpy as np
import onnx_ir as ir
from onnx.parser import parse_model

from refine_export.graph.node_writer import NodeWriter

MODEL = '<ir_version: 9, opset_import: ["": 18]> m (float16[2, 3] x) => (float16[2, 3] y) { [a] y = Relu (x) }'


def test_names_types_and_places():
    graph = ir.from_proto(parse_model(MODEL)).graph
    [relu], [x] = list(graph), graph.inputs
    writer = NodeWriter(graph, "new")
    first, second = writer.constant([1, 2]), writer.constant([1, 2])
    assert (first.name, first.dtype, second is first) == ("new/int64_[1,2]", ir.DataType.INT64, True)
    scalar, named = writer.constant(0.5), writer.constant(np.float16(0.5), "half")
    assert (scalar.dtype, named.name, named.dtype) == (ir.DataType.FLOAT, "half", ir.DataType.FLOAT16)
    relu.metadata_props["made"] = "here"
    writer.prefix = "a"
    shape, cast = writer.op("Shape", x), writer.op("Cast", x, to=ir.DataType.FLOAT)
    parts = writer.outputs("Split", writer.op("Mul", x, named), named, names=("left", "right"), axis=1)
    again = writer.op("Shape", x)
    assert [value.name for value in (shape, cast, *parts, again)] == [
        "a/Shape",
        "a/Cast",
        "a/left",
        "a/right",
        "a/Shape_2",
    ]
    assert [str(value.dtype) for value in (shape, cast, *parts)] == ["INT64", "FLOAT", "FLOAT16", "FLOAT16"]
    writer.replace(relu, parts[0])
    assert [node.op_type for node in graph] == ["Shape", "Cast", "Mul", "Split", "Shape"]
    assert (graph.outputs[0].name, {node.metadata_props["made"] for node in graph}) == ("y", {"here"})
    assert (writer.nodes, relu.graph) == ([], None)
