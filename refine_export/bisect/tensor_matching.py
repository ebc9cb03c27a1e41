"""Which tensor of one graph is which of another, and what is written differently between them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx.defs
import onnx.helper
import onnx_ir as ir

from refine_export.bisect.intermediate_tensors import FLOATS, constant, float_tensors
from refine_export.graph.operator_types import ONNX_DOMAINS, is_op, opset_of
from refine_export.support.text import listed

Shapes = Mapping[str, tuple[int, ...]]

LISTED = 4  # differences that are told of one place
_FLOATS = {dtype: str(dtype.numpy()) for dtype in FLOATS}
_SAME_WORDS = {"linear": "bilinear", "cubic": "bicubic"}  # modes of GridSample before opset 20 and from there on


@dataclass(frozen=True)
class Counterpart:
    """The tensor of the candidate that is one of the reference."""

    name: str
    by: Literal["name", "place"]


@dataclass(frozen=True)
class Part:
    """What lies between a tensor and the nearest tensors before it that have a counterpart."""

    inputs: tuple[ir.Value, ...]
    """Those tensors, and inputs of the graph."""
    nodes: tuple[ir.Node, ...]
    """Nearest first."""

    @property
    def rounded_to(self) -> set[str]:
        """Float types of the tensors and constants in it, such as `float16`."""
        constants = (value for node in self.nodes for value in node.inputs if constant(value) is not None)
        return _types([*constants, *(value for node in self.nodes for value in node.outputs)])

    @property
    def read_as(self) -> set[str]:
        """Float types of its inputs."""
        return _types(self.inputs)


def _types(values: Iterable[ir.Value | None]) -> set[str]:
    return {_FLOATS[value.dtype] for value in values if value is not None and value.dtype in _FLOATS}


def counterparts(
    reference: ir.Graph, candidate: ir.Graph, shapes: Shapes, candidate_shapes: Shapes
) -> dict[str, Counterpart]:
    """The float tensors of the reference that the candidate has too.

    By name, where the candidate has at least half of the names of the smaller graph: lowering and most converters
    keep them. Else by place: the longest runs of equal operators with equal shapes in topological order, Cast and
    Identity left out. The graph's outputs always have their names.

    Args:
        reference: `taps.tappable`.
        candidate: likewise.
        shapes: of the reference's tensors in a run.
        candidate_shapes: of the candidate's.
    """
    ours, theirs = float_tensors(reference), float_tensors(candidate)
    names = {value.name for value in theirs}
    same = [value.name or "" for value in ours if value.name in names]
    outputs = {value.name for value in reference.outputs}
    if 2 * len(same) >= min(len(ours), len(theirs)):
        return {name: Counterpart(name, "name") for name in same}
    found = {name: Counterpart(name, "name") for name in same if name in outputs}
    one, other = computed_tensors(reference), computed_tensors(candidate)
    matcher = difflib.SequenceMatcher(None, _kinds(one, shapes), _kinds(other, candidate_shapes), autojunk=False)
    for start, match, length in matcher.get_matching_blocks():
        for value, twin in zip(one[start : start + length], other[match : match + length], strict=True):
            found.setdefault(value.name or "", Counterpart(twin.name or "", "place"))
    return {value.name or "": found[value.name or ""] for value in ours if value.name in found}


def computed_tensors(graph: ir.Graph) -> list[ir.Value]:
    """The float tensors of a graph that no Cast or Identity puts out, in topological order."""
    return [value for value in float_tensors(graph) if not _passes(value.producer())]


def _kinds(values: list[ir.Value], shapes: Shapes) -> list[tuple[str, tuple[int, ...]]]:
    return [(node.op_type, shapes[value.name or ""]) for value in values if (node := value.producer()) is not None]


def _passes(node: ir.Node | None) -> bool:
    return is_op(node, "Cast", "Identity")


def maker(value: ir.Value) -> ir.Node | None:
    """The node that computes a tensor: the one before Casts and Identities."""
    node = value.producer()
    while node is not None and _passes(node) and node.inputs[0] is not None and node.inputs[0].producer() is not None:
        node = node.inputs[0].producer()
    return node


def part_before(value: ir.Value, known: set[ir.Value]) -> Part:
    """The part that computes `value`, from tensors of `known`, inputs of the graph and constants."""
    inputs: dict[ir.Value, None] = {}
    nodes: dict[ir.Node, None] = {}
    waiting = [value.producer()]
    while waiting:
        node = waiting.pop(0)
        if node is None or node in nodes:
            continue
        nodes[node] = None
        for given in _read(node):
            if given in known or given.is_graph_input():
                inputs[given] = None
            else:
                waiting.append(given.producer())
    return Part(tuple(inputs), tuple(nodes))


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node and the bodies in it read."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph().all_nodes():
                yield from (value for value in inner.inputs if value is not None)


def differences(
    part: Part, other: Part, twins: Mapping[ir.Value, ir.Value], *, coordinates: bool, tolerance: float
) -> tuple[str, ...]:
    """What is written differently in two parts that should compute the same, in words.

    Args:
        part: of the reference.
        other: of the candidate.
        twins: tensor of the reference -> its counterpart, inputs of the graph included.
        coordinates: they compute sampling coordinates, which no FP16 can hold.
        tolerance: largest difference of constants, of their peak, that their type explains.
    """
    said = list(_of_node(part, other, twins, tolerance))
    if coordinates:
        low = [value for node in other.nodes for value in node.outputs if _is_low(value)]
        said += [f"{value.name} is {value.dtype}, but is of sampling coordinates" for value in low[:1]]
    ours, theirs = ([node for node in one.nodes if not _passes(node)] for one in (part, other))
    if len(ours) != len(theirs):
        said.append(f"it is computed by {len(theirs)} nodes in place of {len(ours)}: {_nodes(theirs)}")
    more = len(said) - LISTED
    return (*said[:LISTED], *([f"and {more} more"] if more > 0 else []))


def _nodes(nodes: list[ir.Node]) -> str:
    return listed((f"{node.op_type} {node.name}" for node in nodes), LISTED)


def _is_low(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _of_node(part: Part, other: Part, twins: Mapping[ir.Value, ir.Value], tolerance: float) -> Iterator[str]:
    """Differences of the two nodes that make the tensors."""
    ours = next((node for node in part.nodes if not _passes(node)), None)
    theirs = next((node for node in other.nodes if not _passes(node)), None)
    if ours is None or theirs is None:
        return
    if (ours.domain, ours.op_type) != (theirs.domain, theirs.op_type):
        yield f"made by {theirs.op_type} in place of {ours.op_type}"
        return
    one, two = _attributes(ours), _attributes(theirs)
    for name in sorted(one.keys() | two.keys()):
        if one.get(name) != two.get(name):
            yield f"attribute {name} is {two.get(name)} in place of {one.get(name)}"
    for index, (value, twin) in enumerate(zip(ours.inputs, theirs.inputs, strict=False)):
        content, actual = constant(value), constant(_behind_casts(twin))
        if value is None or twin is None:
            continue
        if content is not None and actual is not None:
            yield from _of_constants(value.name or "", content, actual, tolerance)
        elif value in twins and _behind_casts(twin) is not _behind_casts(twins[value]):
            yield f"input {index} is {twin.name} in place of {twins[value].name}"


def _behind_casts(value: ir.Value | None) -> ir.Value | None:
    while value is not None and (node := value.producer()) is not None and _passes(node):
        value = node.inputs[0]
    return value


def _attributes(node: ir.Node) -> dict[str, object]:
    """Numbers and words of a node, with ONNX's defaults where it says nothing."""
    known: dict[str, object] = {}
    if node.domain in ONNX_DOMAINS and node.graph is not None:
        try:
            schema = onnx.defs.get_schema(node.op_type, opset_of(node.graph) or 18, "")
        except onnx.defs.SchemaError:
            schema = None
        for name, stated in schema.attributes.items() if schema else ():
            if stated.default_value.type:
                known[name] = onnx.helper.get_attribute_value(stated.default_value)
    plain = (ir.AttributeType.FLOAT, ir.AttributeType.INT, ir.AttributeType.STRING)
    for name, attribute in node.attributes.items():
        if attribute.type in (*plain, ir.AttributeType.FLOATS, ir.AttributeType.INTS):
            known[name] = attribute.value if attribute.type in plain else tuple(attribute.value)
    for name, value in known.items():
        word = value.decode() if isinstance(value, bytes) else value
        known[name] = _SAME_WORDS.get(word, word) if isinstance(word, str) and node.op_type == "GridSample" else word
    return known


def _of_constants(name: str, content: np.ndarray, actual: np.ndarray, tolerance: float) -> Iterator[str]:
    if content.shape != actual.shape:
        yield f"constant {name} is {list(actual.shape)} in place of {list(content.shape)}"
        return
    if not content.size or content.dtype.kind not in "fiu":
        return
    peak = float(np.abs(content.astype(np.float64)).max()) or 1.0
    distance = float(np.abs(actual.astype(np.float64) - content.astype(np.float64)).max()) / peak
    if not distance <= tolerance:
        yield f"constant {name} differs by up to {distance:.2g} of its largest magnitude"
