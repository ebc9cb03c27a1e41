"""Known-bad models made of a good one: what a gate has to stop, each with one fault.

    for mutant in mutants_of(onnx.load("refine.onnx"), "refine"):
        print(mutant.name, mutant.first_bad_node)

    nearest            the sampler takes the nearest pixel
    zeros-padding      the sampler gives 0 outside the frame
    align-corners      the sampler counts from the pixels' edges, not from their centres
    fp16-coordinates   what the coordinates are computed from, and each step of it, is rounded to FP16
    swapped-flows      the flow towards one frame is used for the other
    weight             the weights of the last convolution are 5 % too large
    bgr                one image has its channels in reverse
    fixed-timestep     the timestep is 0.5, whatever is asked for

They are made of files with GridSample and of those where `gather_sampler.py` has written it out, which get a GridSample
with the fault beside it. Every path through a refinement leads through the last convolution, so an error of 5 % of it
is one of up to 5 % of what the refinement adds, in any network; 5 % of a tensor in the middle may have no effect that
anybody sees.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
import onnx_ir as ir

from refine_export.errors import GraphError, InternalError
from refine_export.graph.model_file import ONNX_DOMAINS
from refine_export.graph.node_writer import NodeWriter
from refine_export.graph.operator_types import MOVES, is_op
from refine_export.graph.sampling_coordinates import starts_path, upstream
from refine_export.graph.stacked_input import CHANNELS, TIMESTEP_CHANNEL
from refine_export.self_test.samplers import Sampler, UnknownSamplerError, samplers
from refine_export.signature import GraphName

SCALE: Final = 1.05
_RIGHT: Final = {"mode": "bilinear", "padding_mode": "border", "align_corners": 1}
_DEFAULTS: Final = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0}
"""Attributes of a GridSample that does not state them."""
FIXED_TIMESTEP: Final = 0.5
_HALF, _SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A model with one fault."""

    name: str
    description: str
    model: onnx.ModelProto
    """Valid; inputs, outputs and the names of what it shares with the good model are those of the good one."""
    first_bad_node: str
    """The first node, in the order of the graph, whose result is wrong; it may exist only in this model."""


@dataclass(frozen=True, kw_only=True)
class NotMade:
    """A fault that a model cannot be given."""

    name: str
    description: str
    reason: str
    applies: bool
    """The graph could have the fault: one that samples nothing cannot sample wrongly."""


class _NotPossibleError(Exception):
    def __init__(self, reason: str, *, applies: bool = True) -> None:
        super().__init__(reason)
        self.applies = applies


def mutants_of(model: onnx.ModelProto, graph: GraphName | None) -> Iterator[Mutant]:
    """Yield those of `attempts_of` that could be made."""
    return (made for made in attempts_of(model, graph) if isinstance(made, Mutant))


def attempts_of(
    model: onnx.ModelProto, graph: GraphName | None, names: Collection[str] | None = None
) -> Iterator[Mutant | NotMade]:
    """Give the model each fault in turn, made when it is asked for.

    Args:
        model: external data loaded; not modified.
        graph: which of the four it is, if it is one.
        names: of the faults; all by default.

    Raises:
        InternalError: `invalid-onnx`; what was made is not a valid model.
    """
    try:
        source = ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True))
        source.clone()  # fails where nodes are not sorted, or read what nothing makes
    except Exception as error:  # of onnx and onnx_ir, which have a class of their own for each way to be wrong
        raise GraphError(
            "the model is not valid ONNX: a node reads what no node before it makes; export it again",
            code="invalid-onnx",
        ) from error
    for name, (description, spoil) in _FAULTS.items():
        if names is not None and name not in names:
            continue
        spoiled = source.clone()
        try:
            bad = set(spoil(_Editor(spoiled.graph, "mutant"), graph))
        except _NotPossibleError as error:
            yield NotMade(name=name, description=description, reason=str(error), applies=error.applies)
        else:
            spoiled.graph.sort()  # a new node stands behind the maker of its first input; others may be made later
            first = next(node.name or node.outputs[0].name or "" for node in spoiled.graph if node in bad)
            yield Mutant(name=name, description=description, model=_finished(spoiled, name), first_bad_node=first)


def _finished(model: ir.Model, fault: str) -> onnx.ModelProto:
    """Convert to protobuf and mark the model as bad.

    Declared types are dropped, because the checker would hold new types against them. Those that custom operators put
    out stay: nothing could infer them.
    """
    model.metadata_props["refine_export.mutant"] = fault
    proto = ir.to_proto(model)
    custom = {name for node in proto.graph.node if node.domain not in ONNX_DOMAINS for name in node.output}
    kept = [value for value in proto.graph.value_info if value.name in custom]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # ValidationError, InferenceError
        raise InternalError(f"the known-bad model {fault} is not valid: {error}", code="invalid-onnx") from error
    return proto


