"""The padding that a network takes, found in graphs of any tool, and what it is read as."""

import onnx
import onnx.parser
import pytest

from refine_export.artifacts import signature_of_model
from refine_export.graph.frame_padding import padding_of_graph

HEAD = """<ir_version: 8, opset_import: ["" : 18]>
network (float[N,3,H,W] img0, float[N,3,H,W] img1) => (float[N,3,H,W] frame)
<float[3,3,3,3] w, float[4] s = {1.0, 1.0, 0.0625, 0.0625}, float[4] l = {1.0, 1.0, 16.0, 16.0}> {
"""
DOWN, UP = "Conv <strides = [2, 2], pads = [1, 1, 1, 1]>", "ConvTranspose <strides = [2, 2]>"


def network(body):
    return onnx.parser.parse_model(f"{HEAD} x = Add (img0, img1) {body} }}")


@pytest.mark.parametrize(
    ("body", "padding"),
    [
        (f"frame = {DOWN} (x, w)", 32),
        (f"r = Resize (x, , s) a = {DOWN} (r, w) b = {DOWN} (a, w) frame = Resize (b, , l)", 64),
        (f"r = Resize (x, , s) b = {UP} (r, w) a = {DOWN} (b, w) frame = Resize (a, , l)", 32),
        (f"r = Resize (x, , s) d = DepthToSpace <blocksize = 4> (r) a = {DOWN} (d, w) frame = {DOWN} (a, w)", 32),
        ("c = Constant <value = float[4] {1.0, 1.0, 0.01, 0.01}> () frame = Resize (x, , c)", 128),
        ("c = Constant <value_floats = [1.0, 1.0, 0.01, 0.01]> () frame = Resize (x, , c)", 128),
        ("c = Constant <value = float[2] {0.01, 0.01}> () frame = Resize (x, , c)", 32),
        ("h = Shape (x) frame = Resize (x, , , h)", 32),
        ("frame = DepthToSpace <blocksize = 0> (x)", 32),
        ("c = Constant <value = float[4] {1.0, 1.0, 0.0, 0.0}> () frame = Resize (x, , c)", 32),
    ],
)
def test_the_coarsest_map_decides(body, padding):
    assert padding_of_graph(network(body).graph, ("img0", "img1")) == padding


def test_a_file_that_states_its_padding_is_believed():
    model = network(f"r = Resize (x, , s) a = {DOWN} (r, w) b = {DOWN} (a, w) frame = Resize (b, , l)")
    assert signature_of_model(model).multiple_of == 64
    onnx.helper.set_model_props(model, {"refine_export.multiple_of": "128"})
    assert signature_of_model(model).multiple_of == 128
