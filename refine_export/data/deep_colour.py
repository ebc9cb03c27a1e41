"""Colours of more than 8 bits to RGB in floats and back; HDR's curves are kept as they are.

Chroma is repeated for each pixel that shares it, and averaged on the way back: a frame that goes both ways keeps its
values, so that frames made from RGB do not flicker beside unchanged ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refine_export.support.imports import require

if TYPE_CHECKING:
    from refine_export.data.colour import ColourCoding, Encoding

Floats = NDArray[np.float32]

PLANAR = re.compile(r"yuv4\d\dp(\d+le)?")
WEIGHTS = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593),
}  # fmt: skip
"""Red and blue of luma by AVColorSpace (ITU-T H.273, table 4)."""


def planar_layout(layout: Any) -> str:
    """Return the planar YUV that holds the values of a pixel format (`av.VideoFormat`): yuv420p10le for p010le."""
    if PLANAR.fullmatch(layout.name):
        return str(layout.name)
    subsampled = {(8, 8): "yuv420p", (8, 16): "yuv422p", (16, 8): "yuv440p", (16, 16): "yuv444p"}
    bits = layout.components[0].bits
    return subsampled[layout.chroma_width(16), layout.chroma_height(16)] + (f"{bits}le" if bits > 8 else "")


def floats_from_frame(frame: Any, coding: ColourCoding) -> Floats:
    """Convert a frame to RGB [H, W, 3] in [0, 1]."""
    if coding.is_rgb:
        return np.asarray(frame.to_ndarray(format="rgb48le") / np.float32(65535), np.float32)
    frame = frame.reformat(format=planar_layout(frame.format))
    bits = frame.format.components[0].bits
    y, blue, red = (plane_values(plane, bits).astype(np.float32) for plane in frame.planes[:3])
    offset, luma_range, chroma_range, middle = _levels(coding.full, bits)
    weight_r, weight_b = WEIGHTS[coding.matrix]
    y -= offset
    y /= luma_range
    blue = (blue - middle) * np.float32(2 * (1 - weight_b) / chroma_range)  # B - Y; R - Y; and what they leave for G
    red = (red - middle) * np.float32(2 * (1 - weight_r) / chroma_range)
    green = (red * weight_r + blue * weight_b) * np.float32(-1 / (1 - weight_r - weight_b))
    height, width = y.shape
    down, across = -(-height // blue.shape[0]), -(-width // blue.shape[1])
    planes = np.empty((3, height, width), np.float32)  # the order that networks take
    for plane, chroma in zip(planes, (red, green, blue), strict=True):
        np.add(y, chroma.repeat(down, 0).repeat(across, 1)[:height, :width], out=plane)
    return np.moveaxis(planes.clip(0, 1, out=planes), 0, -1)


def frame_from_floats(picture: Floats, encoding: Encoding) -> Any:
    """Convert RGB [H, W, 3] in [0, 1] to a frame in the output's pixel format, planar YUV of 8 bits or more."""
    frame = require("av", extra="video").VideoFrame(picture.shape[1], picture.shape[0], encoding.layout)
    bits = frame.format.components[0].bits
    offset, luma_range, chroma_range, middle = _levels(encoding.coding.full, bits)
    weight_r, weight_b = WEIGHTS[encoding.coding.matrix]
    red, green, blue = np.moveaxis(picture, -1, 0)
    y = red * np.float32(weight_r) + green * np.float32(1 - weight_r - weight_b) + blue * np.float32(weight_b)
    blue, red = (blue - y) / np.float32(2 * (1 - weight_b)), (red - y) / np.float32(2 * (1 - weight_r))
    levels = [y * luma_range + offset, *(_averaged(one, frame) * chroma_range + middle for one in (blue, red))]
    for plane, values in zip(frame.planes, levels, strict=True):
        plane_values(plane, bits)[...] = np.rint(values).clip(0, 2**bits - 1)
    return frame


def _averaged(chroma: Floats, frame: Any) -> Floats:
    """Average the chroma of pixels that share a sample; the last row and column are repeated at odd sizes."""
    plane = frame.planes[1]
    down, across = -(-frame.height // plane.height), -(-frame.width // plane.width)
    grown = np.pad(
        chroma, ((0, plane.height * down - frame.height), (0, plane.width * across - frame.width)), mode="edge"
    )
    mean: Floats = grown.reshape(plane.height, down, plane.width, across).mean((1, 3))
    return mean


def _levels(full: bool, bits: int) -> tuple[float, float, float, float]:
    """Return black, the range of luma, the range of chroma and its middle, in levels."""
    unit = 2 ** (bits - 8)
    return (0, 2**bits - 1, 2**bits - 1, 128 * unit) if full else (16 * unit, 219 * unit, 224 * unit, 128 * unit)


def plane_values(plane: Any, bits: int = 8) -> NDArray[Any]:
    """View a plane of values of `bits` bits as [height, width], without the padding bytes of its lines."""
    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    return np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width]
