"""Write the bilinear GridSample as Gather and arithmetic, which every runtime computes in the same way.

TensorRT samples wrongly where GridSample is fused with its neighbours (pytorch/TensorRT#4074), and ONNX Runtime
computes each position anew for every channel. With X [N, C, H, W] and grid [N, Hout, Wout, 2], whose last axis is
(x, y), a node of ONNX GridSample-16 to -22 with mode bilinear, padding_mode border and align_corners 1 becomes, for
P = Hout * Wout:

    position = (clip(grid, -1, 1) + 1) * ((size - 1) / 2)                   FP32    x, y [N, 1, P]
    fraction = position - floor(position)                                   FP32, then X's type
    index    = y * W + x at floor(position) and ceil(position) of each      INT32, expanded to [N, C, P]
    corner   = GatherElements(X as [N, C, H * W], index), four times        X's type     [N, C, P]
    lerp     = a + (b - a) * fraction, of the columns, then of the rows     X's type

- Clip of the grid is border padding: position grows with the grid, -1 is exactly 0 and 1 is exactly size - 1, so the
  result is that of a clip of the position. Nothing overflows, and an axis of size 1 has position 0, even at infinity.
- Halving is exact, so the position is rounded as PyTorch's ((grid + 1) / 2) * (size - 1) is.
- ceil is the next pixel, clamped: it is floor + 1, except on a pixel, where it is that pixel and its weight is 0.
- INT32 counts the pixels of 46340 x 46340.
- GatherElements keeps the channels where they are. GatherND on [N, H * W, C] turns X and the result, and has 6 to 7 %
  more layers in TensorRT for RTX, in as much memory or more.
- Two lerps rather than PyTorch's four products: in FP32 both are within 3e-7 of the largest |X| of PyTorch. In FP16
  four rounded weights do not add up to 1 (a flat area is off by up to 1.4e-3); a lerp keeps a flat area exact, has
  half the largest error on smooth pictures, and two weights to cast. White noise is 1.4 times worse, and neighbours
  more than 65504 apart overflow.
- Shape without `start` and `end`, which TensorRT's parser ignores.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir

from refine_export.errors import GraphError
from refine_export.graph.node_writer import NodeWriter
from refine_export.graph.operator_types import HALF, is_op

_FP32: Final = ir.DataType.FLOAT
_MOST_PLANES: Final = 4
"""Channels of a picture, up to which a CPU samples each by itself."""


def lower_grid_sample(model: ir.Model, *, for_cpu: bool = False) -> bool:
    """Replace each GridSample of `model` by the graph above, in place.

    Precondition: each is in the main graph, 4-D, bilinear, border, with align_corners 1, of a float type.
    Postcondition: none is left.

    A value without a type is read as FP32. X may be FP32, FP16 or BF16, and the output has its type; the grid is cast
    to FP32 if it is not. Sizes that X and grid state in their shapes are constants, the others are computed at run
    time. Equal operators on equal inputs are made once: GridSamples share all that their grid and X have in common.
    New nodes and values are called `<node>/gather/<what>`, constants `gather/<type>_<value>`.

    The result for NaN coordinates is undefined. The batch of the grid is X's, as in ONNX.

    Args:
        model: the graph.
        for_cpu: leave those that do not meet the precondition as they are, and sample each channel of a picture by
            itself: no index is expanded, and what one channel needs stays in the cache.

    Returns:
        Whether there was one.

    Raises:
        GraphError: a GridSample does not meet the precondition; the model is as it was.
    """
    samples = _grid_samples(model)
    if for_cpu:
        samples = [node for node in samples if not _faults(node, model)]
    for node in samples:
        if faults := _faults(node, model):
            name = f"GridSample {node.name!r} (output {node.outputs[0].name!r})"
            message = f"{name} has no Gather form: {'; '.join(faults)}. Export it as expected, or keep GridSample"
            raise GraphError(message, code="no-gather-form", node=node.name, faults=faults)
    writer = _Writer(model.graph)
    for node in samples:
        x, grid = node.inputs
        assert x is not None and grid is not None, "neither is optional in ONNX"  # noqa: PT018
        writer.prefix = f"{node.name or node.outputs[0].name or 'GridSample'}/gather"
        writer.replace(node, _sample(writer, x, grid, by_plane=for_cpu))
    return bool(samples)


def _sample(writer: _Writer, x: ir.Value, grid: ir.Value, *, by_plane: bool) -> ir.Value:
    """Write GridSample of X [N, C, H, W] at grid [N, Hout, Wout, 2]: [N, C, Hout, Wout]."""
    op = writer.op
    turned = op("Transpose", writer.cast(grid, _FP32, "grid_fp32"), name="turned", perm=(0, 3, 1, 2))
    coordinates = op("Reshape", turned, writer.constant([0, 2, -1]), name="grid")
    inside = op("Clip", coordinates, writer.constant(-1.0), writer.constant(1.0), name="inside")
    shifted = op("Add", inside, writer.constant(1.0), name="shifted")
    columns, rows = writer.outputs("Split", shifted, writer.constant([1, 1]), names=("column", "row"), axis=1)
    width = _size(writer, x, 3)
    left, right, across = _neighbours(writer, x, "x", columns, width)
    top, bottom, down = _neighbours(writer, x, "y", rows, _size(writer, x, 2))

    stride = (
        writer.constant(np.int32(width)) if isinstance(width, int) else writer.cast(width, ir.DataType.INT32, "stride")
    )
    above, below = op("Mul", top, stride, name="top_row"), op("Mul", bottom, stride, name="bottom_row")
    indices = {
        f"{row}_{side}": op("Add", start, column, name=f"{row}_{side}_index")
        for row, start in (("top", above), ("bottom", below))
        for side, column in (("left", left), ("right", right))
    }

    channels = _size(writer, x, 1)
    planes: tuple[ir.Value, ...] = (op("Reshape", x, writer.constant([0, 0, -1]), name="planes"),)
    if by_plane and isinstance(channels, int) and 1 < channels <= _MOST_PLANES:
        planes = writer.outputs(
            "Split", planes[0], writer.constant([1] * channels), names=("plane",) * channels, axis=1
        )
    elif channels != 1:
        shape = _channels_shape(writer, channels)
        indices = {name: op("Expand", index, shape, name=f"{name}_indices") for name, index in indices.items()}

    def lerp(what: str, a: ir.Value, b: ir.Value, weight: ir.Value) -> ir.Value:
        step = op("Mul", op("Sub", b, a, name=f"{what}_difference"), weight, name=f"{what}_step")
        return op("Add", a, step, name=what)

    def sample(plane: ir.Value) -> ir.Value:
        corners = [op("GatherElements", plane, index, name=name, axis=2) for name, index in indices.items()]
        upper = lerp("upper", corners[0], corners[1], across)
        return lerp("pixel", upper, lerp("lower", corners[2], corners[3], across), down)

    sampled = [sample(plane) for plane in planes]
    joined = sampled[0] if len(sampled) == 1 else op("Concat", *sampled, name="sampled", axis=1)
    # A node of its own even where two are equal, because each takes the name of the output that it replaces.
    return NodeWriter.outputs(writer, "Reshape", joined, _output_shape(writer, grid), names=("output",))[0]


def _channels_shape(writer: _Writer, channels: int | ir.Value) -> ir.Value:
    """Return the shape [1, C, 1], to which Expand repeats [N, 1, P] for each channel."""
    if isinstance(channels, int):
        return writer.constant([1, channels, 1])
    one = writer.constant([1])
    return writer.op("Concat", one, channels, one, name="channels_shape", axis=0)


def _size(writer: _Writer, x: ir.Value, axis: int) -> int | ir.Value:
    """Return the size of an axis: a number, or an INT64 [1] value where X does not state it."""
    size = None if x.shape is None else x.shape[axis]
    if isinstance(size, int):
        return size
    name = ("batch", "channels", "height", "width")[axis]
    return writer.op("Gather", writer.op("Shape", x, name="shape"), writer.constant([axis]), name=name)


def _neighbours(
    writer: _Writer, x: ir.Value, axis: str, shifted: ir.Value, size: int | ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Write the pixels before and after a position along an axis, INT32, and the weight of the latter, X's type.

    `shifted` is the clipped coordinate + 1, from 0 to 2.
    """
    op = writer.op
    if isinstance(size, int):
        half = writer.constant((size - 1) / 2)
    else:
        last = op("Sub", writer.cast(size, _FP32, f"{axis}_size"), writer.constant(1.0), name=f"{axis}_last")
        half = op("Mul", last, writer.constant(0.5), name=f"{axis}_half")
    position = op("Mul", shifted, half, name=f"{axis}_position")
    floor, ceil = op("Floor", position, name=f"{axis}_floor"), op("Ceil", position, name=f"{axis}_ceil")
    fraction = op("Sub", position, floor, name=f"{axis}_fraction")
    return (
        writer.cast(floor, ir.DataType.INT32, f"{axis}_before"),
        writer.cast(ceil, ir.DataType.INT32, f"{axis}_after"),
        writer.cast(fraction, x.dtype or _FP32, f"{axis}_weight"),
    )


