"""Decide which type each node of an FP32 graph computes in, and why: the rule that keeps the warp exact.

The first rule that applies decides. Its name is part of each decision:

no-floats    What computes no floats has no type to choose.
sampler      The node that samples is FP32: TensorRT wants one type for image, grid and result. (A sampler written out
             with Gather may move FP16 features; only its indices and weights are coordinates.)
coordinates  Coordinates stay FP32: from every grid back to the graph's inputs or to the output of a convolution or
             matrix product of more than four terms (fewer move points). An FP16 coordinate is off by up to
             (W - 1) / 2 * 2^-12 px: 0.23 px at W = 1920. So do weighted sums of positions with their weights, all that
             is rounded to integers, and scales of Resize.
size         What is computed only from sizes stays FP32: FP16 counts exactly only to 2048.
no-low-form  An operator that has no FP16 form in ONNX stays FP32, and so does one without float outputs: a comparison
             reads what it compares before it is rounded.
island       Nodes that a search or a user chose stay FP32.
amplified    What makes rounding errors several times larger stays FP32 with what it reads, where a measurement shows
             that the outputs would be further off than FP16 explains.
range        What FP16 cannot hold stays FP32: tensors that come near 65504 on the calibration feeds, with their
             readers, sums that would, and weights that overflow or lose precision in FP16; so do tensors that are
             smaller than its normal numbers throughout.
phase        Arguments beyond 8 of functions that repeat or grow exponentially stay FP32, and so do terms that cancel to
             less than an eighth: a half has too few bits.
small        Divisors, and what roots and logarithms are taken of, stay FP32 where they are small on a calibration
             feed, or a small constant keeps them from zero: what becomes zero in FP16 gives infinity or NaN.
tail         What follows the last convolution stays FP32 (the sigmoid, the blend): it costs no multiply-adds.
mover        A node that only moves data has the type of its neighbours, so that nothing is rounded on the way.
default      Everything else is FP16, or BF16 except for transposed convolutions, which TensorRT lacks in BF16.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import onnx_ir as ir

from refine_export.errors import GraphError
from refine_export.graph.fp16_constants import Low, WeightFault, fits
from refine_export.graph.fragile_values import FP16_NORMAL, fragile_nodes
from refine_export.graph.model_file import ONNX_DOMAINS
from refine_export.graph.operator_types import MOVES, RANDOM, SHRINKS, SUMS, has_half_form, is_op, opset_of, sum_bound
from refine_export.graph.sampling_coordinates import (
    PATH_STARTS,
    SAMPLERS,
    grids,
    size_values,
    starts_path,
    upstream,
    weights_of,
)
from refine_export.graph.tensor_ranges import TensorRange

Type = Literal["float16", "bfloat16", "float32", "none"]
Kept = Iterator[tuple[ir.Node, str, str]]
"""A node that stays FP32, the name of the rule, and the reason."""

FP16_MAX: Final = 65504.0
HEADROOM: Final = 8.0
"""A tensor within this factor of FP16's largest number stays FP32: other frames may reach further."""

_PIXEL_TYPES: Final = (ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.UINT8)
"""Types of pixels and masks; integers of other types are sizes, positions and counts."""


@dataclass(frozen=True)
class Decision:
    """The type that a node computes in."""

    type: Type
    """`none` where it computes no floats."""
    rule: str
    """Name of the rule that decided."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class PrecisionChoices:
    """The choices that the rules leave open."""

    low: Low = "float16"
    fp32_tail: bool = True
    """Keep the nodes after the last convolution FP32."""
    islands: Collection[str] = ()
    """Names of nodes that stay FP32 because a search or a user chose them."""
    amplified: Mapping[str, str] = field(default_factory=dict)
    """Names of nodes that stay FP32 because rounding errors grow behind them, with the reason."""
    low_io: Collection[str] = ()
    """Names of the graph's inputs and outputs that are FP16."""


