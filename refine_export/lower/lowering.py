"""FP32 ONNX to strongly typed FP16 or BF16 ONNX whose warps stay exact; model to model, nothing is written.

    prepared = prepare_model(ir.load("refine.onnx"), LowerOptions())
    prepared = calibrated(prepared, [("scene", feeds)])
    lowered = lower(prepared, LowerOptions())

The rule is in `graph.precision_rule`; a walk over the graph, no list of names, so it holds for files of other tools.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from refine_export import __version__
from refine_export.errors import InternalError
from refine_export.graph.linter import lint_model
from refine_export.lower.lower_options import LowerOptions
from refine_export.signature import SIGNATURES, GraphName
from refine_export.support.imports import require

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from refine_export.graph.fp16_constants import WeightFault
    from refine_export.graph.tensor_ranges import TensorRange
    from refine_export.runners.base import Arrays


BF16_OPSET = 22
"""The first opset whose Conv, ConvTranspose and GridSample take BF16."""

_NO_PICTURE = {"input": re.compile(r"flow|time|grid", re.IGNORECASE), "output": re.compile(r"flow", re.IGNORECASE)}
"""Names that say that an input or output of a graph of another tool is no picture."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An FP32 graph that can be lowered, any number of times."""

    model: ir.Model
    """Prepared; no function here modifies it."""
    graph: GraphName | None
    """Which of the five it is, if it is one."""
    faults: tuple[WeightFault, ...]
    """Of its constants in the type that was asked for."""
    ranges: Mapping[str, TensorRange] = field(default_factory=dict)
    """What calibration found."""