class _Editor(NodeWriter):
    """Puts nodes into the graph, which it modifies."""

    def add(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Add a node right behind the maker of its first input, or before the first reader of it; return its output.

        The maker of another input may stand behind it: sort the graph in the end.
        """
        output, maker = self.op(op_type, *inputs, **attributes), inputs[0].producer()
        if maker is None:
            reader = next((reader for reader in self.graph if inputs[0] in reader.inputs), self.graph[0])
            self.graph.insert_before(reader, self.nodes[-1])
        else:
            self.graph.insert_after(maker, self.nodes[-1])
        return output


def _replace(uses: Iterable[tuple[ir.Node, int]], new: ir.Value) -> None:
    """Let `new` be read in these places.

    They are looked up before the nodes that compute `new` are added, which may read the old value themselves.
    """
    for node, index in uses:
        node.replace_input_with(index, new)


def _samplers(editor: _Editor) -> list[Sampler]:
    """Find all samplers of the graph, in order.

    Raises:
        _NotPossibleError: there are none, or one is written out in a form that is not known.
    """
    try:
        found = samplers(editor.graph)
    except UnknownSamplerError as error:
        raise _NotPossibleError(str(error)) from error
    if not found:
        raise _NotPossibleError("it samples nothing", applies=False)
    return found


def _nearest(editor: _Editor, graph: GraphName | None) -> list[ir.Node]:
    changed = _sample(editor, lambda node: ir.AttrString("mode", "nearest"))
    return _differing(changed, "it takes the nearest pixel already")


def _zeros_padding(editor: _Editor, graph: GraphName | None) -> list[ir.Node]:
    changed = _sample(editor, lambda node: ir.AttrString("padding_mode", "zeros"))
    return _differing(changed, "it pads with zeros already")


def _align_corners(editor: _Editor, graph: GraphName | None) -> list[ir.Node]:
    return _sample(editor, lambda node: ir.AttrInt64("align_corners", 1 - node.attributes.get_int("align_corners", 0)))


def _sample(editor: _Editor, fault: Callable[[ir.Node], ir.Attr]) -> list[ir.Node]:
    """Give each sampler an attribute that is a fault; return the nodes that changed."""
    changed = []
    for sampler in _samplers(editor):
        node = sampler.node
        if not sampler.native:
            sampled = editor.add("GridSample", sampler.image, sampler.grid, **_RIGHT)
            sampled.type = ir.TensorType(sampler.image.dtype or _SINGLE)
            node.replace_input_with(0, sampled)  # [N, C, H, W], which the Reshape leaves as it is
            node = editor.nodes[-1]
        attribute = fault(node)
        given = node.attributes.get(attribute.name)
        if (_DEFAULTS[attribute.name] if given is None else given.value) != attribute.value:
            node.attributes[attribute.name] = attribute
            changed.append(node)
    return changed


def _half_coordinates(editor: _Editor, graph: GraphName | None) -> list[ir.Node]:
    """Round with a pair of Casts behind each step: ONNX Runtime would compute FP16 nodes in FP32 on a CPU."""
    found = _samplers(editor)
    ends = {(sampler.reader, 1 if sampler.native else 0) for sampler in found}
    values = dict.fromkeys(value for sampler in found for value in upstream(sampler.grid) if value.dtype == _SINGLE)
    makers = {node for value in values if (node := value.producer()) is not None and not starts_path(node)}
    for value in values:
        if is_op(value.producer(), *MOVES) or _is_half(value):  # rounded already, so nothing would change
            continue
        uses = [
            (node, index)
            for node, index in value.uses()
            # Scales of Resize are FP32 in FP16 graphs too.
            if (node, index) in ends or (node in makers and not (is_op(node, "Resize") and index > 0))
        ]
        if uses:
            _replace(uses, editor.add("Cast", editor.add("Cast", value, to=_HALF), to=_SINGLE))
    return _differing(editor.nodes, "it computes coordinates in FP16 already")


def _is_half(value: ir.Value) -> bool:
    """Return whether it is a constant that FP16 holds."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None:
        return False
    array = tensor.numpy()
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(np.float16).astype(array.dtype), array)