def decide(
    model: ir.Model,
    choices: PrecisionChoices,
    ranges: Mapping[str, TensorRange] | None = None,
    faults: Collection[WeightFault] = (),
) -> dict[ir.Node, Decision]:
    """Give every node its type and the reason.

    Args:
        model: prepared (`prepare`); not modified.
        choices: the choices that the rules leave open.
        ranges: largest magnitude and shape of every FP32 tensor by name, as calibration found them.
        faults: of the constants, from `weight_faults`.
    """
    graph = model.graph
    known: dict[ir.Node, Decision] = {}
    for node in graph:
        if not any(value is not None and value.dtype == ir.DataType.FLOAT for value in (*node.inputs, *node.outputs)):
            known[node] = Decision("none", "no-floats", "computes no floats")
        elif is_op(node, "Shape", "Size"):
            known[node] = Decision("none", "no-floats", "reads a size, no values")

    def keep(found: Kept) -> None:
        for node, name, reason in found:
            known.setdefault(node, Decision("float32", name, reason))

    keep(_coordinates(graph))
    keep(_exact_by_kind(graph, choices.low))
    keep((node, "island", "island: chosen to be FP32") for node in graph if node.name in choices.islands)
    keep((node, "amplified", reason) for node in graph if (reason := choices.amplified.get(node.name or "")))
    keep(_out_of_range(graph, choices.low, ranges or {}, faults))
    keep(fragile_nodes(graph, choices.low, ranges or {}))
    if choices.fp32_tail:
        keep(_tail(graph))
    _keep_movers(graph, known, choices.low_io)
    for node in graph:
        if choices.low == "bfloat16" and is_op(node, "ConvTranspose"):
            low = Decision("float16", "default", "TensorRT has no BF16 transposed convolution: FP16")
        else:
            name = "FP16" if choices.low == "float16" else "BF16"
            low = Decision(choices.low, "default", f"{name}: no rule requires FP32")
        known.setdefault(node, low)
    return known


def check_has_grid(model: ir.Model) -> None:
    """Refuse a graph in which nothing samples by coordinates.

    Raises:
        GraphError: no GridSample and no written-out sampler.
    """
    if not grids(model.graph):
        raise GraphError(
            "no GridSample and no Gather by computed positions was found, so there are no coordinates to keep in FP32; "
            "if the graph does not warp (as unet), confirm it with --without-warp",
            code="no-sampler",
        )


def coordinate_inputs(model: ir.Model) -> set[str]:
    """Return the names of the graph inputs that coordinates are computed from: flows, grids, what scales them."""
    return {
        value.name or ""
        for grid in grids(model.graph).values()
        for value in upstream(grid)
        if value.is_graph_input() and value.dtype == ir.DataType.FLOAT
    }


def _coordinates(graph: ir.Graph) -> Kept:
    """Yield samplers, and what computes coordinates, positions and scales."""
    sizes = size_values(graph)
    for sample, grid in grids(graph).items():
        native = is_op(sample, *SAMPLERS)
        if native:
            yield sample, "sampler", "samples: image, coordinates and result have one type, and coordinates are FP32"
        values = upstream(grid)
        yield from _makers(values, f"coordinates of {sample.name}")
        if not native:
            # Interpolation weights are fractions of positions: rounding them moves the sample as well.
            positions = [value for value in values if not starts_path(value.producer())]
            for node in weights_of(positions, sizes):
                yield node, "coordinates", f"interpolation weights of {sample.name}"
    for node in graph:
        if is_op(node, "Cast") and node.outputs[0].dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            yield node, "coordinates", "rounds to integers: its input is a position or a count"
            yield from _makers(upstream(node.inputs[0]), f"position or count that {node.name} rounds")
        elif is_op(node, "Resize"):
            for value in node.inputs[2:]:
                yield from _makers(upstream(value), f"scales of {node.name}")


def _makers(values: Iterable[ir.Value], reason: str) -> Kept:
    """Yield the nodes that make the values, except those at which a coordinate path begins."""
    for value in values:
        node = value.producer()
        if node is not None and not starts_path(node) and not is_op(node, "Shape", "Size"):
            yield node, "coordinates", reason


def _exact_by_kind(graph: ir.Graph, low: Low) -> Kept:
    """Yield what computes sizes, and operators without an FP16 (BF16) form."""
    from_sizes: set[ir.Value] = set()
    opset = opset_of(graph)
    for node in graph:
        computed = [value for value in node.inputs if value is not None and value.const_value is None]
        sizes = all(value in from_sizes or value.dtype not in _PIXEL_TYPES for value in computed)
        # ConstantOfShape makes pixels of a size, and a convolution an estimate: both end the path of the size.
        if computed and sizes and not is_op(node, "ConstantOfShape", *PATH_STARTS):
            from_sizes.update(node.outputs)
            yield node, "size", "computed from sizes: FP16 counts exactly only to 2048"
        elif (reason := _without_low_form(node, opset, low)) is not None:
            yield node, "no-low-form", reason


