"""Feeds and sizes of each file: the first pair at every size and with every flow, the probe, then all pairs and
arrays at their own size.

Steps come one at a time. Files that are fed at the same size share a step, and so the reference's outputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from refine_export.artifacts import Artifact, Sizes
from refine_export.data.feeds import PROBE_SIZE, Feed, feeds_for, flow_kinds_of, probe_for
from refine_export.data.frame_options import FlowKind
from refine_export.data.frame_source import Source, Sources
from refine_export.data.images import FramePair, at_size, padded
from refine_export.data.npz_feeds import feeds_of_arrays
from refine_export.signature import Signature, padded_size
from refine_export.support.text import size_text
from refine_export.validate.comparison import Candidate
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from torch import nn  # optional: annotations alone must not need it

SMALL = (96, 160)
"""Height and width, before padding, at which a batch of two is tried."""

LARGE_PIXELS = 2**20
LARGE_FLOWS: tuple[FlowKind, ...] = ("network", "outside")
"""Flows at larger sizes than that, where the frames are smaller: the two that grow with the frames. The others show
their errors at the frames' own size and on the probe, in a fraction of the time."""

File = tuple[Artifact, Sequence[Candidate]]
_Shared = tuple[Sizes, tuple[Candidate, ...]]
"""A size, and the candidates of all files that are fed at it."""


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """Feeds of one size, and the candidates that get them."""

    label: str
    """Label shown as progress."""
    sizes: Sizes
    """Batch, height and width."""
    feeds: Iterable[Feed]
    candidates: tuple[Candidate, ...]
    own_size: bool = False
    """The frames are at their own size, padded."""
    note: str = ""
    """Sentence on what was left out."""


def plan_steps(
    reference: nn.Module, signature: Signature, files: Sequence[File], sources: Sources, options: ValidateOptions
) -> Iterator[PlanStep]:
    """Yield every step for one graph.

    Args:
        reference: the network, of `reference_network`.
        signature: of all files; of their paddings, the largest is the frames'.
        files: each with the candidates that it was opened as.

    Raises:
        RequestError: `wrong-size`; a size that the user gave does not fit the padding.
    """
    unit = max(artifact.multiple_of for artifact, _ in files)
    own = padded_size(*sources.first.pair.size, unit)
    plan = _Plan(reference, signature, files, sources, options, unit, own)
    has_frames = bool(sources.single_pairs or sources.clips)
    of_first = [*_by_sizes(files, lambda artifact: sizes_for(artifact, own, options))] if has_frames else []
    of_probe = [*_by_closest_sizes(files, PROBE_SIZE)]
    # The limits of graphs that take a flow rest on the probe, so it is fed whatever else is.
    steps = itertools.chain(plan.first_pair(of_first), plan.probe(of_probe))
    # How many pairs a clip has is not known before it is decoded.
    if sources.arrays or len(sources.clips) > 1 or any(clip.is_sequence for clip in sources.clips):
        yield from steps
    else:
        total = len(of_first) + len(of_probe)
        yield from (replace(step, label=f"{step.label} [{k}/{total}]") for k, step in enumerate(steps, 1))
    yield from plan.other_pairs()
    yield from plan.arrays()