def _swapped_flows(editor: _Editor, graph: GraphName | None) -> list[ir.Node]:
    if graph == "contextnet":
        raise _NotPossibleError("it has one flow", applies=False)
    flow = next((value for value in editor.graph.inputs if value.name == "flow"), None)
    if graph == "unet" and flow is not None:  # it samples nothing, so it has no coordinates to look for
        uses = list(flow.uses())
        _replace(uses, editor.add("Gather", flow, editor.constant(np.array([2, 3, 0, 1])), axis=1))
        return editor.nodes
    # Exchange the halves of each value of which channels [0:2] and [2:4], or each of them, are taken for a grid.
    takers: dict[ir.Value, dict[tuple[int, int], list[ir.Node]]] = {}
    leading = dict.fromkeys(value.producer() for sampler in _samplers(editor) for value in upstream(sampler.grid))
    for node in leading:
        if node is not None and (source := node.inputs[0] if node.inputs else None) is not None:
            for part in _channels(node):
                takers.setdefault(source, {}).setdefault(part, []).append(node)
    for source, parts in takers.items():
        of_halves = [part for part in parts if part in ((0, 2), (2, 4)) or part in pairwise(range(5))]
        if {channel for part in of_halves for channel in range(*part)} == {0, 1, 2, 3}:
            taking = {node for part in of_halves for node in parts[part]}
            uses = [use for use in source.uses() if use[0] in taking]
            _replace(uses, editor.add("Gather", source, editor.constant(np.array([2, 3, 0, 1])), axis=1))
    return _differing(editor.nodes, "no channels [0:2] and [2:4] of one flow lead to its coordinates")


def _channels(node: ir.Node) -> list[tuple[int, int]]:
    """Return the first and last channel of each part that a Slice or a Split takes, if it takes channels."""
    tensors = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs[1:]]
    constants = [tensor.numpy().tolist() for tensor in tensors if tensor is not None]
    if is_op(node, "Split") and node.attributes.get_int("axis", 0) == 1 and constants:
        ends = list(accumulate(constants[0], initial=0))
        return list(pairwise(ends))
    if is_op(node, "Slice") and len(constants) >= 3 and constants[2] in ([1], [-3]):
        return [(constants[0][0], constants[1][0])]
    return []


def _weight(editor: _Editor, graph: GraphName | None) -> list[ir.Node]:
    for node in reversed(list(editor.graph)):
        weight = node.inputs[1] if starts_path(node) else None
        tensor = None if weight is None else ir.convenience.get_const_tensor(weight)
        if weight is not None and tensor is not None:
            array = tensor.numpy()
            uses = list(weight.uses())
            _replace(uses, editor.constant((array * np.float32(SCALE)).astype(array.dtype)))
            return [reader for reader, _ in uses]
    raise _NotPossibleError("it has no convolution with constant weights")


def _bgr(editor: _Editor, graph: GraphName | None) -> list[ir.Node]:
    for value in editor.graph.inputs:
        if channels := _channels_of(value):
            uses, order = list(value.uses()), np.array([2, 1, 0, *range(3, channels)])
            _replace(uses, editor.add("Gather", value, editor.constant(order), axis=1))
            return editor.nodes
    raise _NotPossibleError("no input of it is an image of three channels")


def _fixed_timestep(editor: _Editor, graph: GraphName | None) -> list[ir.Node]:
    given = next((value for value in editor.graph.inputs if value.name == "timestep"), None)
    is_timestep = np.ones((), bool)
    if given is None and len(editor.graph.inputs) == 1 and (channels := _channels_of(editor.graph.inputs[0])) > 3:
        [given], is_timestep = editor.graph.inputs, (np.arange(channels) == TIMESTEP_CHANNEL)[:, None, None]
    if given is None or given.dtype is None:
        raise _NotPossibleError("it takes no timestep", applies=False)
    uses, dtype = list(given.uses()), given.dtype.numpy()
    others = editor.add("Mul", given, editor.constant((~is_timestep).astype(dtype)))
    _replace(uses, editor.add("Add", others, editor.constant((is_timestep * FIXED_TIMESTEP).astype(dtype))))
    return editor.nodes


def _channels_of(value: ir.Value) -> int:
    """Return the channels of an input that is an image, or a stack of two and a timestep; else 0."""
    channels = value.shape[1] if value.shape is not None and len(value.shape) == 4 else 0
    return channels if isinstance(channels, int) and channels in (3, *CHANNELS.values()) else 0


def _differing(changed: list[ir.Node], otherwise: str) -> list[ir.Node]:
    """Return the changed nodes; without any, the fault was not made.

    Raises:
        _NotPossibleError: nothing was changed, for the reason `otherwise`.
    """
    if not changed:
        raise _NotPossibleError(otherwise)
    return changed


_FAULTS: Final[dict[str, tuple[str, Callable[[_Editor, GraphName | None], list[ir.Node]]]]] = {
    "nearest": ("samples the nearest pixel", _nearest),
    "zeros-padding": ("gives 0 outside the frame", _zeros_padding),
    "align-corners": ("align_corners flipped", _align_corners),
    "fp16-coordinates": ("computes coordinates in FP16", _half_coordinates),
    "swapped-flows": ("exchanges the two flows", _swapped_flows),
    "weight": (f"the last convolution's weights times {SCALE}", _weight),
    "bgr": ("takes the first image as BGR", _bgr),
    "fixed-timestep": (f"takes every timestep as {FIXED_TIMESTEP}", _fixed_timestep),
}
