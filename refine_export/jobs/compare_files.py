"""Run every comparison of a job: each file, in each of its runtimes, on each of its feeds, against the reference."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from refine_export.accuracy.flicker import ErrorMemory
from refine_export.artifacts import Artifact
from refine_export.data.feeds import Feed, flow_kinds_of
from refine_export.errors import RequestError
from refine_export.jobs.load_inputs import JobInputs
from refine_export.report.picture_selection import PictureSelection
from refine_export.report.pictures import FramePictures, Pictures
from refine_export.report.report_data import Comparison, MeasuredLatency
from refine_export.runners.base import Runner
from refine_export.runners.latency import latency_from_seconds, measure_in_turn, ratio_in_turn
from refine_export.signature import GraphName
from refine_export.support.text import size_text
from refine_export.validate.comparison import Candidate, Compared, compare_candidates
from refine_export.validate.feed_plan import PlanStep, notes_on_unused_arrays, plan_steps
from refine_export.validate.reference import Reference
from refine_export.validate.runtimes import candidates_for


@dataclass(frozen=True, kw_only=True)
class ComparedFiles:
    """The comparisons of a job, and the pictures that its report shows."""

    comparisons: tuple[Comparison, ...]
    pictures: dict[str, Pictures]
    """Key of the comparison -> its pictures."""
    frames: FramePictures
    reference: str
    notes: tuple[str, ...]
    latencies: tuple[MeasuredLatency, ...]


def compare_files(files: Sequence[tuple[Path, Artifact]], inputs: JobInputs) -> ComparedFiles:
    """Compare every file with the reference, on each of its feeds and in each runtime.

    A file is loaded once per runtime; files of one graph share the feeds and the reference's outputs. Frames stream:
    only the numbers of each run are kept, and pictures of the worst.
    """
    gc.collect()  # what an export traced refers to itself: for both graphs of RIFE 4.0 it is 110 MiB
    job = _Comparing(inputs)
    for graph, scale in dict.fromkeys((artifact.graph, artifact.scale) for _, artifact in files):
        job.compare_graph(graph, scale, [one for one in files if (one[1].graph, one[1].scale) == (graph, scale)])
    frames, picture_notes = job.selection.frames(inputs.sources.first.pair)
    return ComparedFiles(
        comparisons=tuple(job.comparisons),
        pictures=job.selection.pictures,
        frames=frames,
        reference=job.reference,
        notes=(*inputs.sources.notes, *dict.fromkeys(job.notes), *picture_notes),
        latencies=tuple(job.latencies),
    )


class _Comparing:
    """The comparisons of a job so far."""

    def __init__(self, inputs: JobInputs) -> None:
        self._inputs = inputs
        self.selection = PictureSelection(inputs.sources.first.pair.size)
        self.comparisons: list[Comparison] = []
        self.notes: list[str] = []
        self.latencies: list[MeasuredLatency] = []
        self.reference = ""

    def compare_graph(self, graph: GraphName, scale: float, files: Sequence[tuple[Path, Artifact]]) -> None:
        """Compare the files of one graph and scale, and time them where that is asked for, on the first feed."""
        sources, options, progress = self._inputs.sources, self._inputs.recipe.validate, self._inputs.progress
        network = self._inputs.network(scale)
        with Reference(network, graph, dtype=options.reference) as reference, ExitStack() as stack:
            self.reference = f"{reference.backend} {reference.version}, {options.reference}, {reference.device}"
            opened = [
                (artifact, stack.enter_context(candidates_for(path, artifact, options))) for path, artifact in files
            ]
            for artifact, _ in opened:
                self.notes += notes_on_unused_arrays(artifact, sources)
            memory = ErrorMemory()  # of one sequence of frames, over all steps
            timed = not options.latency
            for step in plan_steps(network, reference.signature, opened, sources, options):
                feed = self._compare_step(step, reference, memory, keep_feed=not timed)
                self.notes += filter(None, [step.note])
                if feed is not None:
                    timed = True
                    with progress.step(f"measure the latency at {size_text(step.sizes)}"):
                        self.latencies += _latencies(step, feed, reference, options.latency)
        if "network" in options.flows and "network" not in flow_kinds_of(network, options.flows):
            self.notes.append("Flows of the kind `network` were not compared: these weights are only a refinement.")

    def _compare_step(
        self, step: PlanStep, reference: Reference, memory: ErrorMemory, *, keep_feed: bool
    ) -> Feed | None:
        """Compare the files of a step on each of its feeds; return the last feed, if it is to be kept."""
        signature, feed = reference.signature, None
        with self._inputs.progress.step(f"compare {step.label}") as say:
            before = len(self.comparisons)
            for compared in compare_candidates(signature, reference, step.candidates, step.feeds, memory):
                comparison = _comparison(len(self.comparisons) + 1, signature.graph, step, compared)
                self.comparisons.append(comparison)
                self.selection.add(comparison, compared, own=step.own_size)
                feed = compared.feed if keep_feed else None
                del compared  # before the next feed is made
            say(_outcome(self.comparisons[before:]))
        return feed


def _comparison(number: int, graph: GraphName, step: PlanStep, compared: Compared) -> Comparison:
    candidate, verdict, runner = compared.candidate, compared.verdict, compared.candidate.runner
    provider = f"{runner.provider.replace('ExecutionProvider', '', 1)} {runner.version}" if runner else "not loaded"
    return Comparison(
        key=f"{number}. {candidate.file}: {verdict.feed}, {verdict.runtime}",
        graph=graph,
        file=candidate.file,
        size=step.sizes[1:],
        batch=step.sizes[0],
        provider=provider,
        largest_flow_px=compared.feed.largest_flow_px,
        verdict=verdict,
        sequence=compared.feed.sequence,
        index=compared.feed.index,
    )


def _latencies(step: PlanStep, feed: Feed, reference: Runner, rounds: int) -> Iterator[MeasuredLatency]:
    """Time the candidates of a step in turn with the reference; those that cannot be run have no latency."""
    calls: dict[Candidate | None, Callable[[], object]] = {None: functools.partial(reference.run, feed.inputs)}
    for one in step.candidates:
        if one.runner is not None:
            typed = {info.name: feed.inputs[info.name].astype(info.dtype, copy=False) for info in one.runner.inputs}
            calls[one] = functools.partial(one.runner.run, typed)
    try:
        seconds = measure_in_turn(calls, rounds)
    except RequestError:  # a file that fails in a run has failed its comparison too
        return
    own = seconds[None]
    for candidate, times in seconds.items():
        if candidate is None:
            continue
        ratio, error = ratio_in_turn(times, own)
        yield MeasuredLatency(
            file=candidate.file,
            runtime=candidate.runtime,
            batch=step.sizes[0],
            size=step.sizes[1:],
            runs=rounds,
            median_ms=latency_from_seconds(times).median_ms,
            reference_ms=latency_from_seconds(own).median_ms,
            ratio=ratio,
            ratio_error=error,
        )


def _outcome(comparisons: Sequence[Comparison]) -> str:
    """Return how many passed, and the largest error of each file."""
    counts: dict[str, int] = {}
    worst: dict[str, float] = {}
    for comparison in comparisons:
        counts[comparison.verdict.status] = counts.get(comparison.verdict.status, 0) + 1
        for output in comparison.verdict.outputs:
            worst[comparison.file] = max(worst.get(comparison.file, 0.0), output.metrics.max_of_peak)
    counted = ", ".join(f"{count} {status}" for status, count in counts.items())
    errors = ", ".join(f"{file} {error:.2g}" for file, error in worst.items() if error)
    return f"{counted}; largest error: {errors}" if errors else counted
