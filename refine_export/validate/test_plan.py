"""What each file is fed with: the first pair at every size and with every flow, then all pairs and arrays at their own.

Settings come one at a time; files that take the same frames share them, and so the reference's outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refine_export.artifacts import Artifact
from refine_export.data.feeds import PROBE_SIZE, Feed, feeds_for, flow_kinds_of, probe_for
from refine_export.data.frame_options import FlowKind
from refine_export.data.frame_source import Source, Sources
from refine_export.data.images import FramePair, at_size, padded, padded_size
from refine_export.data.npz_feeds import feeds_of_arrays
from refine_export.signature import GraphName
from refine_export.support.text import size_text
from refine_export.validate.comparison import Candidate
from refine_export.validate.runtimes import nearest, pairs_for, takes
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from torch import nn

    File = tuple[Artifact, Sequence[Candidate]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Feeds, and who gets them."""

    label: str
    """For the progress."""
    size: tuple[int, int]
    """Height and width."""
    batch: int
    own: bool
    """The frames are at their own size, padded."""
    feeds: Iterator[Feed]
    candidates: tuple[Candidate, ...]


def settings_for(
    reference: nn.Module, graph: GraphName, files: Sequence[File], sources: Sources, options: ValidateOptions
) -> Iterator[Setting]:
    """Every setting of one graph.

    Of the pairs behind the first, the refinement gets the flow of the network (or the first kind, where the weights
    have none), and interpolator_m the first timestep: time goes by once, not once for each kind.

    Args:
        reference: what `network.reference_network` returns.
        graph: of all files.
        files: each with its runtimes.
        sources: of frames and arrays.
        options: kinds of flows, timesteps, sizes.
    """
    if sources.alone or sources.clips:
        yield from _first(reference, graph, files, sources, options)
    yield from _probe(reference, graph, files)
    kinds = flow_kinds_of(reference, options.flows)[:1]
    for pair, sequence, index in sources.pairs():
        if sequence is None and pair.sha256 == sources.first.pair.sha256:
            continue
        yield from _next(reference, graph, files, pair, sequence, index, kinds, options.timesteps[:1])
    for feed in feeds_of_arrays(sources.arrays, graph):
        batch = next(iter(feed.inputs.values())).shape[0]
        takers = [
            candidate for artifact, of_file in files if takes(artifact, batch, feed.size) for candidate in of_file
        ]
        if takers:
            yield Setting(
                label=feed.name,
                size=feed.size,
                batch=batch,
                own=False,
                feeds=iter([feed]),
                candidates=tuple(takers),
            )


def _first(
    reference: nn.Module, graph: GraphName, files: Sequence[File], sources: Sources, options: ValidateOptions
) -> Iterator[Setting]:
    found: dict[tuple[tuple[int, int], int], tuple[FramePair, list[Candidate]]] = {}
    for artifact, candidates in files:
        for fed, batch in pairs_for(artifact, sources.first, options):
            found.setdefault((fed.size, batch), (fed, []))[1].extend(candidates)
    for (size, batch), (fed, candidates) in found.items():
        yield Setting(
            label=f"{graph} at {size_text(size if batch == 1 else (batch, *size))}",
            size=size,
            batch=batch,
            own=size == padded_size(*sources.first.pair.size),
            feeds=feeds_for(reference, graph, fed, kinds=options.flows, timesteps=options.timesteps, batch=batch),
            candidates=tuple(candidates),
        )


def _probe(reference: nn.Module, graph: GraphName, files: Sequence[File]) -> Iterator[Setting]:
    """Whatever else is fed: the limits of graphs that take a flow rest on it."""
    found: dict[tuple[tuple[int, int], int], list[Candidate]] = {}
    for artifact, candidates in files:
        found.setdefault(nearest(artifact, PROBE_SIZE), []).extend(candidates)
    for (size, batch), takers in found.items():
        for feed in probe_for(reference, graph, size, batch=batch):
            yield Setting(
                label=feed.name,
                size=size,
                batch=batch,
                own=False,
                feeds=iter([feed]),
                candidates=tuple(takers),
            )


def self_test_feeds(
    reference: nn.Module, artifact: Artifact, source: Source, options: ValidateOptions
) -> Iterator[Feed]:
    """What a file is fed with first, at one size, and the probe: enough to see every known fault."""
    pair, batch = next(pairs_for(artifact, source, options))
    graph = artifact.graph
    yield from feeds_for(reference, graph, pair, kinds=options.flows, timesteps=options.timesteps, batch=batch)
    size, batch = nearest(artifact, PROBE_SIZE)
    yield from probe_for(reference, graph, size, batch=batch)


def _next(
    reference: nn.Module,
    graph: GraphName,
    files: Sequence[File],
    pair: FramePair,
    sequence: str | None,
    index: int,
    kinds: Sequence[FlowKind],
    timesteps: Sequence[float],
) -> Iterator[Setting]:
    own = padded(pair)
    found: dict[tuple[tuple[int, int], int], list[Candidate]] = {}
    for artifact, candidates in files:
        found.setdefault(nearest(artifact, own.size), []).extend(candidates)
    for (size, batch), takers in found.items():
        fed = own if size == own.size else at_size(pair, size)
        yield Setting(
            label=f"{graph} on {pair.name}",
            size=size,
            batch=batch,
            own=size == own.size,
            feeds=feeds_for(
                reference,
                graph,
                fed,
                kinds=kinds,
                timesteps=timesteps,
                batch=batch,
                label=pair.name,
                sequence=sequence,
                index=index,
            ),
            candidates=tuple(takers),
        )


def not_fed(artifact: Artifact, sources: Sources, graph: GraphName) -> list[str]:
    """The arrays that a file of one size can't take."""
    return [
        f"{artifact.file} is for {artifact.sizes} and was not fed with {feed.name}."
        for feed in feeds_of_arrays(sources.arrays, graph)
        if not takes(artifact, next(iter(feed.inputs.values())).shape[0], feed.size)
    ]