@dataclass(frozen=True)
class _Plan:
    """The steps of one graph; the fields are the arguments of `plan_steps`."""

    reference: nn.Module
    signature: Signature
    files: Sequence[File]
    sources: Sources
    options: ValidateOptions
    unit: int
    """The largest of the files' paddings."""
    own: tuple[int, int]
    """Height and width of the first pair, padded."""

    def first_pair(self, shared: Iterable[_Shared]) -> Iterator[PlanStep]:
        """Yield the first pair at each size, with every flow and timestep."""
        graph, options = self.signature.graph, self.options
        # The frames' own size, and those that an engine is for.
        in_full = {
            size for artifact, _ in self.files for size in artifact.profile or [artifact.closest_sizes(self.own)]
        }
        for sizes, candidates in shared:
            batch, *size = sizes
            pair = first_pair_at(self.sources.first, sizes, self.unit)
            kinds, timesteps, note = options.flows, options.timesteps, ""
            if math.prod(size) > LARGE_PIXELS and sizes not in in_full:
                kinds, timesteps, fed = _fewer_feeds(self.signature, options)
                if fed:
                    note = f"{graph} at {size_text(size)}: only {fed}; frames of that size are compared with all."
            yield PlanStep(
                label=f"{graph} at {size_text(size if batch == 1 else sizes)}",
                sizes=sizes,
                feeds=feeds_for(self.reference, self.signature, pair, kinds=kinds, timesteps=timesteps, batch=batch),
                candidates=candidates,
                own_size=pair.size == self.own,
                note=note,
            )

    def probe(self, shared: Iterable[_Shared]) -> Iterator[PlanStep]:
        """Yield the probe at each size."""
        for sizes, candidates in shared:
            for feed in probe_for(self.reference, self.signature, sizes[1:], batch=sizes[0]):
                yield PlanStep(label=feed.name, sizes=sizes, feeds=[feed], candidates=candidates)

    def other_pairs(self) -> Iterator[PlanStep]:
        """Yield the pairs behind the first, with one flow (the network's; the first kind, where the weights have none)
        or one timestep: the first pair shows what depends on those, and a clip has hundreds of pairs.
        """
        kinds = flow_kinds_of(self.reference, self.options.flows)[:1]
        for pair, sequence, index in self.sources.pairs():
            whole = padded(pair, self.unit)
            self.sources.note_padding(pair, whole)
            if sequence is None and pair.sha256 == self.sources.first.pair.sha256:
                continue
            for sizes, candidates in _by_closest_sizes(self.files, whole.size):
                feeds = feeds_for(
                    self.reference,
                    self.signature,
                    whole if sizes[1:] == whole.size else at_size(pair, sizes[1:]),
                    kinds=kinds,
                    timesteps=self.options.timesteps[:1],
                    batch=sizes[0],
                    label=pair.name,
                    sequence=sequence,
                    index=index,
                )
                yield PlanStep(
                    label=f"{self.signature.graph} on {pair.name}",
                    sizes=sizes,
                    feeds=feeds,
                    candidates=candidates,
                    own_size=sizes[1:] == whole.size,
                )

    def arrays(self) -> Iterator[PlanStep]:
        """Yield each array that files accept."""
        for feed, sizes in _feeds_of_arrays(self.sources, replace(self.signature, multiple_of=self.unit)):
            accepting = [one for artifact, candidates in self.files if artifact.accepts(sizes) for one in candidates]
            if accepting:
                yield PlanStep(label=feed.name, sizes=sizes, feeds=[feed], candidates=tuple(accepting))


def _fewer_feeds(signature: Signature, options: ValidateOptions) -> tuple[tuple[FlowKind, ...], tuple[float, ...], str]:
    """Return the flows and timesteps at a large size, and their names where others are left out."""
    kinds = tuple(kind for kind in options.flows if kind in LARGE_FLOWS) or options.flows[:1]
    timesteps = options.timesteps[-1:]  # behind the first, which may be the one that a fault has fixed
    if signature.takes_timestep and timesteps != options.timesteps:
        return kinds, timesteps, f"the timestep {timesteps[0]:g}"
    if "flow" in signature.input_names and kinds != options.flows:
        return kinds, timesteps, f"flows {', '.join(kinds)}"
    return kinds, timesteps, ""


def notes_on_unused_arrays(artifact: Artifact, sources: Sources) -> list[str]:
    """Return a sentence for each array that a file of one size does not accept."""
    return [
        f"{artifact.file} is for {artifact.sizes} and was not fed with {feed.name}."
        for feed, sizes in _feeds_of_arrays(sources, artifact.signature)
        if not artifact.accepts(sizes)
    ]


def sizes_for(artifact: Artifact, own: tuple[int, int], options: ValidateOptions) -> Iterator[Sizes]:
    """Yield each batch, height and width that a file is fed the first pair at; `own` is the frames', which it pads.

    A file of one size gets that size, an engine those of its profile. A file that takes any gets the frames' own and
    the options' sizes, and a small one in a batch of two, because a graph can be right only for one sample.
    """
    if artifact.profile is not None:
        yield from dict.fromkeys(artifact.profile)
        return
    others = options.sizes_at(artifact.multiple_of) if None in artifact.fixed[1:] else []
    yield from dict.fromkeys(map(artifact.closest_sizes, [own, *others]))
    if artifact.fixed[0] is None:
        yield 2, *artifact.closest_sizes(SMALL)[1:]


def first_pair_at(source: Source, sizes: Sizes, multiple_of: int) -> FramePair:
    """Return the first pair at a size: padded where that is its own, so that nothing is cropped away."""
    whole = padded(source.pair, multiple_of)
    return whole if sizes[1:] == whole.size else source.at(sizes[1:])


def _by_sizes(files: Sequence[File], sizes_of: Callable[[Artifact], Iterable[Sizes]]) -> Iterator[_Shared]:
    found: dict[Sizes, list[Candidate]] = {}
    for artifact, candidates in files:
        for sizes in sizes_of(artifact):
            found.setdefault(sizes, []).extend(candidates)
    yield from ((sizes, tuple(candidates)) for sizes, candidates in found.items())


def _by_closest_sizes(files: Sequence[File], size: tuple[int, int]) -> Iterator[_Shared]:
    return _by_sizes(files, lambda artifact: [artifact.closest_sizes(size)])


def _feeds_of_arrays(sources: Sources, signature: Signature) -> Iterator[tuple[Feed, Sizes]]:
    for feed in feeds_of_arrays(sources.arrays, signature):
        yield feed, (next(iter(feed.inputs.values())).shape[0], *feed.size)
