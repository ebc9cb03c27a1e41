"""Proof that a gate can fail: a good file passes its limits, and each known-bad file made of it does not.

    tested = self_test(Path("refine.onnx"), artifact, reference, feeds, options=options)
    print(tested.status, tested.problems)

The reference runs once for each feed, and its outputs are kept for all files. A known-bad file is fed until its verdict
is certain, so it is measured on the feeds down to the one that showed the fault, unless every feed is asked for.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refine_export.accuracy.effective_limits import margins
from refine_export.accuracy.flicker import ErrorMemory
from refine_export.accuracy.limits import Limits
from refine_export.artifacts import Artifact, model_source
from refine_export.data.feeds import PROBE_SIZE, Feed, feeds_for, probe_for
from refine_export.data.frame_source import Source
from refine_export.errors import RequestError
from refine_export.graph.model_file import load_model
from refine_export.runners.open_onnx_runner import default_runtime, open_onnx_runner
from refine_export.runners.pair_runner import pair_runner
from refine_export.runners.runtime_names import Runtime
from refine_export.self_test.mutants import Mutant, attempts_of
from refine_export.self_test.self_test_result import Outcome, SelfTest, Trial
from refine_export.support.progress import Progress, Silent
from refine_export.validate.comparison import (
    Candidate,
    Compared,
    Outputs,
    Status,
    compare_candidate,
    group_status,
    reference_outputs,
)
from refine_export.validate.feed_plan import first_pair_at, sizes_for
from refine_export.validate.reference import Reference
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from torch import nn  # optional: annotations alone must not need it


def self_test_feeds(
    reference: nn.Module, artifact: Artifact, source: Source, options: ValidateOptions
) -> Iterator[Feed]:
    """Yield the feeds of the first size of the validation, and the probe: enough to see every known fault."""
    sizes = next(sizes_for(artifact, source.pair.size, options))
    pair = first_pair_at(source, sizes, artifact.multiple_of)
    kinds, timesteps = options.flows, options.timesteps
    yield from feeds_for(reference, artifact.signature, pair, kinds=kinds, timesteps=timesteps, batch=sizes[0])
    batch, *size = artifact.closest_sizes(PROBE_SIZE)
    yield from probe_for(reference, artifact.signature, (size[0], size[1]), batch=batch)


def self_test(
    path: Path,
    artifact: Artifact,
    reference: nn.Module,
    feeds: Iterable[Feed],
    *,
    options: ValidateOptions,
    progress: Progress | None = None,
    faults: Collection[str] | None = None,
    every_feed: bool = False,
) -> SelfTest:
    """Compare a good file and each known-bad one made of it with the reference.

    Args:
        path: path of the ONNX file.
        artifact: what it is.
        reference: the network of `reference_network`, with the weights that the file was made from.
        feeds: kept in memory with the reference's outputs. Several timesteps show one that is fixed, flows that leave
            the frame show its border.
        options: limits, how many feeds may fail, and the type of the reference's arithmetic.
        progress: receives each step.
        faults: names of those to try; all by default.
        every_feed: run them on every feed, which finds the one that shows each best.

    Raises:
        RequestError: `not-onnx`; an engine. `model-too-large`; a model above 2 GiB. `no-feeds`.
        GraphError: the file has changed since `artifact` was read.
        UnavailableError: the runtime is missing.
    """
    started = time.perf_counter()
    if artifact.engine is not None:
        problem = "is an engine; known-bad files are made of ONNX: give the file that it was built of"
        raise RequestError.about(path, "not-onnx", problem)
    model_source(path, artifact)  # refuses a file that has changed
    model = load_model(path)
    progress = progress or Silent()
    with progress.step("run the reference"), Reference(reference, artifact.graph, dtype=options.reference) as runner:
        expected = [(feed, reference_outputs(runner, feed)) for feed in feeds]
    if not expected:
        raise RequestError("there is nothing to feed: expected one or more pairs of frames", code="no-feeds")
    runtime = default_runtime(artifact)
    # The reference is closed: what rounding costs it, the one thing asked of it from here on, takes a run of its own.
    bench = _Bench(artifact, runner, runtime, options, expected)
    with progress.step("good file") as say:
        good, good_outputs = bench.trial("good", "the file itself", model.SerializeToString(), every_feed=True)
        say(f"{good.outcome}, {good.measured}")
    mutants = []
    for attempt in attempts_of(model, artifact.graph, faults):
        name, description = attempt.name, attempt.description
        if not isinstance(attempt, Mutant):
            outcome: Outcome = "not made" if attempt.applies else "no such fault"
            mutants.append(Trial(name=name, description=description, outcome=outcome, note=attempt.reason))
            continue
        with progress.step(name) as say:
            trial, outputs = bench.trial(name, description, attempt.model.SerializeToString(), every_feed=every_feed)
            same = len(outputs) == len(good_outputs) and all(map(_equal, outputs, good_outputs))
            trial = dataclasses.replace(trial, first_bad_node=attempt.first_bad_node, as_good=same)
            if trial.note:  # it failed because it could not be run, which proves nothing about the limits
                trial = dataclasses.replace(trial, outcome="not made")
            mutants.append(trial)
            say(f"{trial.outcome}, {trial.measured}")
    return SelfTest(
        file=artifact.file,
        graph=artifact.graph,
        precision=artifact.precision,
        runtime=runtime,
        limits=bench.limits,
        good=good,
        mutants=tuple(mutants),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Bench:
    """Compares versions of one file on the same feeds."""

    artifact: Artifact
    reference: Reference
    runtime: Runtime
    options: ValidateOptions
    expected: Sequence[tuple[Feed, Outputs]]
    """Each feed with the reference's outputs."""

    @property
    def limits(self) -> Limits:
        """Those in force for this graph and precision."""
        return self.options.limits.of(self.artifact.graph, self.artifact.precision)

    def trial(self, name: str, description: str, model: bytes, *, every_feed: bool) -> tuple[Trial, list[Outputs]]:
        """Return the outcome for a serialized model, and its outputs for each feed that it was run on.

        It is run until the outcome is certain, or on `every_feed`.
        """
        runs: list[Compared] = []
        for run in self._runs(name, model):
            runs.append(run)
            if not every_feed and self._has_failed(runs):
                break
        trial = Trial(
            name=name,
            description=description,
            outcome="failed" if self._has_failed(runs) else "passed",
            feeds=len(runs),
        )
        broken = next((run.verdict for run in runs if not run.verdict.outputs), None)
        if broken is not None:
            note = "; ".join(broken.reasons)
            trial = dataclasses.replace(trial, note=note, feed=broken.feed, limit="run", margin=math.inf)
        else:
            margin, output, verdict = max(
                (
                    (margin, output, run.verdict)
                    for run in runs
                    for output in run.verdict.outputs
                    for margin in margins(output.metrics, self.limits)
                ),
                key=lambda found: found[0].ratio,
            )
            metrics = output.metrics
            trial = dataclasses.replace(
                trial,
                feed=verdict.feed,
                output=output.output,
                psnr_db=metrics.psnr_db,
                max_abs=None if metrics.max_abs is None else metrics.max_of_peak,
                p999_abs=None if metrics.p999_abs is None else metrics.p999_abs / metrics.peak,
                ssim=metrics.ssim,
                limit=margin.limit,
                margin=margin.ratio,
            )
        return trial, [run.actual for run in runs]

    def _runs(self, name: str, model: bytes) -> Iterator[Compared]:
        memory = ErrorMemory()
        with pair_runner(open_onnx_runner(model, self.runtime)) as runner:
            candidate = Candidate(
                file=name,
                limits=self.limits,
                precision=self.artifact.precision,
                runtime=self.runtime,
                runner=runner,
            )
            for feed, outputs in self.expected:
                yield compare_candidate(self.artifact.signature, candidate, feed, outputs, memory, self.reference)

    def _has_failed(self, runs: Sequence[Compared]) -> bool:
        """Return whether the file fails even if it passes on all feeds that are left."""
        statuses = [run.verdict.status for run in runs]
        left: list[Status] = ["passed"] * (len(self.expected) - len(runs))
        return group_status(statuses + left, self.options) == "failed"


def _equal(one: Outputs, other: Outputs) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
