"""Find the multiple of the sides of frames that a network takes, from the strides and scales of its graph."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from refine_export.signature import MULTIPLE_OF, PADDINGS


def padding_of_graph(graph: onnx.GraphProto, frames: Iterable[str]) -> int:
    """Return the padding with which each map of the graph has a whole number of pixels: the coarsest decides.

    Args:
        graph: of any tool. A Resize whose scales it computes is passed over.
        frames: names of the inputs in full size.
    """
    constants = {tensor.name: _four_numbers(tensor) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            constants |= dict.fromkeys(node.output, [*attribute.floats] or _four_numbers(attribute.t))
    pixels = dict.fromkeys(frames, 1.0)
    for node in graph.node:
        given = next((pixels[name] for name in node.input if name in pixels), None)
        if given is not None:
            pixels |= dict.fromkeys(node.output, given * _growth(node, constants))
    return next((padding for padding in PADDINGS.values() if padding >= max(pixels.values(), default=1)), MULTIPLE_OF)


def _four_numbers(tensor: onnx.TensorProto) -> list[float]:
    """Return the content of a tensor of four FP32 numbers in the file; nothing for any other."""
    if tensor.dims != [4] or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.raw_data) not in (0, 16):
        return []
    return [*tensor.float_data] or np.frombuffer(tensor.raw_data, "<f4").tolist()


def _growth(node: onnx.NodeProto, constants: dict[str, list[float]]) -> float:
    """Return by how much a pixel of the result is wider than one of the input."""
    numbers: dict[str, int] = {attribute.name: [attribute.i, *attribute.ints][-1] for attribute in node.attribute}
    stride, block = (max(1, numbers.get(name, 1)) for name in ("strides", "blocksize"))
    if node.op_type in ("Conv", "AveragePool", "MaxPool"):
        return stride
    if node.op_type == "ConvTranspose":
        return 1 / stride
    if node.op_type in ("DepthToSpace", "SpaceToDepth"):
        return 1 / block if node.op_type == "DepthToSpace" else block
    if node.op_type == "Resize" and len(node.input) == 3:
        scales = constants.get(node.input[2], [])
        return 1 / scales[-1] if len(scales) == 4 and scales[-1] > 0 else 1
    return 1