def _without_low_form(node: ir.Node, opset: int, low: Low) -> str | None:
    """Return why a node has no FP16 (BF16) form; None if it has one."""
    reads_floats = any(value is not None and value.dtype == ir.DataType.FLOAT for value in node.inputs)
    if node.domain not in ONNX_DOMAINS:
        return f"custom operator {node.domain}.{node.op_type}: its types are not known"
    if all(value.dtype != ir.DataType.FLOAT for value in node.outputs):
        return "has no float outputs: what it compares or counts is not rounded before"
    if node.op_type.lower().endswith(("quantizelinear", "integer")):
        return f"{node.op_type} has scales of its own"
    if not is_op(node, "Cast", "ConstantOfShape") and not reads_floats:
        return f"{node.op_type} makes FP32 values of its own"
    if is_op(node, "ConstantOfShape") and not fits(node.attributes.get_tensor("value"), low):
        return f"its value does not fit {low}"
    if is_op(node, "CumSum"):
        return "adds up step by step: FP16 would round each partial sum"
    if is_op(node, *RANDOM) and (node.op_type != "Dropout" or len(node.inputs) > 2):
        return "draws random numbers: FP16 would draw others"
    if not has_half_form(node, opset, "float16" if is_op(node, "ConvTranspose") else low):
        return f"{node.op_type} of opset {opset} does not take {low}"
    return None


def _out_of_range(
    graph: ir.Graph, low: Low, ranges: Mapping[str, TensorRange], faults: Collection[WeightFault]
) -> Kept:
    """Yield what reads or makes values that FP16 (BF16) cannot hold."""
    limit = FP16_MAX / HEADROOM
    for fault in faults:
        if fault.stays_fp32:
            for node, _ in graph.initializers[fault.name].uses():
                yield node, "range", f"constant {fault.name} does not fit {fault.low}: {fault.problem}"
    for node in graph:
        if low == "bfloat16" and not is_op(node, "ConvTranspose"):
            continue  # BF16 reaches as far as FP32
        for name in (value.name or "" for value in (*node.inputs, *node.outputs) if value is not None):
            largest = ranges[name].largest if name in ranges else 0.0
            if largest > limit:
                yield node, "range", f"{name} reaches {largest:.4g} on the calibration feeds; FP16 ends at 65504"
            elif 0 < largest < FP16_NORMAL:
                yield (
                    node,
                    "range",
                    f"{name} reaches {largest:.2g} on the calibration feeds; FP16 loses bits below 6e-5",
                )
        if node.op_type in SUMS and (bound := sum_bound(node, ranges)) is not None and bound > limit:
            yield node, "range", f"its sum may reach {bound:.4g}; FP16 ends at 65504"


def _tail(graph: ir.Graph) -> Kept:
    """Yield the nodes from which no convolution or matrix product is reached, those themselves excepted."""
    leads_on: set[ir.Node] = set()
    for node in reversed(graph):
        readers = {reader for value in node.outputs for reader, _ in value.uses()}
        if is_op(node, *PATH_STARTS) or readers & leads_on:
            leads_on.add(node)
    reason = "follows the last convolution: costs no multiply-adds, rounds the picture itself"
    yield from ((node, "tail", reason) for node in graph if node not in leads_on)


def _keep_movers(graph: ir.Graph, known: dict[ir.Node, Decision], low_io: Collection[str]) -> None:
    """Keep a mover of FP32 inputs in FP32 where that saves a rounding or moves fewer bytes."""

    def is_fp32(value: ir.Value | None) -> bool:
        if value is None or value.dtype != ir.DataType.FLOAT or value.const_value is not None:
            return True
        if (node := value.producer()) is None:
            return value.name not in low_io
        return node in known and known[node].type == "float32"

    # A mover that stays FP32 may be the FP32 neighbour of the next one, in either direction: repeat until none is.
    changed = True
    while changed:
        changed = False
        for node in graph:
            if node in known or not is_op(node, *MOVES):
                continue
            readers = [reader for value in node.outputs for reader, _ in value.uses()]
            read_fp32 = any(reader in known and known[reader].type == "float32" for reader in readers)
            read_fp32 = read_fp32 or any(v.is_graph_output() and v.name not in low_io for v in node.outputs)
            # A Slice or Gather is cast behind rather than in front of it: fewer values are converted.
            if all(map(is_fp32, node.inputs)) and (read_fp32 or is_op(node, *SHRINKS)):
                known[node] = Decision("float32", "mover", "moves FP32 data that is not to be rounded yet")
                changed = True
