"""Rewritten graphs compute the same bits, and what must not be rewritten is left."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.parser import parse_model

from refine_export.graph.parser_cost import split_slices, widen_constants
from refine_export.runners.onnxruntime import OrtRunner

BOUNDS = "<int64[1] zero = {0}, int64[1] two = {2}, int64[1] three = {3}, int64[1] four = {4}, int64[1] one = {1}>"
FLOW = "float[1,4,6,8] flow"


def changed(body, *, inputs=FLOW, outputs="float[a,b,c,d] y", constants=BOUNDS, by=split_slices):
    """Rewrite a graph, check that it computes what it did, and return its operators."""
    text = f'<ir_version: 9, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {constants} {{ {body} }}'
    before = onnx.shape_inference.infer_shapes(parse_model(text), data_prop=True)
    model = ir.from_proto(before)
    by(model.graph)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    if "C," not in inputs:
        feeds = {"flow": np.random.default_rng(0).random((1, 4, 6, 8), dtype=np.float32)}
        with OrtRunner(before.SerializeToString()) as one, OrtRunner(after.SerializeToString()) as other:
            results, again = one.run(feeds), other.run(feeds)
        assert all(np.array_equal(results[name], again[name]) for name in results)
    return after


def operators(model):
    return [node.op_type for node in model.graph.node]


def test_halves_of_a_flow_become_a_split():
    body = "a = Slice (flow, zero, two, one) b = Slice (flow, two, four, one, one) y = Sub (b, a)"
    assert operators(changed(body)) == ["Split", "Sub"]


def test_parts_may_repeat_and_leave_channels_out():
    body = (
        "r = Relu (flow) a = Slice (r, two, three, one) b = Slice (r, two, three, one) c = Slice (r, zero, one, one) "
        "d = Sub (a, b) y = Sub (d, c)"
    )
    model = changed(body)
    assert operators(model) == ["Relu", "Split", "Sub", "Sub"]
    [sizes] = [tensor for tensor in model.graph.initializer if tensor.name == model.graph.node[1].input[1]]
    assert onnx.numpy_helper.to_array(sizes).tolist() == [1, 1, 1, 1]


def test_parts_that_overlap_become_a_split_each():
    body = "a = Slice (flow, zero, three, one) b = Slice (flow, two, four, one) y = Concat <axis = 1> (a, b)"
    assert operators(changed(body)) == ["Split", "Split", "Concat"]


def test_a_part_of_a_part_is_taken_from_the_whole():
    body = (
        "r = Relu (flow) b = Slice (r, two, four, one) x = Slice (b, zero, one, one) y0 = Slice (b, one, two, one) "
        "y = Sub (x, y0)"
    )
    model = changed(body)
    assert operators(model) == ["Relu", "Slice", "Split", "Sub"]  # the Slice is read by nothing any more
    assert model.graph.node[2].input[0] == "r"


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("y = Slice (flow, zero, two, two)", FLOW),  # rows
        ("a = Slice (flow, zero, four, one, two) y = Relu (a)", FLOW),  # every second channel
        ("a = Slice (flow, zero, two, one) y = Relu (a)", "float[1,C,6,8] flow"),
    ],
    ids=["rows", "steps", "unknown channels"],
)
def test_other_slices_stay(body, inputs):
    assert "Slice" in operators(changed(body, inputs=inputs))


def test_constants_get_the_rank_of_what_they_meet():
    constants = "<float half = {0.5}, float[4,1,1] slope = {0, 0.1, 0.2, 0.3}>"
    body = "a = Sub (half, flow) b = PRelu (a, slope) y = Mul (b, half)"
    model = changed(body, constants=constants, by=widen_constants)
    read = {name for node in model.graph.node for name in node.input}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.name in read}
    assert sorted(shapes.values()) == [(1, 1, 1, 1), (1, 4, 1, 1)]
