"""Matching of the tensors of two graphs, and the differences of the nodes between them."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnx.defs
import onnx.helper
import onnx_ir as ir

from refine_export.bisect.intermediate_tensors import FLOATS, constant, float_tensors
from refine_export.graph.model_file import ONNX_DOMAINS
from refine_export.graph.operator_types import HALF, is_op, opset_of
from refine_export.support.text import listed

Shapes = Mapping[str, tuple[int, ...]]

LISTED: Final = 4
"""Upper bound of the differences that are listed for one node."""
_FLOATS: Final = {dtype: str(dtype.numpy()) for dtype in FLOATS}
_SAME_MODES: Final = {"linear": "bilinear", "cubic": "bicubic"}
"""Mode of GridSample from opset 20 on -> its name before."""


@dataclass(frozen=True)
class Match:
    """The tensor of the candidate that corresponds to one of the reference."""

    name: str
    by: Literal["name", "place"]


@dataclass(frozen=True)
class Part:
    """Nodes between a tensor and the nearest tensors before it that are known in both graphs."""

    inputs: tuple[ir.Value, ...]
    """These known tensors, and inputs of the graph."""
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

    @property
    def computing(self) -> list[ir.Node]:
        """Its nodes without Casts and Identities."""
        return [node for node in self.nodes if not _passes(node)]


def _types(values: Iterable[ir.Value | None]) -> set[str]:
    return {_FLOATS[value.dtype] for value in values if value is not None and value.dtype in _FLOATS}


def match_tensors(
    reference: ir.Graph, candidate: ir.Graph, shapes: Shapes, candidate_shapes: Shapes
) -> dict[str, Match]:
    """Map the names of the reference's float tensors, in topological order, to those of the candidate.

    Tensors match by name where the graphs share at least half of the names of the smaller one: lowering and most
    converters keep names. Otherwise they match by place: in the longest common sequences of equal operators with equal
    shapes in topological order, without Cast and Identity. The graph's outputs always match by name.
    """
    ours, theirs = float_tensors(reference), float_tensors(candidate)
    names = {value.name for value in theirs}
    same = [value.name or "" for value in ours if value.name in names]
    if 2 * len(same) >= min(len(ours), len(theirs)):
        return {name: Match(name, "name") for name in same}
    outputs = {value.name for value in reference.outputs}
    found = {name: Match(name, "name") for name in same if name in outputs}
    one, other = computed_tensors(reference), computed_tensors(candidate)
    matcher = difflib.SequenceMatcher(None, _kinds(one, shapes), _kinds(other, candidate_shapes), autojunk=False)
    for start, match, length in matcher.get_matching_blocks():
        for value, its_match in zip(one[start : start + length], other[match : match + length], strict=True):
            found.setdefault(value.name or "", Match(its_match.name or "", "place"))
    return {value.name or "": found[value.name or ""] for value in ours if value.name in found}


def computed_tensors(graph: ir.Graph) -> list[ir.Value]:
    """Return the float tensors of a graph that are not outputs of a Cast or Identity, in topological order."""
    return [value for value in float_tensors(graph) if not _passes(value.producer())]


def _kinds(values: list[ir.Value], shapes: Shapes) -> list[tuple[str, tuple[int, ...]]]:
    return [(node.op_type, shapes[value.name or ""]) for value in values if (node := value.producer()) is not None]


def _passes(node: ir.Node | None) -> bool:
    return is_op(node, "Cast", "Identity")


def maker(value: ir.Value) -> ir.Node | None:
    """Return the node that computes a tensor: the one before Casts and Identities, if there is one."""
    source = _before_casts(value)
    return (source and source.producer()) or value.producer()


def part_before(value: ir.Value, known: set[ir.Value]) -> Part:
    """Return the part that computes `value`, from tensors of `known`, inputs of the graph and constants."""
    inputs: dict[ir.Value, None] = {}
    nodes: dict[ir.Node, None] = {}
    waiting = deque([value.producer()])
    while waiting:
        node = waiting.popleft()  # breadth first: the nodes nearest to the tensor come first
        if node is None or node in nodes:
            continue
        nodes[node] = None
        bodies = [one.as_graph() for one in node.attributes.values() if one.type == ir.AttributeType.GRAPH]
        inner = [inner for body in bodies for inner in body.all_nodes()]  # a body reads tensors around it
        for given in (given for reader in (node, *inner) for given in reader.inputs if given is not None):
            if given in known or given.is_graph_input():
                inputs[given] = None
            else:
                waiting.append(given.producer())
    return Part(tuple(inputs), tuple(nodes))


def differences(
    part: Part, other: Part, matches: Mapping[ir.Value, ir.Value], *, coordinates: bool, tolerance: float
) -> tuple[str, ...]:
    """Describe the differences of two parts that should compute the same.

    Args:
        part: the part of the reference.
        other: the part of the candidate.
        matches: tensor of the reference -> its match, inputs of the graph included.
        coordinates: they compute sampling coordinates, which FP16 cannot hold.
        tolerance: largest difference of constants, in units of their peak, that their type explains.
    """
    ours, theirs = part.computing, other.computing
    found = list(_between_nodes(ours[0], theirs[0], matches, tolerance)) if ours and theirs else []
    if coordinates:
        made = (value for node in other.nodes for value in node.outputs)
        low = [value for value in made if value.dtype in HALF]
        found += [f"{value.name} is {value.dtype}, but is of sampling coordinates" for value in low[:1]]
    if len(ours) != len(theirs):
        nodes = listed((f"{node.op_type} {node.name}" for node in theirs), LISTED)
        found.append(f"it is computed by {len(theirs)} nodes in place of {len(ours)}: {nodes}")
    more = len(found) - LISTED
    return (*found[:LISTED], *([f"and {more} more"] if more > 0 else []))


def _between_nodes(
    ours: ir.Node, theirs: ir.Node, matches: Mapping[ir.Value, ir.Value], tolerance: float
) -> Iterator[str]:
    """Describe the differences of the two nodes that compute the tensors."""
    if (ours.domain, ours.op_type) != (theirs.domain, theirs.op_type):
        yield f"made by {theirs.op_type} in place of {ours.op_type}"
        return
    one, two = _attributes(ours), _attributes(theirs)
    for name in sorted(one.keys() | two.keys()):
        if one.get(name) != two.get(name):
            yield f"attribute {name} is {two.get(name)} in place of {one.get(name)}"
    for index, (value, given) in enumerate(zip(ours.inputs, theirs.inputs, strict=False)):
        if value is None or given is None:
            continue
        content, actual = constant(value), constant(_before_casts(given))
        if content is not None and actual is not None:
            yield from _between_constants(value.name or "", content, actual, tolerance)
        elif value in matches and _before_casts(given) is not _before_casts(matches[value]):
            yield f"input {index} is {given.name} in place of {matches[value].name}"


def _before_casts(value: ir.Value | None) -> ir.Value | None:
    while value is not None and (node := value.producer()) is not None and _passes(node):
        value = node.inputs[0]
    return value


def _attributes(node: ir.Node) -> dict[str, object]:
    """Return the numbers and strings of a node, with ONNX's defaults, which some exporters write and others omit."""
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
        text = value.decode() if isinstance(value, bytes) else value
        known[name] = _SAME_MODES.get(text, text) if isinstance(text, str) and node.op_type == "GridSample" else text
    return known


def _between_constants(name: str, content: np.ndarray, actual: np.ndarray, tolerance: float) -> Iterator[str]:
    if content.shape != actual.shape:
        yield f"constant {name} is {list(actual.shape)} in place of {list(content.shape)}"
        return
    if not content.size or content.dtype.kind not in "fiu":
        return
    peak = float(np.abs(content.astype(np.float64)).max()) or 1.0
    distance = float(np.abs(actual.astype(np.float64) - content.astype(np.float64)).max()) / peak
    if not distance <= tolerance:
        yield f"constant {name} differs by up to {distance:.2g} of its largest magnitude"
