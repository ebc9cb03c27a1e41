"""Rewrite what ONNX Runtime computes slowly on a CPU; every value stays the same but for FP32 rounding.

PRelu is not one of the operators of ONNX Runtime's blocked layout (NCHWc): each costs a pass on one element at a time
and two reorders. With x = max(x, 0) + min(x, 0),

    PRelu(x, a) = (1 - a) * Relu(x) + a * x,

and Relu, a factor per channel (BatchNormalization) and Add stay in that layout; the Add becomes part of its neighbour.

ConvTranspose (4x4, stride 2, padding 1) is a matrix product whose result is then added up pixel by pixel. Every second
row and column of the output depends on two rows and columns of the input, so it is four 2x2 convolutions of the same
multiply-adds, whose results DepthToSpace interleaves. It is faster where the blocks are full: channels in multiples of
16. One 3x3 convolution with zeros for the taps that a phase lacks has 2.25 times the multiply-adds, and was slower at
every size that was measured. docs/performance.md has the figures, and why no rewrite is applied for TensorRT.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir import tape

from refine_export.graph.operator_types import is_op

_BLOCK = 16  # channels of a block of ONNX Runtime's layout on AVX-512; 8 on older processors
_TAPS = (((0, 3), (1, 1)), ((0, 2), (1, 0)))
"""For even, then odd output rows: (row of the 2x2 kernel, row of the 4x4 kernel). Row 2y is the sum of input row y - 1
with kernel row 3 and y with 1, row 2y + 1 that of y with 2 and y + 1 with 0; columns likewise."""


def tune_for_cpu(model: ir.Model) -> tuple[str, ...]:
    """Rewrite activations and transposed convolutions for ONNX Runtime on a CPU, in place.

    Precondition: `prepare`d, of FP32.
    Postcondition: the same inputs and outputs; no PRelu is left whose slopes are constant, one or one for each channel,
    and no ConvTranspose of 4x4, stride 2, padding 1 with full blocks of channels.

    Returns:
        The names of the nodes that were replaced.
    """
    replaced = []
    for node in list(model.graph):
        writer = tape.Tape(model.graph)
        output = _activation(writer, node) or _upsampling(writer, node)
        if output is None:
            continue
        prefix = node.name or node.op_type
        for place, (made, parts) in enumerate(zip(writer.nodes, [n.outputs for n in writer.nodes], strict=True)):
            made.name = f"{prefix}/tuned_{place}"
            parts[0].name = f"{made.name}/out"
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], writer.nodes, [node.outputs[0]], [output])
        replaced.append(prefix)
    return tuple(replaced)


def _activation(writer: tape.Tape, node: ir.Node) -> ir.Value | None:
    """Write a PRelu with constant slopes; None for any other node."""
    slopes = _constant(node, 1) if is_op(node, "PRelu") else None
    x = node.inputs[0] if node.inputs else None
    if slopes is None or x is None or x.shape is None or len(x.shape) < 3:
        return None
    if slopes.size == 1:
        return writer.op("LeakyRelu", [x], {"alpha": float(slopes.flat[0])})
    if slopes.size != x.shape[1] or slopes.shape[-len(x.shape) + 1 :] != (slopes.size,) + (1,) * (len(x.shape) - 2):
        return None  # slopes by row or column, or a number of channels that is not known
    name = node.name or "PRelu"

    def scaled(value: ir.Value, factors: NDArray[np.float32], what: str) -> ir.Value:
        ones, zeros = np.ones_like(factors), np.zeros_like(factors)
        constants = {"factor": factors, "offset": zeros, "mean": zeros, "variance": ones}
        inputs = [_initializer(writer, f"{name}/{what}_{key}", array) for key, array in constants.items()]
        return writer.op("BatchNormalization", [value, *inputs], {"epsilon": 0.0})

    below = scaled(x, slopes.reshape(-1), "slope")
    above = scaled(writer.op("Relu", [x]), np.float32(1) - slopes.reshape(-1), "rest")
    return writer.op("Add", [above, below])


def _upsampling(writer: tape.Tape, node: ir.Node) -> ir.Value | None:
    """Write a transposed convolution that doubles the size; None for any other node."""
    weight = _constant(node, 1) if is_op(node, "ConvTranspose") else None
    bias = _constant(node, 2) if len(node.inputs) > 2 else None
    if weight is None or (len(node.inputs) > 2 and bias is None) or not _doubles(node, weight.shape):
        return None
    name, phases = node.name or "ConvTranspose", []
    for row, column in np.ndindex(2, 2):
        kernel = np.zeros((weight.shape[1], weight.shape[0], 2, 2), np.float32)
        for y, from_y in _TAPS[row]:
            for x, from_x in _TAPS[column]:
                kernel[:, :, y, x] = weight[:, :, from_y, from_x].T
        inputs = [node.inputs[0], _initializer(writer, f"{name}/kernel_{row}{column}", kernel)]
        if bias is not None:
            inputs.append(node.inputs[2])
        pads = [1 - row, 1 - column, row, column]
        phases.append(writer.op("Conv", inputs, {"kernel_shape": [2, 2], "pads": pads}))
    stacked = writer.op("Concat", phases, {"axis": 1})
    return writer.op("DepthToSpace", [stacked], {"blocksize": 2, "mode": "DCR"})


def _doubles(node: ir.Node, shape: Sequence[int]) -> bool:
    """Whether a ConvTranspose of this weight [in, out, h, w] is 4x4, stride 2, padding 1 and fills its blocks."""
    attributes = node.attributes
    return (
        tuple(shape[2:]) == (4, 4)
        and not any(size % _BLOCK for size in shape[:2])
        and attributes.get_ints("strides", [1, 1]) == [2, 2]
        and attributes.get_ints("pads", [0] * 4) == [1] * 4
        and attributes.get_ints("dilations", [1, 1]) == [1, 1]
        and not any(attributes.get_ints("output_padding", []))
        and "output_shape" not in attributes
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and attributes.get_int("group", 1) == 1
    )


def _constant(node: ir.Node, place: int) -> NDArray[np.float32] | None:
    """Return an input that is an FP32 constant; None for any other."""
    tensor = ir.convenience.get_const_tensor(node.inputs[place])
    return None if tensor is None or tensor.dtype != ir.DataType.FLOAT else tensor.numpy()


def _initializer(writer: tape.Tape, name: str, array: NDArray[np.float32]) -> ir.Value:
    return writer.initializer(ir.tensor(array, name=name), name=name)
