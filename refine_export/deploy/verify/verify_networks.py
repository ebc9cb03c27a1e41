"""A network that is served against the reference: the feeds and limits of validation, over every channel."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from refine_export.accuracy.flicker import ErrorMemory
from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import compare
from refine_export.data.frame_source import Sources
from refine_export.deploy.verify.channels import Channel
from refine_export.deploy.verify.load_test import Question
from refine_export.deploy.verify.server_models import Served
from refine_export.deploy.verify.verify_result import Answered, Compared
from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.runners.triton.triton_runner import TritonRunner
from refine_export.signature import SIGNATURES, GraphName
from refine_export.support.progress import Progress
from refine_export.validate import comparison
from refine_export.validate.comparison import Candidate, compare_candidates
from refine_export.validate.test_plan import plan_steps
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from refine_export.runners.base import Arrays

MOST_QUESTIONS = 4


class _Answering(TritonRunner):
    """A request without an answer is a failure of the model, not of the job."""

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        try:
            return super()._run(feeds)
        except UnavailableError as error:
            raise RequestError(str(error)) from error


def compare_network(
    served: Served,
    channels: Sequence[Channel],
    reference: nn.Module,
    sources: Sources,
    options: ValidateOptions,
    progress: Progress,
) -> Compared:
    """Send every feed over every channel.

    Args:
        served: the model.
        channels: to its server.
        reference: what `network.reference_network` returns.
        sources: of frames and arrays.
        options: flows, timesteps, sizes and limits.
        progress: told of each step.
    """
    graph = served.artifact.graph
    limits = options.limits.of(graph, served.artifact.precision)
    answers: list[Answered] = []
    questions: list[Question] = []
    size = (0, 0)
    memory = ErrorMemory()
    with TorchRunner(reference, graph, dtype=options.reference) as runner, ExitStack() as stack:
        candidates = [_candidate(served, channel, limits, stack) for channel in channels]
        for step in plan_steps(reference, graph, [(served.artifact, candidates)], sources, options):
            with progress.step(f"compare {served.name}: {step.label}") as say:
                before = len(answers)
                for one in compare_candidates(SIGNATURES[graph], runner, step.candidates, step.feeds, memory):
                    answers.append(_answered(one))
                    if one.verdict.status == "passed" and step.sizes[0] == 1 and size in ((0, 0), step.sizes[1:]):
                        size = step.sizes[1:]
                        if one.candidate is candidates[0] and len(questions) < MOST_QUESTIONS:
                            questions.append(_question(one, graph))
                statuses = [one.status for one in answers[before:]]
                say(", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)))
    return Compared(answers=tuple(answers), questions=tuple(questions), size=size)


def _candidate(served: Served, channel: Channel, limits: Limits, stack: ExitStack) -> Candidate:
    made = functools.partial(Candidate, file=served.name, limits=limits, runtime=channel.name)
    try:
        runner = stack.enter_context(_Answering(channel.options, served.name, served.version))
    except UnavailableError as error:
        return made(runner=None, missing=str(error))
    except RequestError as error:
        return made(runner=None, refused=str(error))
    return made(runner=runner)


def _answered(compared: comparison.Compared) -> Answered:
    verdict = compared.verdict
    numbers: dict[str, float | None] = {}
    if verdict.outputs:
        ratios = [one.metrics.psnr_db for one in verdict.outputs if one.metrics.psnr_db is not None]
        numbers = {
            "psnr_db": min(ratios) if ratios else None,
            "max_of_peak": max(one.metrics.max_of_peak for one in verdict.outputs),
        }
    return Answered(
        model=compared.candidate.file,
        channel=verdict.runtime,
        feed=verdict.feed,
        status=verdict.status,
        reasons=verdict.reasons,
        numbers=numbers,
    )


def _question(compared: comparison.Compared, graph: GraphName) -> Question:
    assert isinstance(compared.candidate.runner, Runner)
    types = {info.name: info.dtype for info in compared.candidate.runner.inputs}
    return Question(
        inputs={name: array.astype(types[name], copy=False) for name, array in compared.feed.inputs.items()},
        wrong=functools.partial(_wrong, graph, compared.candidate.limits, compared.actual),
    )


def _wrong(
    graph: GraphName, limits: Limits, right: Mapping[str, NDArray[Any]], answer: Mapping[str, NDArray[Any]]
) -> str | None:
    """What is wrong with a later answer, where the first was right; batches of another size may round otherwise."""
    import numpy as np

    for spec in SIGNATURES[graph].outputs:
        expected, actual = right[spec.name], answer.get(spec.name)
        if actual is None or actual.shape != expected.shape:
            return f"under load {spec.name} is {'not there' if actual is None else list(actual.shape)}"
        if not np.array_equal(expected, actual):
            error = compare(expected, actual, spec.quantity).max_of_peak
            if not error <= limits.max_abs:
                return (
                    f"under load {spec.name} is {error:.3g} of the peak off its first answer, above {limits.max_abs:g}"
                )
    return None
