"""The two ONNX models around the ensemble's network: pictures to its inputs, and its output to a picture.

They compute what `images.padded`, `images.cropped` and `images.uint8_from_frame` do, so that a served frame is the one
that a local runner gives. Shape legend: H and W size of the pictures; h and w the same, padded for the network.

    content = pre_model("float", "float", 32)  # bytes of interpolate_pre/1/model.onnx
"""

from __future__ import annotations

from typing import Literal

import onnx
from onnx.parser import parse_model

from refine_export import __version__

ImageType = Literal["float", "float16"]
"""ONNX's name of the type of images or of a timestep."""

# Opset and IR version that ONNX Runtime 1.17, and so Triton 24.04, can read.
_HEADER = f'<ir_version: 9, opset_import: ["" : 18], producer_name: "refine-export", producer_version: "{__version__}">'

_PRE = """
interpolate_pre (uint8[H, W, 3] frame0, uint8[H, W, 3] frame1{timestep})
    => ({image}[1, 3, h, w] img0, {image}[1, 3, h, w] img1{time})
<int64[1] first = {{0}}, int64 stride = {{{multiple_of}}}, int64[5] before = {{0, 0, 0, 0, 0}},
 int64[1] channels = {{0}}, float levels = {{255.0}}, int64[4] ones = {{1, 1, 1, 1}}>
{{
    # One Concat takes both pictures, so that two of different sizes are refused.
    first_row = Unsqueeze (frame0, first)
    second_row = Unsqueeze (frame1, first)
    pair = Concat <axis = 0> (first_row, second_row)
    # ONNX's Mod has the sign of the divisor: -size mod {multiple_of} is what is missing to the next multiple.
    size = Shape <start = 1, end = 3> (pair)
    negative = Neg (size)
    missing = Mod (negative, stride)
    pads = Concat <axis = 0> (before, missing, channels)
    # Padded and transposed in bytes, which moves a quarter of what FP32 does.
    padded = Pad <mode = "edge"> (pair, pads)
    planes = Transpose <perm = [0, 3, 1, 2]> (padded)
    bytes0, bytes1 = Split <axis = 0, num_outputs = 2> (planes)
    float0 = Cast <to = 1> (bytes0)
    float1 = Cast <to = 1> (bytes1)
    unit0 = Div (float0, levels)
    unit1 = Div (float1, levels)
    img0 = Cast <to = {image_code}> (unit0)
    img1 = Cast <to = {image_code}> (unit1)
    {reshape}
}}
"""
_POST = """
interpolate_post ({image}[1, 3, h, w] frame, uint8[H, W, 3] frame0) => (uint8[H, W, 3] picture)
<int64[2] corner = {{0, 0}}, int64[2] sides = {{2, 3}}, int64[1] colours = {{1}}, int64[1] first = {{0}},
 float zero = {{0.0}}, float levels = {{255.0}}, float step = {{1.0}}, uint8 black = {{0}},
 uint8[1, 3, 1, 1] magenta = {{255, 0, 255}}>
{{
    size = Shape <start = 0, end = 2> (frame0)
    part = Slice (frame, corner, size, sides)
    values = Cast <to = 1> (part)
    # 0 times NaN or infinity is NaN: one bad value marks the pixel.
    total = ReduceSum <keepdims = 1> (values, colours)
    product = Mul (total, zero)
    wrong = IsNaN (product)
    # QuantizeLinear rounds half to even and clips, as `uint8_from_frame` does; of NaN it makes anything.
    scaled = Mul (values, levels)
    rounded = QuantizeLinear (scaled, step, black)
    marked = Where (wrong, magenta, rounded)
    plane = Squeeze (marked, first)
    picture = Transpose <perm = [1, 2, 0]> (plane)
}}
"""


def pre_model(image: ImageType, time: ImageType | None, multiple_of: int) -> bytes:
    """Build `interpolate_pre`: two pictures to the inputs of a network.

    frame0, frame1 uint8 [H, W, 3] to img0, img1 [1, 3, h, w] in [0, 1], with the last rows and columns repeated; and
    timestep [1] to time [1, 1, 1, 1].

    Args:
        image: type of the network's images.
        time: type of its timestep; None where it takes none.
        multiple_of: the network's padding.
    """
    return _content(
        _PRE,
        image=image,
        image_code=_code(image),
        multiple_of=multiple_of,
        timestep=", float[1] timestep" if time else "",
        time=f", {time}[1, 1, 1, 1] time" if time else "",
        reshape=f"number = Reshape (timestep, ones)\n    time = Cast <to = {_code(time)}> (number)" if time else "",
    )


def post_model(image: ImageType) -> bytes:
    """Build `interpolate_post`: a network's frame [1, 3, h, w] to a picture uint8 [H, W, 3] of frame0's size.

    A pixel with NaN or infinity is magenta, as in `uint8_from_frame`: a cast of NaN differs between machines, and
    black would look like a picture.

    Args:
        image: type of the network's output.
    """
    return _content(_POST, image=image)


def _content(template: str, **values: object) -> bytes:
    model = parse_model(_HEADER + template.format(**values))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _code(dtype: ImageType) -> int:
    """Return ONNX's number of a type."""
    return int(onnx.TensorProto.DataType.Value(dtype.upper()))
