"""Rewrite what ONNX Runtime computes slowly on a CPU; every value stays the same but for FP32 rounding.

PRelu is not one of the operators of ONNX Runtime's blocked layout (NCHWc): each costs a pass on one element at a time
and two reorders. With x = max(x, 0) + min(x, 0),

    PRelu(x, a) = (1 - a) * Relu(x) + a * x,

and Relu, a factor per channel (BatchNormalization) and Add stay in that layout; the Add becomes part of its neighbour.

ConvTranspose (4x4, stride 2, padding 1) is a matrix product whose result is then added up pixel by pixel. Each output
row depends on two rows of the input, and each column on two columns, so it is one 2x2 convolution of the same
multiply-adds, whose four results for each position DepthToSpace interleaves. A 3x3 convolution, which needs no crop,
has 2.25 times the multiply-adds, and was slower at every size that was measured.

GridSample computes the position of each pixel anew for every channel. Written as Gather (`gather_sampler`), positions
are computed once and a pixel's channels are copied as one block; from `LEAST_GATHERED` channels on that is faster.

A flow is turned to [N, H, W, 2] before it is normalised, which suits TensorRT. ONNX Runtime computes a broadcast over
the last axis in runs of its length, here two numbers, so the Transpose moves behind the Div and the Adds.

docs/performance.md has the figures, what was tried and is not done, and why nothing is rewritten for TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from refine_export.graph.gather_sampler import lower_grid_sample
from refine_export.graph.node_writer import NodeWriter
from refine_export.graph.operator_types import is_op
from refine_export.graph.prepare import tidy

LEAST_GATHERED = 8
"""Channels from which a GridSample is faster as Gather; images have three, features 16 and more."""
REWRITES = ("prelu", "deconv", "flow", "gather")
"""Names of the rewrites, in the order in which they are made."""
Write = Callable[[NodeWriter, ir.Node], ir.Value | None]
"""Writes the nodes that replace a node, and returns their result; None where it stays."""
_TO_LAST, _FROM_LAST = [0, 2, 3, 1], [0, 3, 1, 2]
"""Permutations that move the channels to the end, and back."""

_TAPS = (((0, 2), (1, 0)), ((0, 3), (1, 1)))
"""Rows of the kernels for output row 2y - 1, then 2y: (row of the 2x2 kernel, which lies on input rows y - 1 and y, row
of the 4x4 kernel). Columns are alike. The picture begins with a row and a column that are cropped."""


def tune_for_cpu(model: ir.Model, rewrites: Sequence[str] = REWRITES) -> tuple[str, ...]:
    """Rewrite activations, transposed convolutions and samplers for ONNX Runtime on a CPU, in place.

    Precondition: `prepare`d, of FP32.
    Postcondition: the same inputs and outputs, and no unused initializer; no PRelu is left whose slopes are constant,
    one or one for each channel, no ConvTranspose of 4x4, stride 2, padding 1, no bilinear GridSample of
    `LEAST_GATHERED` channels or more with border padding and aligned corners, and no Div or Add of a tensor whose
    channels were moved to the end.

    Args:
        model: the graph.
        rewrites: some of them, for measurements.

    Returns:
        The names of the nodes that were replaced.
    """
    before = {node: node.name or node.op_type for node in model.graph}
    writers: dict[str, Write] = {
        "prelu": _activation,
        "deconv": _upsampling,
        "flow": partial(_turned_behind, turned={}),
    }
    for name in rewrites:
        if name in writers:
            rewrite_nodes(model, writers[name])
    if "gather" in rewrites:
        lower_grid_sample(model, least_channels=LEAST_GATHERED)
    tidy(model)  # drops what is unused, and infers the types and shapes of the new nodes
    return tuple(name for node, name in before.items() if node.graph is None)


def rewrite_nodes(model: ir.Model, write: Write) -> None:
    """Replace, in place, each node of one output for which `write` writes others."""
    writer = NodeWriter(model.graph, "tuned")
    for node in list(model.graph):
        writer.prefix = f"{node.name or node.op_type}/tuned"
        output = write(writer, node)
        if output is not None:
            writer.replace(node, output)


def _turned_behind(writer: NodeWriter, node: ir.Node, *, turned: dict[ir.Value, ir.Value]) -> ir.Value | None:
    """Write a Div or Add of a tensor with its channels moved to the end as one with them in place, moved behind it.

    Args:
        writer: writes the nodes.
        node: any node.
        turned: other operands -> the same with their channels in place, written once.
    """
    if not (is_op(node, "Div") or is_op(node, "Add")):
        return None
    (value, other), moved = node.inputs, node.inputs[0].producer() if node.inputs[0] else None
    if moved is None or not is_op(moved, "Transpose") or list(moved.attributes.get_ints("perm", [])) != _TO_LAST:
        return None
    if value is None or other is None or other.shape is None or len(other.shape) != 4:
        return None
    if other not in turned:
        turned[other] = writer.op("Transpose", other, perm=_FROM_LAST)
    result = writer.op(node.op_type, moved.inputs[0], turned[other])
    return writer.op("Transpose", result, perm=_TO_LAST)


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
