"""Lower an FP32 model to a strongly typed FP16 or BF16 model whose warps stay exact; nothing is written.

    prepared = prepare_model(ir.load("refine.onnx"), LowerOptions())
    prepared = calibrated(prepared, [("scene", feeds)])
    lowered = lower(prepared, LowerOptions())

The rule is in `graph.precision_rule`: a walk over the graph, not a list of names, so it holds for files of other tools.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnx.checker
import onnx_ir as ir

from refine_export import __version__
from refine_export.data.npz_feeds import NamedFeed
from refine_export.errors import InternalError
from refine_export.graph.cost import multiply_adds
from refine_export.graph.cpu_tuning import tune_for_cpu
from refine_export.graph.fp16_constants import Low, WeightFault, weight_faults
from refine_export.graph.gather_sampler import lower_grid_sample
from refine_export.graph.linter import lint_model
from refine_export.graph.opset import at_opset, spell_bilinear
from refine_export.graph.precision_rule import (
    FP16_MAX,
    HEADROOM,
    PrecisionChoices,
    check_has_grid,
    coordinate_inputs,
    decide,
)
from refine_export.graph.prepare import prepare
from refine_export.graph.retype import Retype
from refine_export.graph.tensor_ranges import TensorRange
from refine_export.lower.calibration import ranges_from_feeds
from refine_export.lower.lower_options import LowerOptions
from refine_export.signature import Signature

_BF16_OPSET = 22  # the first whose Conv, ConvTranspose and GridSample take BF16

_TUNED_FOR = "refine_export.tuned_for"
_FOR_CPU = (
    "the FP32 file was tuned for a CPU: TensorRT makes more layers of it than of the file that it was made from; for a "
    "GPU, lower that one"
)
_TUNED = "written in operators that ONNX Runtime computes faster on a CPU"

_NOT_PICTURES = {
    "input": re.compile(r"flow|time|grid", re.IGNORECASE),
    "output": re.compile(r"flow", re.IGNORECASE),
}
"""Names of inputs and outputs that are not pictures, in graphs of other tools."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An FP32 graph that can be lowered, any number of times."""

    model: ir.Model
    """Prepared; no function here modifies it."""
    signature: Signature | None
    """Signature of the graph, if it is one of ours."""
    faults: tuple[WeightFault, ...]
    """Faults of its constants in the requested type."""
    ranges: Mapping[str, TensorRange] = field(default_factory=dict)
    """Size of each tensor on the calibration feeds."""
    amplified: Mapping[str, str] = field(default_factory=dict)
    """Node that stays FP32 since rounding errors grow behind it (`amplified_errors`) -> the reason."""


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """The type of a node of the FP32 graph, and why."""

    node: str
    operator: str
    type: str
    rule: str
    """Name of the rule of `graph.precision_rule` that decided."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A lowered graph, and why it is as it is."""

    model: onnx.ModelProto
    nodes: tuple[NodeType, ...]
    """One for each node of the FP32 graph, in order."""
    macs_low: float
    """Share of the multiply-adds that are FP16 or BF16, at the size of the calibration feeds."""
    notes: tuple[str, ...]
    """Constants that FP16 does not hold."""

    @property
    def types(self) -> dict[str, int]:
        """Number of nodes that compute in each type."""
        return count_types(self.nodes)


def count_types(nodes: Iterable[NodeType]) -> dict[str, int]:
    """Return the number of nodes that compute in each type."""
    return dict(Counter(node.type for node in nodes if node.type != "none"))


def described_types(nodes: Sequence[NodeType], macs_low: float) -> str:
    """Return how many nodes compute in each type, or of a file for a CPU, how many were rewritten."""
    if tuned := sum(node.rule == "tuned" for node in nodes):
        return f"FP32, {tuned} of {len(nodes)} nodes written in others for a CPU"
    counts = ", ".join(f"{count} nodes {kind}" for kind, count in sorted(count_types(nodes).items()))
    return f"{counts}; {macs_low:.1%} of the multiply-adds in FP16 or BF16"


def prepare_model(
    model: ir.Model, options: LowerOptions, signature: Signature | None = None, *, without_warp: bool = False
) -> Prepared:
    """Check an FP32 graph and make it ready; `model` is modified.

    Args:
        model: of any tool, opset 16 or newer, external data loaded.
        options: of the lowering.
        signature: of the graph, if it is one of ours.
        without_warp: confirm that the graph has no sampler.

    Raises:
        GraphError: it cannot be lowered.
    """
    model = prepare(model)
    if not without_warp and (signature is None or signature.graph != "unet"):
        check_has_grid(model)
    if options.gridsample == "gather" and lower_grid_sample(model):
        prepare(model)  # the types and shapes of the new nodes
    if options.precision == "bf16":
        model = at_opset(model, _BF16_OPSET)
    spell_bilinear(model)
    faults = () if options.precision == "fp32" else tuple(weight_faults(model, _low(options)))
    return Prepared(model=model, signature=signature, faults=faults)


def calibrated(prepared: Prepared, feeds: Iterable[NamedFeed]) -> Prepared:
    """Return the same with the ranges and shapes that its tensors have on `feeds`, and on those before."""
    found = ranges_from_feeds(prepared.model, feeds)
    before = prepared.ranges or found
    return dataclasses.replace(prepared, ranges={name: one.joined(before[name]) for name, one in found.items()})


