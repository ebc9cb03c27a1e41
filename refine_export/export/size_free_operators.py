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
    grids: dict[ir.Value, list[tuple[ir.Value, ir.Value]]] = {}
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
            # Each coordinate by itself: TensorRT for RTX keeps a copy of a flow whose channels are turned together.
            moved = []
            for channel, (divisor, ramp) in enumerate(grids[source]):
                bounds = (writer.constant([bound]) for bound in (channel, channel + 1, 1))  # first, end, axis
                moved.append(op("Add", op("Div", op("Slice", flow, *bounds), divisor), ramp))
            grid = op("Transpose", op("Concat", *moved, axis=1), perm=[0, 2, 3, 1])
            made = op("GridSample", image, grid, mode="bilinear", padding_mode="border", align_corners=1)
        writer.replace(node, made)
        seen([made])


def _grid(writer: NodeWriter, source: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
    """Write what normalised coordinates of the height and width of `source` take: flow / divisor + ramp, with the
    flow [N, 1, H, W] along an axis in pixels.

    Returns:
        divisor [1, 1, 1, 1] and ramp, [1, 1, 1, W] for x and [1, 1, H, 1] for y.
    """
    op, constant = writer.op, writer.constant
    # FP32 counts pixels exactly, to 2**24, so that each value of linspace(-1, 1, size) is rounded once.
    sizes = op("Cast", op("Shape", source), to=ir.DataType.FLOAT)

    def along(axis: int, others: list[int]) -> tuple[ir.Value, ir.Value]:
        size, wide_size = (op("Gather", sizes, constant(np.array(place))) for place in (axis, [[[[axis]]]]))
        last, wide_last = (op("Sub", one, constant(1.0)) for one in (size, wide_size))
        pixels = op("Range", op("Neg", last), size, constant(2.0))
        return op("Div", wide_last, constant(2.0)), op("Div", op("Unsqueeze", pixels, constant(others)), wide_last)

    return [along(3, [0, 1, 2]), along(2, [0, 1, 3])]
