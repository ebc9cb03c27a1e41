"""Small models that engines are built from."""

from __future__ import annotations

import numpy as np
import onnx
from onnx.parser import parse_model

WARPED = """
    <ir_version: 10, opset_import: ["" : 20]>
    warped (float["N",4,"H","W"] image, float[1,32,32,2] grid) => (float["N",4,32,32] out)
    <float16[4,4,3,3] weight>
    {
        soft = Relu (image)
        moved = GridSample <mode = "linear", padding_mode = "border", align_corners = 1> (soft, grid)
        half = Cast <to = 10> (moved)
        features = Conv <pads = [1, 1, 1, 1]> (half, weight)
        out = Cast <to = 1> (features)
    }
"""


def model() -> onnx.ModelProto:
    made = parse_model(WARPED)
    weight = np.ones((4, 4, 3, 3), np.float16)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    return made