def _output_shape(writer: _Writer, grid: ir.Value) -> ir.Value:
    """Return [0, 0, Hout, Wout] for Reshape, where 0 keeps N and C."""
    stated = (None, None) if grid.shape is None else grid.shape[1:3]
    sizes = [size if isinstance(size, int) else -1 for size in stated]
    if sizes != [-1, -1]:  # Reshape finds one unknown size by itself
        return writer.constant([0, 0, *sizes])
    given = writer.op("Gather", writer.op("Shape", grid, name="grid_shape"), writer.constant([1, 2]), name="grid_size")
    return writer.op("Concat", writer.constant([0, 0]), given, name="output_shape", axis=0)


def _grid_samples(model: ir.Model) -> list[ir.Node]:
    """Return every GridSample, of subgraphs and functions too."""
    functions = (node for function in model.functions.values() for node in function.all_nodes())
    return [node for node in (*model.graph.all_nodes(), *functions) if is_op(node, "GridSample")]


def _faults(node: ir.Node, model: ir.Model) -> list[str]:
    """Return why a GridSample has no Gather form. Attributes that are left out have ONNX's defaults."""
    mode = node.attributes.get_string("mode", "linear")
    padding = node.attributes.get_string("padding_mode", "zeros")
    corners = node.attributes.get_int("align_corners", 0)
    faults = []
    if mode not in ("bilinear", "linear"):
        faults.append(f"mode is {mode!r}, expected 'bilinear' ('linear' from opset 20)")
    if padding != "border":
        faults.append(f"padding_mode is {padding!r}, expected 'border'")
    if corners != 1:
        faults.append(f"align_corners is {corners}, expected 1")
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.shape is not None and len(value.shape) != 4:
            faults.append(f"{value.name!r} is {len(value.shape)}-D, expected 4-D")
        if value is not None and value.dtype not in (None, _FP32, *HALF):
            faults.append(f"{value.name!r} is {value.dtype}, expected FLOAT, FLOAT16 or BFLOAT16")
    if node.graph is not model.graph:
        faults.append("it is in a subgraph or a function, expected in the main graph")
    return faults


class _Writer(NodeWriter):
    """Makes equal operators on equal inputs once."""

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__(graph, "gather")
        self._known: dict[object, tuple[ir.Value, ...]] = {}

    def outputs(
        self, op_type: str, *inputs: ir.Value | None, names: tuple[str, ...], **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Return the outputs of the one node with this operator, inputs and attributes."""
        key = (op_type, inputs, tuple(attributes.items()))
        if key not in self._known:
            self._known[key] = super().outputs(op_type, *inputs, names=names, **attributes)
        return self._known[key]

    def cast(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        """Return `value` as `dtype`: itself if it has that type, or no type where FP32 is asked for."""
        return value if (value.dtype or _FP32) == dtype else self.op("Cast", value, name=name, to=dtype)
