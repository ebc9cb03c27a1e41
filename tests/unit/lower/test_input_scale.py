"""Inputs that take pixels from 0 to 255 are recognised by their scaling, and no others."""

import onnx_ir as ir
import pytest
from onnx.parser import parse_model

from refine_export.lower.input_scale import scale_notes


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("y = Div (x, byte)", 1),
        ("t = Transpose (x) y = Mul (one_255th, t)", 1),
        ("y = Sub (x, mean)", 1),
        ("y = Div (x, one_255th)", 0),
        ("y = Div (byte, x)", 0),
        ("moved = Add (x, flow) y = Div (moved, byte)", 0),  # a static HDv3 divides flows by half its width
    ],
)
def test_the_first_scaling_of_an_input(body, count):
    constants = "<float byte = {255.0}, float mean = {123.7}, float one_255th = {0.00392}>"
    model = parse_model(
        f"""<ir_version: 9, opset_import: ["" : 18]>
        g (float[4,4] x, float[4,4] flow) => (float[4,4] y) {constants} {{ {body} }}"""
    )
    assert len(scale_notes(ir.from_proto(model), {"x": (0.0, 1.0), "flow": (-9.0, 9.0)})) == count
    assert scale_notes(ir.from_proto(model), {"x": (0.0, 255.0), "flow": (-9.0, 9.0)}) == []
