"""Bisection of two graphs: intermediate tensors side by side, and the first node that makes an error of its own.

For each tensor that both graphs have, three versions are computed on each feed: the reference's, the candidate's, and
the result of the reference's nodes on the *candidate's* nearest preceding tensors. Errors are largest differences, in
units of the largest magnitude of the reference's tensor:

- `after`: candidate against reference. `before`: the largest such error of the tensors that it is computed from.
- `own`: candidate against the reference's nodes on the candidate's tensors. Errors of the inputs do not count, and no
  estimate is needed of how much a node amplifies them.

A *jump* is a node whose own error is more than its type explains (`allowed`): a few roundings of FP32, FP16 or BF16 in
units of the peak. Rounding coordinates to FP16 does not explain an error, because they have to be FP32; a sampler may
be off by the rounding of an FP32 position; and runtimes other than the strict one may read an FP16 tensor before it is
rounded. The first jump in topological order is the first wrong node: an attribute that differs is found at its node, a
weight at the node that uses it.

    good, bad = inspectable_model(onnx.load("good.onnx")), inspectable_model(onnx.load("bad.onnx"))
    bisected = bisect(Side(good, "onnxruntime-cpu", "good"), Side(bad, "half", "bad"), feeds)
    print(bisected.first)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from refine_export.accuracy.metrics import largest_error, largest_magnitude
from refine_export.bisect.bisect_result import Bisected, Jump, LayerError
from refine_export.bisect.intermediate_tensors import float_tensors, made_name, with_outputs, with_shapes
from refine_export.bisect.tensor_matching import (
    Match,
    Shapes,
    computed_tensors,
    differences,
    maker,
    match_tensors,
    part_before,
)
from refine_export.data.npz_feeds import NamedFeed
from refine_export.errors import GraphError, RequestError
from refine_export.graph.model_file import bytes_from_model
from refine_export.graph.sampling_coordinates import grids, starts_path, upstream
from refine_export.runners.base import Runner
from refine_export.runners.open_onnx_runner import open_onnx_runner
from refine_export.runners.runtime_names import Runtime
from refine_export.support.progress import Progress, Silent
from refine_export.support.text import counted

CHUNK_BYTES = 2**28
"""Size of the tensors that are compared in one pass; each is in memory three times."""
ROUNDINGS: Final[Mapping[str, float]] = {"float32": 64 * 2**-24, "float16": 8 * 2**-11, "bfloat16": 8 * 2**-8}
"""Own error that a type explains, in units of the peak. Measured on good files of `refine` and of an
interpolator with a timestep: up to 4 roundings of FP32 where a sampler is written out, 1.6 of FP16 and BF16."""
POSITION_ROUNDINGS: Final = 16 * 2**-24
"""Own error that a GridSample explains beside it, for each pixel of the longer side: a position is off by the rounding
of its grid."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Side:
    """One of the two graphs, and the runtime that runs it."""

    model: ir.Model
    """Result of `inspectable_model`; not modified."""
    runtime: Runtime
    name: str

    def open(self, model: ir.Model | None = None) -> Runner:
        """Open the graph, or a part of it, in the runtime."""
        return open_onnx_runner(bytes_from_model(model or self.model), self.runtime)


