"""Rewrite what ONNX Runtime computes slowly on a CPU; every value stays the same but for FP32 rounding.

PRelu is not one of the operators of ONNX Runtime's blocked layout (NCHWc): each costs a pass on one element at a time
and two reorders. With x = max(x, 0) + min(x, 0),

    PRelu(x, a) = (1 - a) * Relu(x) + a * x,

and Relu, a factor per channel (BatchNormalization) and Add stay in that layout; the Add becomes part of its neighbour.

ConvTranspose (4x4, stride 2, padding 1) is a matrix product whose result is then added up pixel by pixel. Each output
row depends on two rows of the input, and each column on two columns, so it is one 2x2 convolution of the same
multiply-adds, whose four results for each position DepthToSpace interleaves. A 3x3 convolution, which needs no crop,
has 2.25 times the multiply-adds, and was slower at every size that was measured.

Concat copies its inputs, and reorders those that are in the blocked layout. A Conv of it is the sum of a Conv of each
part, which is added up in place.

Resize to half the size is the average of four pixels, which AveragePool computes in the blocked layout.

GridSample computes the position of each pixel anew for every channel, and takes ten times as long as the GatherElements
of its four corners. Written out (`gather_sampler`), positions are computed once.

docs/performance.md has the figures, what was tried and is not done, and why nothing is rewritten for TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from refine_export.graph.gather_sampler import lower_grid_sample
from refine_export.graph.node_writer import NodeWriter
from refine_export.graph.operator_types import is_op
from refine_export.graph.prepare import tidy

REWRITES = ("prelu", "concat", "deconv", "resize", "gather")
"""Names of the rewrites, in the order in which they are made."""
Write = Callable[[NodeWriter, ir.Node], ir.Value | None]
"""Writes the nodes that replace a node, and returns their result; None where it stays."""
_TAPS = (((0, 2), (1, 0)), ((0, 3), (1, 1)))
"""Rows of the kernels for output row 2y - 1, then 2y: (row of the 2x2 kernel, which lies on input rows y - 1 and y, row
of the 4x4 kernel). Columns are alike. The picture begins with a row and a column that are cropped."""


def tune_for_cpu(model: ir.Model, rewrites: Sequence[str] = REWRITES) -> tuple[str, ...]:
    """Rewrite activations, convolutions, resizes and samplers for ONNX Runtime on a CPU, in place.

    Precondition: `prepare`d, of FP32.
    Postcondition: the same inputs and outputs, and no unused initializer; no PRelu is left whose slopes are constant,
    one or one for each channel, no ConvTranspose of 4x4, stride 2, padding 1, no Conv of a Concat that nothing else
    reads, no bilinear Resize by 0.5, and no bilinear GridSample with border padding and aligned corners.

    Args:
        model: the graph.
        rewrites: some of them, for measurements.

    Returns:
        The names of the nodes that were replaced.
    """
    before = {node: node.name or node.op_type for node in model.graph}
    writers: dict[str, Write] = {
        "prelu": _activation,
        "concat": _split_convolution,
        "deconv": _upsampling,
        "resize": _halved,
    }
    for name in rewrites:
        if name in writers:
            _rewrite_nodes(model, writers[name])
    if "gather" in rewrites:
        lower_grid_sample(model, for_cpu=True)
    tidy(model)  # drops what is unused, and infers the types and shapes of the new nodes
    return tuple(name for node, name in before.items() if node.graph is None)


def _rewrite_nodes(model: ir.Model, write: Write) -> None:
    """Replace, in place, each node of one output for which `write` writes others."""
    writer = NodeWriter(model.graph, "tuned")
    for node in list(model.graph):
        writer.prefix = f"{node.name or node.op_type}/tuned"
        output = write(writer, node)
        if output is not None:
            writer.replace(node, output)


def _activation(writer: NodeWriter, node: ir.Node) -> ir.Value | None:
    """Write a PRelu with constant slopes; None for any other node."""
    slopes = _constant(node, 1) if is_op(node, "PRelu") else None
    x = node.inputs[0] if node.inputs else None
    if slopes is None or x is None or x.shape is None or len(x.shape) < 3:
        return None
    if slopes.size == 1:
        return writer.op("LeakyRelu", x, alpha=float(slopes.flat[0]))
    if slopes.size != x.shape[1] or slopes.shape[-len(x.shape) + 1 :] != (slopes.size,) + (1,) * (len(x.shape) - 2):
        return None  # slopes by row or column, or a number of channels that is not known
    name = node.name or "PRelu"

    def scaled(value: ir.Value, factors: NDArray[np.float32], what: str) -> ir.Value:
        ones, zeros = np.ones_like(factors), np.zeros_like(factors)
        constants = {"factor": factors, "offset": zeros, "mean": zeros, "variance": ones}
        inputs = [writer.constant(array, f"{name}/{what}_{key}") for key, array in constants.items()]
        return writer.op("BatchNormalization", value, *inputs, epsilon=0.0)

    below = scaled(x, slopes.reshape(-1), "slope")
    above = scaled(writer.op("Relu", x), np.float32(1) - slopes.reshape(-1), "rest")
    return writer.op("Add", above, below)


def _upsampling(writer: NodeWriter, node: ir.Node) -> ir.Value | None:
    """Write a transposed convolution that doubles the size; None for any other node."""
    weight = _constant(node, 1) if is_op(node, "ConvTranspose") else None
    bias = _constant(node, 2) if len(node.inputs) > 2 else None
    if weight is None or (len(node.inputs) > 2 and bias is None) or not _doubles(node, weight.shape):
        return None
    name, (inner, outer) = node.name or "ConvTranspose", weight.shape[:2]
    kernel = np.zeros((2, 2, outer, inner, 2, 2), np.float32)
    for row, column in np.ndindex(2, 2):
        for y, from_y in _TAPS[row]:
            for x, from_x in _TAPS[column]:
                kernel[row, column, :, :, y, x] = weight[:, :, from_y, from_x].T
    inputs = [node.inputs[0], writer.constant(kernel.reshape(4 * outer, inner, 2, 2), f"{name}/kernel")]
    if bias is not None:
        inputs.append(writer.constant(np.tile(bias, 4), f"{name}/bias"))
    phases = writer.op("Conv", *inputs, kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    doubled = writer.op("DepthToSpace", phases, blocksize=2, mode="DCR")
    starts, ends, axes = ([1, 1], [-1, -1], [2, 3])
    return writer.op("Slice", doubled, *map(writer.constant, (starts, ends, axes)))


def _split_convolution(writer: NodeWriter, node: ir.Node) -> ir.Value | None:
    """Write a convolution of joined channels as the sum of one of each part; None for any other node."""
    joined = node.inputs[0].producer() if is_op(node, "Conv") and node.inputs[0] is not None else None
    weight = _constant(node, 1) if joined is not None and is_op(joined, "Concat") else None
    if joined is None or weight is None or node.attributes.get_int("group", 1) != 1:
        return None
    channels = [_channels(value) for value in joined.inputs]
    read_elsewhere = len(joined.outputs[0].uses()) > 1 or joined.outputs[0].is_graph_output()
    if read_elsewhere or joined.attributes.get_int("axis", 0) not in (1, 1 - weight.ndim) or not all(channels):
        return None
    result, attributes = None, dict[str, Any](node.attributes)
    for part, kernel in zip(joined.inputs, np.split(weight, np.cumsum(channels)[:-1], axis=1), strict=True):
        constant = writer.constant(np.ascontiguousarray(kernel), f"{node.name or 'Conv'}/kernel")
        bias = node.inputs[2:] if result is None else ()
        product = writer.op("Conv", part, constant, *bias, **attributes)
        result = product if result is None else writer.op("Add", result, product)
    return result


def _halved(writer: NodeWriter, node: ir.Node) -> ir.Value | None:
    """Write a bilinear Resize by 0.5 as the average of four pixels; None for any other node."""
    attributes = node.attributes
    scales = _constant(node, 2) if is_op(node, "Resize") and len(node.inputs) == 3 else None
    if scales is None or scales.tolist() != [1, 1, 0.5, 0.5] or "axes" in attributes:
        return None
    modes = attributes.get_string("mode"), attributes.get_string("coordinate_transformation_mode", "half_pixel")
    if modes != ("linear", "half_pixel") or attributes.get_int("antialias", 0) != 0:
        return None
    return writer.op("AveragePool", node.inputs[0], kernel_shape=[2, 2], strides=[2, 2])


def _channels(value: ir.Value | None) -> int:
    """Return the channels that a value states; 0 where it does not."""
    stated = value.shape[1] if value is not None and value.shape is not None and len(value.shape) > 1 else 0
    return stated if isinstance(stated, int) else 0


def _doubles(node: ir.Node, shape: Sequence[int]) -> bool:
    """Return whether a ConvTranspose of this weight [in, out, h, w] is 4x4, stride 2, padding 1."""
    attributes = node.attributes
    return (
        tuple(shape[2:]) == (4, 4)
        and list(attributes.get_ints("strides", [1, 1])) == [2, 2]
        and list(attributes.get_ints("pads", [0] * 4)) == [1] * 4
        and list(attributes.get_ints("dilations", [1, 1])) == [1, 1]
        and not any(attributes.get_ints("output_padding", []))
        and "output_shape" not in attributes
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and attributes.get_int("group", 1) == 1
    )


def _constant(node: ir.Node, place: int) -> NDArray[np.float32] | None:
    """Return an input that is an FP32 constant; None for any other."""
    value = node.inputs[place]
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.dtype != ir.DataType.FLOAT else tensor.numpy()
