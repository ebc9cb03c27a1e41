"""Proof that a gate can fail: a good file passes its limits, and each known-bad file made of it does not.

    tested = self_test(Path("refine.onnx"), artifact, reference, feeds, limits=limits, options=options)
    print(tested.status, tested.problems)

The reference runs once for each feed, and what it gave is kept for all files. A known-bad file is fed until its verdict
is certain, so it is measured on the feeds down to the one that showed the fault.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.accuracy.limits import Limits
from refine_export.artifacts import Artifact, model_source
from refine_export.data.feeds import Feed
from refine_export.errors import RequestError
from refine_export.graph.model_file import load_external_data, model_from_file
from refine_export.runners.base import Runner
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.runners.torch import TorchRunner
from refine_export.self_test.mutants import Mutant, attempts_of
from refine_export.self_test.self_test_result import Outcome, SelfTest, Trial, margins, measured
from refine_export.signature import SIGNATURES, GraphName
from refine_export.support.imports import require
from refine_export.support.progress import Progress, Silent
from refine_export.validate.comparison import Candidate, Compared, Status, group_status, validate
from refine_export.validate.runtimes import runtimes_for
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from refine_export.runners.base import Arrays


def self_test(
    path: Path,
    artifact: Artifact,
    reference: nn.Module,
    feeds: Iterable[Feed],
    *,
    limits: Limits,
    options: ValidateOptions,
    progress: Progress | None = None,
) -> SelfTest:
    """Compare a good file and each known-bad one made of it with the reference.

    Args:
        path: of the ONNX file.
        artifact: what it is.
        reference: what `network.reference_network` returns, of the weights that the file was made from.
        feeds: kept in memory with the reference's outputs. Several timesteps show one that is fixed, flows that leave
            the frame show its border.
        limits: those in force for this graph and precision.
        options: how many feeds may fail, and the type of the reference's arithmetic.
        progress: told of each file.

    Raises:
        RequestError: an engine, a model above 2 GiB, or no feeds.
        GraphError: the file is no longer the one that `artifact` is the hash of.
        UnavailableError: the runtime is missing.
    """
    started = time.perf_counter()
    if artifact.engine is not None:
        raise RequestError(f"{path} is an engine; known-bad files are made of ONNX: give the file that it was built of")
    require("onnx_ir", extra="ort")
    model_source(path, artifact)
    model = model_from_file(path)
    if not load_external_data(model, path.parent):
        raise RequestError(f"{path} has more than 2 GiB of external data; a self-test takes smaller models")
    runtime = runtimes_for(artifact)[0]
    progress = progress or Silent()
    with progress.step("run the reference"), TorchRunner(reference, artifact.graph, dtype=options.reference) as runner:
        played = _Played(runner, feeds)
    if not played.feeds:
        raise RequestError("there is nothing to feed: expected one or more pairs of frames")
    bench = _Bench(artifact.graph, runtime, played, limits, options)
    with progress.step("good file") as say:
        good, gave = bench.trial("good", "the file itself", model.SerializeToString(), keep_on=True)
        say(f"{good.outcome}, {measured(good)}")
    mutants = []
    for attempt in attempts_of(model, artifact.graph):
        name, description = attempt.name, attempt.description
        if not isinstance(attempt, Mutant):
            outcome: Outcome = "not made" if attempt.applies else "no such fault"
            mutants.append(Trial(name=name, description=description, outcome=outcome, note=attempt.reason))
            continue
        with progress.step(name) as say:
            content = attempt.model.SerializeToString()
            trial, _ = bench.trial(name, description, content, first_bad_node=attempt.first_bad_node, good=gave)
            if trial.note:  # it failed because it could not be run: that proves nothing
                trial = dataclasses.replace(trial, outcome="not made")
            mutants.append(trial)
            say(f"{trial.outcome}, {measured(trial)}")
    return SelfTest(
        file=artifact.file,
        graph=artifact.graph,
        precision=artifact.precision,
        runtime=runtime,
        limits=limits,
        good=good,
        mutants=tuple(mutants),
        seconds=time.perf_counter() - started,
    )


class _Played(Runner):
    """What a runner gave for each of some feeds, given again.

    Args:
        runner: run once for each feed.
        feeds: kept.
    """

    def __init__(self, runner: Runner, feeds: Iterable[Feed]) -> None:
        self.backend, self.version, self.device = runner.backend, runner.version, runner.device
        self.provider, self.inputs, self.outputs = runner.provider, runner.inputs, runner.outputs
        self.feeds = tuple(feeds)
        self._gave = [(feed.inputs, runner.run(feed.inputs)) for feed in self.feeds]

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        return next(outputs for inputs, outputs in self._gave if inputs is feeds)


Gave = list[dict[str, "NDArray[Any]"]]


class _Bench:
    """Compares files of one graph on the same feeds."""

    def __init__(
        self, graph: GraphName, runtime: str, played: _Played, limits: Limits, options: ValidateOptions
    ) -> None:
        self._graph, self._runtime, self._played = graph, runtime, played
        self._limits, self._options = limits, options

    def trial(
        self,
        name: str,
        description: str,
        content: bytes,
        *,
        first_bad_node: str = "",
        good: Gave | None = None,
        keep_on: bool = False,
    ) -> tuple[Trial, Gave]:
        """The outcome for a serialised model, and what it gave for each feed.

        Args:
            name: of the fault.
            description: of the fault.
            content: the model.
            first_bad_node: of the fault.
            good: what the good file gave.
            keep_on: go on when the outcome is certain.
        """
        runs: list[Compared] = []
        for compared in self._runs(name, content):
            runs.append(compared)
            if not keep_on and self._has_failed(runs):
                break
        worst, (limit, margin) = max(
            ((run, found) for run in runs for found in self._margins(run)), key=lambda pair: pair[1][1]
        )
        output = next(
            (one for one in worst.verdict.outputs if margins(one.metrics, worst.verdict.limits).get(limit) == margin),
            None,
        )
        metrics = output.metrics if output else None
        gave = [run.actual for run in runs]
        trial = Trial(
            name=name,
            description=description,
            outcome="failed" if self._has_failed(runs) else "passed",
            note="" if worst.verdict.outputs else "; ".join(worst.verdict.reasons),
            first_bad_node=first_bad_node,
            feeds=len(runs),
            feed=worst.verdict.feed,
            output=output.output if output else "",
            psnr_db=metrics.psnr_db if metrics else None,
            max_abs=metrics.max_of_peak if metrics and metrics.max_abs is not None else None,
            p999_abs=metrics.p999_abs / metrics.peak if metrics and metrics.p999_abs is not None else None,
            ssim=metrics.ssim if metrics else None,
            limit=limit,
            margin=margin,
            as_good=good is not None and len(good) == len(gave) and all(map(_equal, good, gave)),
        )
        return trial, gave

    def _runs(self, name: str, content: bytes) -> Iterator[Compared]:
        open_file = HalfRunner if self._runtime == "half" else OrtRunner
        with open_file(content) as runner:
            candidate = Candidate(file=name, limits=self._limits, runtime=self._runtime, runner=runner)
            yield from validate(SIGNATURES[self._graph], self._played, [candidate], self._played.feeds)

    def _has_failed(self, runs: Sequence[Compared]) -> bool:
        """Whether it fails even if it passes on all feeds that are left."""
        statuses = [run.verdict.status for run in runs]
        left: list[Status] = ["passed"] * (len(self._played.feeds) - len(runs))
        return group_status(statuses + left, self._options) == "failed"

    def _margins(self, run: Compared) -> list[tuple[str, float]]:
        found = [item for output in run.verdict.outputs for item in margins(output.metrics, run.verdict.limits).items()]
        return found or [("run", math.inf)]


def _equal(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    import numpy as np

    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
