"""Write the placeholders of a trace as standard operators that ask for their sizes at run time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from refine_export.graph.node_writer import NodeWriter

DOMAIN = "refine_export"
"""Domain of the placeholders in a trace: `Warp` (image, flow), `Resize` (x) with the attribute `scale`, and `Clip` (x)
with `low` and `high`."""


def write_size_free_operators(model: ir.Model) -> None:
    """Replace each placeholder in place; samplers of one size share their grid."""
    graph = model.graph
    model.opset_imports.pop(DOMAIN, None)
    first: dict[tuple[object, ...], ir.Value] = {}  # of each height and width: a grid asks it for them

    def seen(values: Iterable[ir.Value]) -> None:
        for value in values:
            if value.shape is not None and len(value.shape) == 4:
                first.setdefault(tuple(value.shape)[2:], value)

    seen(graph.inputs)
    grids: dict[ir.Value, tuple[ir.Value, ...]] = {}
    writer = NodeWriter(graph, "size_free")
    for node in graph:
        if node.domain != DOMAIN:
            seen(node.outputs)
            continue
        op, inputs = writer.op, [value for value in node.inputs if value is not None]
        if node.op_type == "Resize":
            scale = node.attributes["scale"].as_float()
            scales = writer.constant(np.array([1, 1, scale, scale], np.float32))
            made = op("Resize", *inputs, None, scales, mode="linear", coordinate_transformation_mode="half_pixel")
        elif node.op_type == "Clip":
            low, high = (np.array(node.attributes[name].as_float(), np.float32) for name in ("low", "high"))
            made = op("Clip", *inputs, writer.constant(low), writer.constant(high))
        else:
            image, flow = inputs
            assert flow.shape is not None  # a trace states all of them
            source = first[tuple(flow.shape)[2:]]
            if source not in grids:
                grids[source] = _grid(writer, source)
            divisor, x, y = grids[source]
            # Turned first, then moved as a whole: TensorRT makes one layer of each step, and one kernel of all.
            turned = op("Div", op("Transpose", flow, perm=[0, 2, 3, 1]), divisor)
            grid = op("Add", op("Add", turned, x), y)
            made = op("GridSample", image, grid, mode="bilinear", padding_mode="border", align_corners=1)
        writer.replace(node, made)
        seen([made])


def _grid(writer: NodeWriter, source: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Write what normalised coordinates of the height and width of `source` take: with flow [N, H, W, 2] in pixels,
    they are flow / divisor + x + y.

    Returns:
        divisor [1, 1, 1, 2], x [1, 1, W, 2] and y [1, H, 1, 2].
    """
    op, constant = writer.op, writer.constant
    # FP32 counts pixels exactly, to 2**24, so that each value of linspace(-1, 1, size) is rounded once.
    sizes = op("Cast", op("Shape", source), to=ir.DataType.FLOAT)
    starts = op("Sub", constant(np.ones(1, np.float32)), sizes)
    start = op("Gather", starts, constant(np.array([[[[3, 2]]]])))  # 1 - W and 1 - H: both negative, hence the signs

    def ramp(axis: int, axes: list[int], signs: list[int]) -> ir.Value:
        place = constant(np.array(axis))
        pixels = op("Range", op("Gather", starts, place), op("Gather", sizes, place), constant(np.array(2, np.float32)))
        wide = op("Unsqueeze", pixels, constant(np.array(axes)))
        return op("Div", op("Mul", wide, constant(np.array([[[signs]]], np.float32))), start)

    x, y = ramp(3, [1], [-1, 0]), ramp(2, [1, 2], [0, -1])
    return op("Div", start, constant(np.full((1, 1, 1, 1), -2, np.float32))), x, y