def lower(prepared: Prepared, options: LowerOptions, islands: Collection[str] = ()) -> Lowered:
    """Give every node its type.

    Args:
        prepared: usually calibrated; without ranges nothing is known of overflow.
        options: the ones that `prepare_model` had.
        islands: names of nodes that are to stay FP32.
    """
    model = prepared.model.clone()
    if options.precision == "fp32":
        nodes = [
            NodeType(node=n.name or "", operator=n.op_type, type="float32", rule="requested", reason="requested: fp32")
            for n in model.graph
        ]
        if options.tune == "cpu":
            tuned = tune_for_cpu(model)
            nodes = [dataclasses.replace(n, rule="tuned", reason=_TUNED) if n.node in tuned else n for n in nodes]
        return Lowered(model=_finished(model, options), nodes=tuple(nodes), macs_low=0.0, notes=())
    io, io_notes = _io_types(prepared, options)
    choices = PrecisionChoices(
        low=_low(options),
        fp32_tail=options.fp32_tail,
        islands=frozenset(islands),
        amplified=prepared.amplified,
        low_io=frozenset(io),
    )
    decisions = decide(model, choices, prepared.ranges, prepared.faults)
    nodes = [NodeType(node=n.name or "", operator=n.op_type, **dataclasses.asdict(decisions[n])) for n in model.graph]
    macs = multiply_adds(model.graph, prepared.ranges)
    low = sum(macs.get(node.node, 0) for node in nodes if node.type != "float32")
    Retype(decisions, io)(model)
    return Lowered(
        model=_finished(model, options),
        nodes=tuple(nodes),
        macs_low=low / (sum(macs.values()) or 1),
        notes=(*_fault_notes(prepared.faults), *io_notes, *([_FOR_CPU] if _TUNED_FOR in model.metadata_props else [])),
    )


def check_lowered(lowered: Lowered, source: onnx.ModelProto | None = None) -> tuple[str, ...]:
    """Check a lowered model by onnx.checker and the lint.

    Returns:
        The findings that the FP32 file has as well: those faults were there before.

    Raises:
        InternalError: a fault that lowering has added.
    """
    onnx.checker.check_model(lowered.model, full_check=True)
    before = {(finding.rule, finding.node) for finding in lint_model(source)} if source is not None else set()
    inherited = []
    for finding in lint_model(lowered.model):
        if (finding.rule, finding.node) not in before and finding.severity == "error":
            message = f"the lowered model does not pass our own lint: {finding.node}: {finding.message}"
            raise InternalError(message, code="lint-failed", rule=finding.rule, node=finding.node)
        inherited.append(f"{finding.node or 'the graph'}: {finding.message} ({finding.rule}), as in the FP32 file")
    return tuple(inherited)


def _low(options: LowerOptions) -> Low:
    return "bfloat16" if options.precision == "bf16" else "float16"


def _io_types(prepared: Prepared, options: LowerOptions) -> tuple[dict[str, ir.DataType], list[str]]:
    """Return the inputs and outputs that become FP16: pictures, masks and features within the range of FP16.

    Each plane of another tool's graph that does not gets a note with the reason.
    """
    notes: list[str] = []
    if options.io == "fp32":
        return {}, notes
    graph = prepared.model.graph
    kept = coordinate_inputs(prepared.model)
    signature = prepared.signature
    if signature is not None:
        kept |= {spec.name for spec in (*signature.inputs, *signature.outputs) if spec.quantity in ("flow", "timestep")}
    types = {}
    for side, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            name = value.name or ""
            known = prepared.ranges.get(name)
            plane = value.shape is not None and len(value.shape) == 4 and any(size != 1 for size in value.shape)
            fits = known is None or known.largest <= FP16_MAX / HEADROOM
            # Of a graph of another tool nothing is known but channels and names: one frame or two is safe.
            picture = signature is not None or (
                plane and value.shape is not None and value.shape[1] in (3, 6) and not _NOT_PICTURES[side].search(name)
            )
            if value.dtype != ir.DataType.FLOAT or not plane:
                continue
            if name in kept:
                reason = "coordinates are computed from it"
            elif not fits:
                reason = "FP16 may not hold its values"
            elif not picture:
                reason = "its channels or name are not those of one frame or two, so it may hold flows or a timestep"
            else:
                types[name] = ir.DataType.FLOAT16
                continue
            if signature is None:
                notes.append(f"the {side} {name} stays FP32: {reason}")
    return types, notes


def _finished(model: ir.Model, options: LowerOptions) -> onnx.ModelProto:
    """Return the model as protobuf, with metadata that state how it was made."""
    model.metadata_props["refine_export.precision"] = options.precision
    model.metadata_props["refine_export.lowered_by"] = __version__
    if options.tune != "none":
        model.metadata_props[_TUNED_FOR] = options.tune
    proto = ir.to_proto(model)
    if any(dim.HasField("dim_param") for value in proto.graph.input for dim in value.type.tensor_type.shape.dim):
        # Inferred symbols, which no reader could join with the inputs'; of custom operators nothing else is known.
        custom = {name for node in proto.graph.node if node.domain for name in node.output}
        kept = [value for value in proto.graph.value_info if value.name in custom]
        del proto.graph.value_info[:]
        proto.graph.value_info.extend(kept)
    return proto


def _fault_notes(faults: Collection[WeightFault]) -> list[str]:
    """Return a line for each constant that keeps its readers in FP32, and one for those with values that vanish."""
    notes = [
        f"{fault.name} (to {fault.largest:.3g}) does not fit {fault.low}: {fault.problem}; its readers stay FP32"
        for fault in faults
        if fault.stays_fp32
    ]
    vanishing = [fault for fault in faults if fault.vanishing and not fault.stays_fp32]
    if vanishing:
        low = "/".join(sorted({fault.low for fault in vanishing}))
        counts = ", ".join(f"{fault.name} {fault.vanishing}" for fault in vanishing)
        notes.append(f"values so small that they become 0 in {low}, without weight in the norm: {counts}")
    return notes
