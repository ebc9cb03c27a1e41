"""Interpolators with one input [N, C, H, W], as vs-mlrt's RIFE files have them (AmusementClub/vs-mlrt, vsmlrt.py).

    channels 0 to 5    frame 0 and frame 1, RGB in [0, 1]
    channel 6          the timestep
    channels 7 to 10   x and y from -1 to 1, 2 / (W - 1) and 2 / (H - 1); where there are 11

vs-mlrt pads the frames for files of 11 channels, its first form (folder `rife`); those of 7 (`rife_v2`) pad inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
import onnx.checker
import onnx_ir as ir
from numpy.typing import NDArray

from refine_export.graph.node_writer import NodeWriter
from refine_export.signature import Layout, Signature, TensorInfo, TensorSpec

CHANNELS: Final[Mapping[Layout, int]] = {"stacked7": 7, "stacked11": 11}
LAYOUTS: Final[Mapping[int, Layout]] = {channels: layout for layout, channels in CHANNELS.items()}
TIMESTEP_CHANNEL = 6
INPUT, OUTPUT = "input", "output"
"""Names in vs-mlrt's files."""
PADS_INSIDE = 7


def stack_signature(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Signature | None:
    """Return the signature of an interpolator with one stack, by the shapes of its input and output; else None."""
    if (
        len(inputs) != 1
        or len(outputs) != 1
        or len(inputs[0].shape) != 4
        or inputs[0].shape[1] not in CHANNELS.values()
    ):
        return None
    if len(outputs[0].shape) == 4 and isinstance(outputs[0].shape[1], int) and outputs[0].shape[1] != 3:
        return None
    stack = TensorSpec(name=inputs[0].name, quantity="image", shape=("N", inputs[0].shape[1], "H", "W"))
    frame = TensorSpec(name=outputs[0].name, quantity="image", shape=("N", 3, "H", "W"))
    return Signature(graph="interpolator", inputs=(stack,), outputs=(frame,))


def stack_of(img0: NDArray[Any], img1: NDArray[Any], timestep: NDArray[Any], channels: int) -> NDArray[np.float32]:
    """Stack two frames [N, 3, H, W] and their times [N, 1, 1, 1] to [N, channels, H, W]."""
    batch, _, height, width = img0.shape
    stack = np.empty((batch, channels, height, width), np.float32)
    stack[:, :3], stack[:, 3:6], stack[:, 6:7] = img0, img1, timestep
    if channels > PADS_INSIDE:
        stack[:, 7:] = coordinate_planes(height, width)
    return stack


def pair_of(stack: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Take the inputs of an interpolator of pairs from a stack."""
    return {"img0": stack[:, :3], "img1": stack[:, 3:6], "timestep": stack[:, TIMESTEP_CHANNEL:7, :1, :1]}


def coordinate_planes(height: int, width: int) -> NDArray[np.float32]:
    """Make the last four channels of eleven, [4, H, W]."""
    planes = np.empty((4, height, width), np.float32)
    planes[0] = np.linspace(-1, 1, width, dtype=np.float32)
    planes[1] = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    planes[2], planes[3] = (2 / max(side - 1, 1) for side in (width, height))
    return planes


def with_stacked_input(model: onnx.ModelProto, layout: Layout, multiple_of: int) -> onnx.ModelProto:
    """Replace the three inputs of an interpolator by one stack.

    The coordinates of eleven channels are not read, since the graph computes its own. A file of seven that takes any
    size pads the frames inside, by their borders, and crops the result.

    Args:
        model: with the inputs `img0`, `img1` and `timestep` and one output; not modified.
        layout: one of the stacked forms.
        multiple_of: the network's padding.
    """
    made = ir.from_proto(model)
    graph, channels, writer = made.graph, CHANNELS[layout], NodeWriter(made.graph, "stack")
    op, constant = writer.op, writer.constant
    pair, [frame] = list(graph.inputs), graph.outputs
    shape = pair[0].shape
    assert shape is not None  # `onnx_from_network` states it
    batch, _, *sides = shape
    stack = whole = ir.Value(name=INPUT, type=pair[0].type, shape=ir.Shape([batch, channels, *sides]))
    if channels == PADS_INSIDE and not all(isinstance(side, int) for side in sides):
        size, unit = op("Shape", stack, start=2), constant([multiple_of])
        count = op("Div", op("Add", size, constant([multiple_of - 1])), unit)
        pads = op("Concat", constant([0] * 6), op("Sub", op("Mul", count, unit), size), axis=0)
        whole = op("Pad", stack, pads, mode="edge")
        cropped = op("Slice", frame, constant([0, 0]), size, constant([2, 3]))
        cropped.type, cropped.shape = frame.type, frame.shape
        graph.outputs[0] = cropped
    sizes = [3, 3, 1, *([channels - 7] if channels > 7 else [])]
    parts = writer.outputs(
        "Split", whole, constant(sizes), names=("img0", "img1", "timestep", "rest")[: len(sizes)], axis=1
    )
    ir.convenience.replace_all_uses_with(pair, parts[:3])
    graph.extend(writer.nodes)
    graph.inputs[:] = [stack]
    graph.outputs[0].name = OUTPUT
    graph.sort()
    proto = ir.to_proto(made)
    onnx.checker.check_model(proto, full_check=True)
    return proto
