"""Which type each node of an FP32 graph computes in, and why: the rule that keeps the warp exact.

Rule 1. Coordinates stay FP32: from every grid back to the graph's inputs or to the output of a convolution or matrix
        product of more than four terms (fewer move points). An FP16 coordinate is off by up to
        (W - 1) / 2 * 2^-12 px: 0.23 px at W = 1920. So does all that is rounded to integers, and scales of Resize.
Rule 2. The node that samples is FP32: TensorRT wants one type for image, grid and result. (A sampler written out with
        Gather may move FP16 features; only its indices and weights are coordinates.)
Rule 3. What is computed from sizes alone stays FP32: FP16 counts exactly only to 2048.
Rule 4. What FP16 can't hold stays FP32: tensors that come near 65504 on the calibration feeds, with their readers,
        sums that would, and weights that overflow or lose precision in FP16.
Rule 5. What stands behind the last convolution stays FP32 (the sigmoid, the blend): it costs no multiply-adds.
Rule 6. An operator that has no FP16 form in ONNX stays FP32, and so does one that puts out no floats: a comparison
        reads what it compares before it is rounded.
Rule 7. A node that only moves data has the type of its neighbours, so that nothing is rounded on the way.
Rule 8. Everything else is FP16, or BF16 except for transposed convolutions, which TensorRT lacks in BF16.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import onnx_ir as ir

from refine_export.errors import GraphError
from refine_export.graph.fp16_constants import Low, WeightFault, fits
from refine_export.graph.operator_types import (
    MOVES,
    ONNX_DOMAINS,
    SHRINKS,
    SUMS,
    has_half_form,
    is_op,
    opset_of,
    sum_bound,
)
from refine_export.graph.sampling_coordinates import PATH_STARTS, grids, size_values, starts_path, upstream, weights_of
from refine_export.graph.tensor_ranges import TensorRange

Type = Literal["float16", "bfloat16", "float32", "none"]

FP16_MAX: Final = 65504.0
HEADROOM: Final = 8.0
"""A tensor within this factor of FP16's largest number stays FP32: other frames may reach further."""


_NO_SIZES: Final = (ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.UINT8)
"""Types of pixels and masks; any other is of sizes, positions and counts."""


@dataclass(frozen=True)
class Decision:
    """What a node computes in."""

    type: Type
    """`none`: it computes no floats."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is left open by the rules above."""

    low: Low = "float16"
    tail: Literal["float32", "low"] = "float32"
    """Type behind the last convolution (rule 5)."""
    islands: Collection[str] = ()
    """Names of nodes that stay FP32 because a search or a user chose them."""
    low_io: Collection[str] = ()
    """Names of the graph's inputs and outputs that are FP16."""


def decide(
    model: ir.Model,
    rule: Rule,
    ranges: Mapping[str, TensorRange] | None = None,
    faults: Collection[WeightFault] = (),
) -> dict[ir.Node, Decision]:
    """Give every node its type and the reason.

    Args:
        model: prepared (`prepare`); not modified.
        rule: what is left open.
        ranges: largest magnitude and shape of every FP32 tensor by name, as calibration found them.
        faults: of the constants, from `weight_faults`.
    """
    known: dict[ir.Node, Decision] = {}

    def keep(node: ir.Node | None, reason: str) -> None:
        if node is not None and node not in known:
            known[node] = Decision("float32", reason)

    for node in model.graph:
        if not any(value is not None and value.dtype == ir.DataType.FLOAT for value in (*node.inputs, *node.outputs)):
            known[node] = Decision("none", "computes no floats")
        elif is_op(node, "Shape", "Size"):
            known[node] = Decision("none", "reads a size, no values")
    for node, reason in _coordinates(model.graph):
        keep(node, reason)
    for node, reason in _exact_by_kind(model, rule.low):
        keep(node, reason)
    for node in model.graph:
        if node.name in rule.islands:
            keep(node, "island: chosen to be FP32")
    for node, reason in _out_of_range(model.graph, rule.low, ranges or {}, faults):
        keep(node, reason)
    if rule.tail == "float32":
        for node in _tail(model.graph):
            keep(node, "behind the last convolution: costs no multiply-adds, rounds the picture itself")
    _moved(model.graph, known, rule.low_io)
    for node in model.graph:
        if node in known:
            continue
        if rule.low == "bfloat16" and is_op(node, "ConvTranspose"):
            known[node] = Decision("float16", "TensorRT has no BF16 transposed convolution: FP16")
        else:
            known[node] = Decision(rule.low, "no rule keeps it")
    return known


def has_grid(model: ir.Model) -> bool:
    """Whether the graph samples by coordinates at all."""
    return bool(grids(model.graph))


def coordinate_inputs(model: ir.Model) -> set[str]:
    """Names of the graph inputs that coordinates are computed from: flows, grids, and whatever scales them."""
    return {
        value.name or ""
        for grid in grids(model.graph).values()
        for value in upstream(grid)
        if value.is_graph_input() and value.dtype == ir.DataType.FLOAT
    }