def bisect(
    reference: Side,
    candidate: Side,
    feeds: Sequence[NamedFeed],
    progress: Progress | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Bisected:
    """Compare the tensors of two graphs of the same inputs and outputs.

    Args:
        reference: its runtime also runs its nodes on the candidate's tensors.
        candidate: compared with it.
        feeds: a name, and an array for each input in any float type, all of the same shapes.
        progress: receives each step.
        chunk_bytes: size of the tensors of one pass; each pass runs the graph up to the last of them.

    Raises:
        GraphError: `other-graph`; the inputs or outputs differ. Or a runtime refuses one of the graphs.
        RequestError: `no-feeds`; `feed-names`, where an input has no array.
        UnavailableError: a runtime is missing.
    """
    progress = progress or Silent()
    check_same_graph(reference, candidate)
    if not feeds:
        raise RequestError("there is no feed to compare on; expected one or more", code="no-feeds")
    with progress.step("match the tensors") as say:
        shapes, theirs = (_shapes(side, feeds[0][1]) for side in (reference, candidate))
        matches = match_tensors(reference.model.graph, candidate.model.graph, shapes, theirs)
        left = [value for value in computed_tensors(reference.model.graph) if value.name not in matches]
        say(f"{len(matches)} matched, {len(left)} not")
    comparison = _Comparison(reference, candidate, matches, shapes, theirs)
    chunks = list(comparison.chunks(chunk_bytes))
    with progress.step(f"compare {counted(len(matches), 'tensor')} on {counted(len(feeds), 'feed')}") as say:
        for number, names in enumerate(chunks, 1):
            progress.within("pass", number, len(chunks))
            comparison.compare(names, feeds)
        layers = tuple(comparison.found[name] for name in matches)
        jumps = tuple(comparison.jump(layer) for layer in layers if layer.own > layer.allowed)
        say(f"{counted(len(jumps), 'jump')}")
    outputs = {value.name for value in reference.model.graph.outputs}
    return Bisected(
        reference=f"{reference.name} in {reference.runtime}",
        candidate=f"{candidate.name} in {candidate.runtime}",
        first=jumps[0] if jumps else None,
        jumps=jumps,
        layers=layers,
        outputs=tuple(layer for layer in layers if layer.tensor in outputs),
        not_compared=len(left),
        feeds=tuple(name for name, _ in feeds),
    )


class _Comparison:
    """The errors so far, tensor by tensor."""

    def __init__(
        self, reference: Side, candidate: Side, matches: Mapping[str, Match], shapes: Shapes, theirs: Shapes
    ) -> None:
        self._reference, self._candidate = reference, candidate
        self._matches, self._shapes = matches, shapes
        ours = self._ours = ir.convenience.create_value_mapping(reference.model.graph)
        values = ir.convenience.create_value_mapping(candidate.model.graph)
        # A tensor of another shape cannot be handed to the reference's nodes; the parts behind it reach over it.
        self._given = {name for name, match in matches.items() if shapes[name] == theirs[match.name]}
        known = {ours[name] for name in self._given}
        their_known = {values[matches[name].name] for name in self._given}
        self._parts = {name: part_before(ours[name], known) for name in matches}
        self._their_parts = {name: part_before(values[match.name], their_known) for name, match in matches.items()}
        self._matched_values = {ours[name]: values[match.name] for name, match in matches.items()}
        self._matched_values |= {value: values[value.name or ""] for value in reference.model.graph.inputs}
        self._coordinates = {
            value
            for grid in grids(reference.model.graph).values()
            for value in upstream(grid)
            if not starts_path(value.producer())
        }
        self.found: dict[str, LayerError] = {}
        self._input_errors: dict[tuple[str, str], float] = {}

    def chunks(self, limit: int) -> Iterator[list[str]]:
        """Yield the names of the reference's tensors that fit into one pass of `limit` bytes, in order."""
        names: list[str] = []
        total = 0
        for name in self._matches:
            size = sum(4 * math.prod(self._shapes[one]) for one in (name, *self._inputs_of(name)))
            if names and total + size > limit:
                yield names
                names, total = [], 0
            names.append(name)
            total += size
        if names:
            yield names

    def _inputs_of(self, name: str) -> list[str]:
        """Return the given tensors that a tensor is computed from."""
        return [value.name or "" for value in self._parts[name].inputs if value.name in self._given]

    def compare(self, names: Sequence[str], feeds: Sequence[NamedFeed]) -> None:
        """Find the errors of these tensors on each feed."""
        shown = {one: self._matches[one].name for name in names for one in (name, *self._inputs_of(name))}
        given = {name: self._shapes[name] for name in self._given}
        made = {name: made_name(name) if name in given else name for name in names}
        # Each part as a model of its own, so that what a pass does not look at is not kept in memory.
        right = with_outputs(self._reference.model, names)
        tested = with_outputs(self._candidate.model, list(dict.fromkeys(shown.values())))
        mixed = with_outputs(self._reference.model, names, given)
        with ExitStack() as stack:
            ours = stack.enter_context(self._reference.open(right))
            theirs = stack.enter_context(self._candidate.open(tested))
            between = stack.enter_context(self._reference.open(mixed))
            for feed, arrays in feeds:
                fed = _fitted(theirs, arrays)
                for name in fed:  # an input that is rounded to FP16 is an error that comes in
                    self._input_errors[feed, name] = largest_error(arrays[name], fed[name])
                expected = ours.run(_fitted(ours, arrays))
                actual = theirs.run(fed)
                known = dict(fed) | {name: actual[match] for name, match in shown.items()}
                computed = between.run(_fitted(between, known))
                for name in names:
                    self._note(name, feed, expected[name], actual[self._matches[name].name], computed[made[name]])

    def _note(self, name: str, feed: str, expected: NDArray[Any], actual: NDArray[Any], computed: NDArray[Any]) -> None:
        """Keep the errors of one tensor on one feed; those of the feed on which its own error is worst stay."""
        value = self._ours[name]
        peak = largest_magnitude(expected)
        after = largest_error(expected, actual, peak)
        own = largest_error(computed, actual, max(peak, largest_magnitude(computed)))
        before = max((self._before(one, feed) for one in self._parts[name].inputs), default=0.0)
        if (earlier := self.found.get(name)) is not None:
            before, after = max(before, earlier.before), max(after, earlier.after)
            if own <= earlier.own:
                self.found[name] = dataclasses.replace(earlier, before=before, after=after)
                return
        node = maker(value)
        self.found[name] = LayerError(
            tensor=name,
            node=(node.name or "") if node else "",
            operator=node.op_type if node else "",
            type=str(actual.dtype),
            shape=tuple(actual.shape),
            matched_by=self._matches[name].by,
            peak=peak,
            before=before,
            after=after,
            own=own,
            allowed=self._allowed(value),
            feed=feed,
        )

    def _before(self, value: ir.Value, feed: str) -> float:
        name = value.name or ""
        return self.found[name].after if name in self.found else self._input_errors.get((feed, name), 0.0)

    def _allowed(self, value: ir.Value) -> float:
        """Return the own error that the candidate's type explains: the lowest between the tensor and those before."""
        name = value.name or ""
        part, theirs = self._parts[name], self._their_parts[name]
        types = set() if value in self._coordinates else part.rounded_to | theirs.rounded_to
        if self._candidate.runtime != "half":  # others may read what was not rounded yet
            types |= theirs.read_as
        allowed = max(ROUNDINGS.get(dtype, 0.0) for dtype in ("float32", *types))
        samples = any(node.op_type == "GridSample" for node in part.nodes)
        return allowed + (POSITION_ROUNDINGS * max(self._shapes[name]) if samples else 0.0)

    def jump(self, layer: LayerError) -> Jump:
        """Add the candidate's nodes to a layer, with their differences from the reference."""
        value, theirs = self._ours[layer.tensor], self._their_parts[layer.tensor]
        reasons = differences(
            self._parts[layer.tensor],
            theirs,
            self._matched_values,
            coordinates=value in self._coordinates,
            tolerance=ROUNDINGS.get(layer.type, 0.0),
        )
        if layer.tensor not in self._given:
            reasons = (f"it is {list(layer.shape)} in place of {list(self._shapes[layer.tensor])}", *reasons)
        return Jump(layer=layer, candidate=tuple(node.name or "" for node in theirs.nodes), reasons=reasons)


def check_same_graph(reference: Side, candidate: Side) -> None:
    """Refuse graphs of other inputs or outputs.

    Raises:
        GraphError: `other-graph`.
    """
    for what in ("inputs", "outputs"):
        ours, theirs = (
            sorted(value.name or "" for value in getattr(side.model.graph, what)) for side in (reference, candidate)
        )
        if ours != theirs:
            raise GraphError(
                f"{candidate.name} has the {what} {', '.join(theirs)}; expected those of {reference.name}, "
                f"{', '.join(ours)}: give files of the same graph",
                code="other-graph",
                given=theirs,
                expected=ours,
            )


def _shapes(side: Side, arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """Run the graph for the shape of every float tensor that a node puts out."""
    names = [value.name or "" for value in float_tensors(side.model.graph)]
    with side.open(with_shapes(side.model, names)) as runner:
        shapes = runner.run(_fitted(runner, arrays)).values()
    return {name: tuple(map(int, shape)) for name, shape in zip(names, shapes, strict=True)}


def _fitted(runner: Runner, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return the arrays that a runner reads, in its types.

    Raises:
        RequestError: `feed-names`; the arrays are of another graph.
    """
    missing = [info.name for info in runner.inputs if info.name not in arrays]
    if missing:
        message = f"the feed has no array {', '.join(missing)}; it has {', '.join(arrays)}"
        raise RequestError(message, code="feed-names", missing=missing)
    with np.errstate(over="ignore"):  # what becomes infinite is an error that shows
        return {info.name: arrays[info.name].astype(info.dtype, copy=False) for info in runner.inputs}
