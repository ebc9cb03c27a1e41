"""Compare a network's model with the reference: the feeds and limits of validation, over every channel."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from refine_export.accuracy.effective_limits import limits_on
from refine_export.accuracy.flicker import ErrorMemory
from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import compare
from refine_export.data.frame_source import Sources
from refine_export.deploy.verify.load_test import LoadRequest
from refine_export.deploy.verify.server_models import ServerModel
from refine_export.deploy.verify.verify_result import Answer, ModelComparison
from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.base import Arrays
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.runners.triton.triton_runner import TritonRunner
from refine_export.signature import SIGNATURES, GraphName
from refine_export.support.progress import Progress
from refine_export.validate.comparison import Candidate, Compared, Outputs, compare_candidates
from refine_export.validate.feed_plan import plan_steps
from refine_export.validate.reference import Reference
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from torch import nn  # optional: annotations alone must not need it

MAX_LOAD_REQUESTS = 4
"""Different requests of a load test: its clients hold them all in memory."""

LARGEST_EXPLAINED = 2**20
"""Pixels of the largest frames whose failure is explained, which takes three more runs of the reference."""


class _VerifiedRunner(TritonRunner):
    """A runner for which a request without an answer is a failure of the model, not the end of the job."""

    def _run(self, feeds: Arrays) -> Outputs:
        try:
            return super()._run(feeds)
        except UnavailableError as error:
            raise RequestError(str(error), code=error.code, **error.fields) from error


def compare_network(
    model: ServerModel,
    channels: Sequence[ServerOptions],
    reference: nn.Module,
    sources: Sources,
    options: ValidateOptions,
    progress: Progress,
) -> ModelComparison:
    """Send every feed of the plan over every channel."""
    graph = model.artifact.graph
    limits = options.limits.of(graph, model.artifact.precision)
    answers: list[Answer] = []
    load_requests: list[LoadRequest] = []
    size = (0, 0)
    memory = ErrorMemory()
    with Reference(reference, graph, dtype=options.reference) as runner, ExitStack() as stack:
        candidates = [_candidate(model, channel, limits, stack) for channel in channels]
        for step in plan_steps(reference, model.artifact.signature, [(model.artifact, candidates)], sources, options):
            with progress.step(f"compare {model.name}: {step.label}") as say:
                before = len(answers)
                for compared in compare_candidates(SIGNATURES[graph], runner, step.candidates, step.feeds, memory):
                    answers.append(_answer(compared, _sampling(reference, graph, compared)))
                    # The load test takes single pairs of one size, whose answers were right.
                    usable = compared.verdict.status == "passed" and step.sizes[0] == 1
                    if usable and size in ((0, 0), step.sizes[1:]):
                        size = step.sizes[1:]
                        if compared.candidate is candidates[0] and len(load_requests) < MAX_LOAD_REQUESTS:
                            load_requests.append(_load_request(compared, graph))
                statuses = [answer.status for answer in answers[before:]]
                say(", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)))
    return ModelComparison(answers=tuple(answers), load_requests=tuple(load_requests), size=size)


def _candidate(model: ServerModel, channel: ServerOptions, limits: Limits, stack: ExitStack) -> Candidate:
    candidate = functools.partial(
        Candidate, file=model.name, limits=limits, precision=model.artifact.precision, runtime=channel.channel
    )
    try:
        runner = stack.enter_context(_VerifiedRunner(channel, model.name, model.version))
    except UnavailableError as error:
        return candidate(runner=None, missing=str(error))
    except RequestError as error:
        return candidate(runner=None, refused=str(error))
    return candidate(runner=runner)


def _sampling(reference: nn.Module, graph: GraphName, compared: Compared) -> tuple[str, ...]:
    """Return a sentence where a failed answer is that of a wrong sampler; large frames would take too long."""
    verdict, (height, width) = compared.verdict, compared.feed.size
    finite = all(one.metrics.max_abs is not None for one in verdict.outputs)
    if verdict.status != "failed" or not verdict.outputs or not finite or height * width > LARGEST_EXPLAINED:
        return ()
    from refine_export.runners.wrong_sampling import sampling_shown  # needs torch at import

    shown = sampling_shown(reference, graph, compared.feed.inputs, compared.expected, compared.actual)
    advice = "run it in another backend or version, or lower the file with --gridsample gather"
    return () if shown is None else (f"its backend samples wrongly ({shown}), as the answer shows: {advice}",)


def _answer(compared: Compared, more: tuple[str, ...]) -> Answer:
    verdict = compared.verdict
    numbers: dict[str, float | None] = {}
    if verdict.outputs:
        ratios = [one.metrics.psnr_db for one in verdict.outputs if one.metrics.psnr_db is not None]
        numbers = {
            "psnr_db": min(ratios, default=None),
            "max_of_peak": max(one.metrics.max_of_peak for one in verdict.outputs),
        }
    return Answer(
        model=compared.candidate.file,
        channel=verdict.runtime,
        feed=verdict.feed,
        status=verdict.status,
        reasons=(*more, *verdict.reasons),
        numbers=numbers,
    )


def _load_request(compared: Compared, graph: GraphName) -> LoadRequest:
    assert compared.candidate.runner is not None  # it passed
    types = {info.name: info.dtype for info in compared.candidate.runner.inputs}
    limits = compared.candidate.limits
    largest = {one.output: limits_on(limits, one.metrics.rounding).max_abs for one in compared.verdict.outputs}
    return LoadRequest(
        inputs={name: array.astype(types[name], copy=False) for name, array in compared.feed.inputs.items()},
        why_wrong=functools.partial(_why_wrong, graph, largest, compared.actual),
    )


def _why_wrong(graph: GraphName, largest: Mapping[str, float], right: Arrays, answer: Arrays) -> str | None:
    """Compare a later answer with the first, which passed; batches of another size may round differently."""
    for spec in SIGNATURES[graph].outputs:
        expected, actual = right[spec.name], answer.get(spec.name)
        if actual is None or actual.shape != expected.shape:
            return f"under load {spec.name} is {'missing' if actual is None else list(actual.shape)}"
        if not np.array_equal(expected, actual):
            error = compare(expected, actual, spec.quantity).max_of_peak
            if not error <= largest[spec.name]:
                return f"under load {spec.name} differs by {error:.3g} of the peak from its first answer"
    return None