def _coordinates(graph: ir.Graph) -> Iterator[tuple[ir.Node, str]]:
    """Rules 1 and 2."""
    sizes = size_values(graph)
    for sample, grid in grids(graph).items():
        if is_op(sample, "GridSample"):
            yield sample, "samples: image, grid and result have one type, and the grid is FP32"
        values = upstream(grid)
        yield from _makers(values, f"coordinates of {sample.name}")
        if not is_op(sample, "GridSample"):
            for node in weights_of((value for value in values if not starts_path(value.producer())), sizes):
                yield node, f"interpolation weights of {sample.name}"
    for node in graph:
        if is_op(node, "Cast") and node.outputs[0].dtype != ir.DataType.FLOAT:
            yield node, "rounds to integers: what it reads is a position or a count"
            yield from _makers(upstream(node.inputs[0]), f"position or count that {node.name} rounds")
        elif is_op(node, "Resize"):
            for value in node.inputs[2:]:
                yield from _makers(upstream(value), f"scales of {node.name}")


def _makers(values: Iterable[ir.Value], reason: str) -> Iterator[tuple[ir.Node, str]]:
    """The nodes that make the values, but for those that coordinates begin at."""
    for value in values:
        node = value.producer()
        if node is not None and not starts_path(node) and not is_op(node, "Shape", "Size"):
            yield node, reason


def _exact_by_kind(model: ir.Model, low: Low) -> Iterator[tuple[ir.Node, str]]:
    """Rules 3 and 6, in the order of the graph."""
    from_sizes: set[ir.Value] = set()
    opset = opset_of(model.graph)
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None and value.const_value is None]
        sizes = all(value in from_sizes or value.dtype not in _NO_SIZES for value in inputs)
        if inputs and sizes and not is_op(node, "ConstantOfShape", *PATH_STARTS):
            from_sizes.update(node.outputs)
            yield node, "computed from sizes: FP16 counts exactly only to 2048"
        if node.domain not in ONNX_DOMAINS:
            yield node, f"custom operator {node.domain}.{node.op_type}: which types it takes is not known"
        elif all(value.dtype != ir.DataType.FLOAT for value in node.outputs):
            yield node, "puts out no floats: what it compares or counts is not rounded before"
        elif node.op_type.lower().endswith(("quantizelinear", "integer")):
            yield node, f"{node.op_type} has scales of its own"
        elif not is_op(node, "Cast", "ConstantOfShape") and not any(
            value is not None and value.dtype == ir.DataType.FLOAT for value in node.inputs
        ):
            yield node, f"{node.op_type} makes FP32 values of its own"
        elif is_op(node, "ConstantOfShape") and not fits(node.attributes.get_tensor("value"), low):
            yield node, f"its value does not fit {low}"
        elif not has_half_form(node, opset, "float16" if is_op(node, "ConvTranspose") else low):
            yield node, f"{node.op_type} of opset {opset} takes no {low}"


def _out_of_range(
    graph: ir.Graph, low: Low, ranges: Mapping[str, TensorRange], faults: Collection[WeightFault]
) -> Iterator[tuple[ir.Node, str]]:
    """Rule 4."""
    limit = FP16_MAX / HEADROOM
    for fault in faults:
        if fault.stays_fp32:
            said = f"{fault.overflowing} values overflow" if fault.overflowing else f"it changes by {fault.changed:.2g}"
            for node, _ in graph.initializers[fault.name].uses():
                yield node, f"constant {fault.name} does not fit {fault.low}: {said}"
    for node in graph:
        if low == "bfloat16" and not is_op(node, "ConvTranspose"):
            continue  # BF16 reaches as far as FP32
        for value in (*node.inputs, *node.outputs):
            found = ranges.get(value.name or "") if value is not None else None
            if value is not None and found is not None and found.largest > limit:
                yield node, f"{value.name} reaches {found.largest:.4g} on the calibration feeds; FP16 ends at 65504"
        if node.op_type in SUMS and (bound := sum_bound(node, ranges)) is not None and bound > limit:
            yield node, f"its sum may reach {bound:.4g}; FP16 ends at 65504"


def _tail(graph: ir.Graph) -> list[ir.Node]:
    """The nodes from which no convolution or matrix product is reached, those themselves excepted."""
    leads_on: set[ir.Node] = set()
    for node in reversed(list(graph)):
        readers = {reader for value in node.outputs for reader, _ in value.uses()}
        if starts_path(node) or readers & leads_on:
            leads_on.add(node)
    return [node for node in graph if node not in leads_on]


def _moved(graph: ir.Graph, known: dict[ir.Node, Decision], low_io: Collection[str]) -> None:
    """Rule 7: a mover whose inputs are all FP32 stays FP32 where that saves a rounding or moves fewer bytes."""

    def is_fp32(value: ir.Value | None) -> bool:
        if value is None or value.dtype != ir.DataType.FLOAT or value.const_value is not None:
            return True
        if (node := value.producer()) is None:
            return value.name not in low_io
        return node in known and known[node].type == "float32"

    changed = True
    while changed:
        changed = False
        for node in graph:
            if node in known or not is_op(node, *MOVES):
                continue
            readers = [reader for value in node.outputs for reader, _ in value.uses()]
            read_fp32 = any(reader in known and known[reader].type == "float32" for reader in readers)
            read_fp32 = read_fp32 or any(v.is_graph_output() and v.name not in low_io for v in node.outputs)
            if all(map(is_fp32, node.inputs)) and (read_fp32 or is_op(node, *SHRINKS)):
                known[node] = Decision("float32", "moves FP32 data that is not to be rounded yet")
                changed = True


def check_has_grid(model: ir.Model) -> None:
    """Refuse a graph in which nothing samples by coordinates.

    Raises:
        GraphError: no GridSample and no written-out sampler.
    """
    if not has_grid(model):
        raise GraphError(
            "no GridSample and no Gather by computed positions was found, so there are no coordinates to keep in FP32; "
            "if the graph does not warp (as unet), say so with --without-warp"
        )