@dataclass(frozen=True)
class NodeType:
    """What became of a node."""

    node: str
    operator: str
    type: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A lowered graph, and why it is as it is."""

    model: onnx.ModelProto
    nodes: tuple[NodeType, ...]
    """Of each node of the FP32 graph, in order."""
    macs_low: float
    """Share of the multiply-adds that are FP16 or BF16, at the size of the calibration feeds."""
    notes: tuple[str, ...]
    """What the user should know: constants that FP16 does not hold."""

    @property
    def types(self) -> dict[str, int]:
        """How many nodes compute in each type."""
        return dict(Counter(node.type for node in self.nodes if node.type != "none"))


def prepare_model(
    model: ir.Model, options: LowerOptions, graph: GraphName | None = None, *, without_warp: bool = False
) -> Prepared:
    """Check an FP32 graph and make it ready; `model` is modified.

    Args:
        model: of any tool, opset 16 or newer, external data loaded.
        options: of the lowering.
        graph: which of the five it is, if it is one.
        without_warp: the graph is known to sample nothing.

    Raises:
        GraphError: it can't be lowered; the message says why.
        UnavailableError: onnx or onnx-ir is missing.
    """
    require("onnx_ir", extra="ort")
    from refine_export.graph.fp16_constants import weight_faults
    from refine_export.graph.opset import at_opset, spell_bilinear
    from refine_export.graph.precision_rule import check_has_grid
    from refine_export.graph.prepare import prepare

    model = prepare(model)
    if not without_warp and graph != "unet":
        check_has_grid(model)
    if options.gridsample == "gather":
        from refine_export.graph.gather_sampler import lower_grid_sample

        if lower_grid_sample(model):
            prepare(model)
    if options.precision == "bf16":
        model = at_opset(model, BF16_OPSET)
    spell_bilinear(model)
    faults = () if options.precision == "fp32" else tuple(weight_faults(model, _low(options)))
    return Prepared(model=model, graph=graph, faults=faults)


def calibrated(prepared: Prepared, feeds: Iterable[tuple[str, Arrays]]) -> Prepared:
    """The same with the ranges and shapes that its tensors have on `feeds`."""
    from refine_export.lower.calibration import ranges_from_feeds

    return dataclasses.replace(prepared, ranges=ranges_from_feeds(prepared.model, feeds))


def lower(prepared: Prepared, options: LowerOptions, islands: Collection[str] = ()) -> Lowered:
    """Give every node its type.

    Args:
        prepared: usually calibrated; without ranges nothing is known of overflow.
        options: as `prepare_model` had them.
        islands: names of nodes that are to stay FP32.

    Raises:
        InternalError: the result breaks one of our own promises.
    """
    from refine_export.graph.cost import multiply_adds
    from refine_export.graph.precision_rule import Rule, decide
    from refine_export.graph.retype import Retype

    source = prepared.model
    if options.precision == "fp32":
        nodes = [NodeType(node.name or "", node.op_type, "float32", "asked for") for node in source.graph]
        return Lowered(model=_finished(source.clone(), options), nodes=tuple(nodes), macs_low=0.0, notes=())
    model = source.clone()
    io = _io_types(prepared, options)
    tail: Literal["float32", "low"] = "float32" if options.fp32_tail else "low"
    rule = Rule(low=_low(options), tail=tail, islands=frozenset(islands), low_io=frozenset(io))
    decisions = decide(model, rule, prepared.ranges, prepared.faults)
    nodes = [
        NodeType(node.name or "", node.op_type, decisions[node].type, decisions[node].reason) for node in model.graph
    ]
    macs = multiply_adds(source.graph, prepared.ranges)
    total = sum(macs.values())
    low = sum(macs.get(node.node, 0) for node in nodes if node.type != "float32")
    Retype(decisions, io)(model)
    return Lowered(
        model=_finished(model, options),
        nodes=tuple(nodes),
        macs_low=low / total if total else 0.0,
        notes=tuple(_fault_notes(prepared.faults)),
    )


def check_lowered(lowered: Lowered, source: onnx.ModelProto | None = None) -> tuple[str, ...]:
    """Check a lowered model by onnx.checker and the lint.

    Returns:
        What the lint says of the file that it was made from as well: those faults were there before.

    Raises:
        InternalError: a fault that lowering has added.
    """
    import onnx.checker

    onnx.checker.check_model(lowered.model, full_check=True)
    before = {(finding.rule, finding.node) for finding in lint_model(source)} if source is not None else set()
    inherited = []
    for finding in lint_model(lowered.model):
        if (finding.rule, finding.node) not in before and finding.severity == "error":
            raise InternalError(f"the lowered model does not pass our own lint: {finding.node}: {finding.message}")
        inherited.append(f"{finding.node or 'the graph'}: {finding.message} ({finding.rule}), as in the FP32 file")
    return tuple(inherited)


def _low(options: LowerOptions) -> Literal["float16", "bfloat16"]:
    return "bfloat16" if options.precision == "bf16" else "float16"


def _io_types(prepared: Prepared, options: LowerOptions) -> dict[str, ir.DataType]:
    """The inputs and outputs that become FP16."""
    import onnx_ir as ir

    from refine_export.graph.precision_rule import FP16_MAX, HEADROOM, coordinate_inputs

    if options.io == "fp32":
        return {}
    graph = prepared.model.graph
    kept = coordinate_inputs(prepared.model)
    if prepared.graph is not None:
        signature = SIGNATURES[prepared.graph]
        kept |= {spec.name for spec in (*signature.inputs, *signature.outputs) if spec.quantity in ("flow", "timestep")}
    types = {}
    for side, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            name = value.name or ""
            known = prepared.ranges.get(name)
            plane = value.shape is not None and len(value.shape) == 4 and any(size != 1 for size in value.shape)
            hot = known is not None and known.largest > FP16_MAX / HEADROOM
            other = prepared.graph is None and not _is_picture(value, side)
            if value.dtype == ir.DataType.FLOAT and plane and not hot and not other and name not in kept:
                types[name] = ir.DataType.FLOAT16
    return types


def _is_picture(value: ir.Value, side: str) -> bool:
    """Whether an input or output of a graph of another tool is one frame or two, by its channels and its name."""
    channels = None if value.shape is None or len(value.shape) != 4 else value.shape[1]
    return channels in (3, 6) and not _NO_PICTURE[side].search(value.name or "")


def _finished(model: ir.Model, options: LowerOptions) -> onnx.ModelProto:
    """The model as protobuf, saying what it is."""
    import onnx_ir as ir

    model.metadata_props["refine_export.precision"] = options.precision
    model.metadata_props["refine_export.lowered_by"] = __version__
    proto = ir.to_proto(model)
    if any(dim.HasField("dim_param") for value in proto.graph.input for dim in value.type.tensor_type.shape.dim):
        # Inferred symbols, which no reader could join with the inputs'; of custom operators nothing else is known.
        custom = {name for node in proto.graph.node if node.domain for name in node.output}
        kept = [value for value in proto.graph.value_info if value.name in custom]
        del proto.graph.value_info[:]
        proto.graph.value_info.extend(kept)
    return proto


def _fault_notes(faults: Collection[WeightFault]) -> list[str]:
    """Each constant that keeps its readers in FP32, and in one line those with values that vanish."""
    notes = []
    for fault in faults:
        if fault.stays_fp32:
            what = (
                f"{fault.overflowing} values overflow" if fault.overflowing else f"norm changes by {fault.changed:.2g}"
            )
            notes.append(
                f"{fault.name} (to {fault.largest:.3g}) does not fit {fault.low}: {what}; its readers stay FP32"
            )
    vanishing = [fault for fault in faults if fault.vanishing and not fault.stays_fp32]
    if vanishing:
        low = "/".join(sorted({fault.low for fault in vanishing}))
        counts = ", ".join(f"{fault.name} {fault.vanishing}" for fault in vanishing)
        notes.append(f"values so small that they become 0 in {low}, without weight in the norm: {counts}")
    return notes
