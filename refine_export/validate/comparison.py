"""The reference against candidates over feeds; a verdict is data.

Feeds come one at a time and the reference runs once for each, whatever the number of candidates: frames of 2176x3840
with all intermediate outputs do not fit into memory twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refine_export.accuracy.effective_limits import margins
from refine_export.accuracy.flicker import ErrorMemory
from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import Metrics, Rounding, compare, signal_to_noise
from refine_export.data.feeds import Feed
from refine_export.errors import RequestError
from refine_export.runners.base import Runner
from refine_export.signature import FilePrecision, Signature, TensorSpec
from refine_export.support.memory import return_freed_memory
from refine_export.validate.reference import Reference
from refine_export.validate.validate_options import ValidateOptions

Status = Literal["passed", "failed", "not compared"]
Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class OutputVerdict:
    """One output of one run."""

    output: str
    status: Status
    reasons: tuple[str, ...]
    """Why it did not pass."""
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One candidate on one feed."""

    feed: str
    runtime: str
    status: Status
    limits: Limits
    reasons: tuple[str, ...]
    outputs: tuple[OutputVerdict, ...]
    reference_seconds: float | None
    """Wall time of one run of the reference, as information: no benchmark."""
    candidate_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file in a runner under test, or why there is none."""

    file: str
    """Name of the file in reports."""
    limits: Limits
    runtime: str
    runner: Runner | None
    missing: str | None = None
    """Why this machine cannot run it: not compared."""
    refused: str | None = None
    """Why the runtime does not take the file: failed."""
    precision: FilePrecision = "fp32"
    """Type that its limits are for: what rounding to it costs the reference is measured where they depend on it."""
    with_ssim: bool = False
    """Measure SSIM though no limit asks for it."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A verdict with the arrays it was made from."""

    candidate: Candidate
    verdict: Verdict
    feed: Feed
    expected: Outputs
    """Outputs of the reference."""
    actual: Outputs
    """Outputs of the candidate; empty where it did not run."""


def compare_candidates(
    signature: Signature,
    reference: Runner,
    candidates: Sequence[Candidate],
    feeds: Iterable[Feed],
    memory: ErrorMemory | None = None,
) -> Iterator[Compared]:
    """Run each feed through the reference once and through every candidate, all of one graph.

    Args:
        signature: of the graph.
        reference: a `Reference`; another runner cannot tell what rounding costs it, and limits are then absolute.
        candidates: get every feed.
        feeds: inputs of the graph.
        memory: errors of the frame before, where a sequence comes in several calls.

    Raises:
        RequestError: `reference-overflows`; see `reference_outputs`.
    """
    memory = memory or ErrorMemory()
    for feed in feeds:
        return_freed_memory()
        started = time.perf_counter()
        expected = reference_outputs(reference, feed)
        seconds = time.perf_counter() - started
        for candidate in candidates:
            yield compare_candidate(signature, candidate, feed, expected, memory, reference, reference_seconds=seconds)
        del feed, expected  # before the next feed is made: for `refine` at 1088x1920 they are 170 MiB


def reference_outputs(reference: Runner, feed: Feed) -> Outputs:
    """Run the reference on a feed.

    Raises:
        RequestError: `reference-overflows`; it gives NaN or infinity.
    """
    outputs = reference.run(feed.inputs)
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise RequestError(
                f"the reference itself gives NaN or infinity in {name} on {feed.name}: there is nothing to compare "
                "with; the weights overflow FP32, check the checkpoint",
                code="reference-overflows",
                output=name,
                feed=feed.name,
            )
    return outputs


def compare_candidate(
    signature: Signature,
    candidate: Candidate,
    feed: Feed,
    expected: Outputs,
    memory: ErrorMemory,
    reference: Runner,
    *,
    reference_seconds: float | None = None,
) -> Compared:
    """Run one candidate on one feed and hold it against the reference's outputs."""
    actual: Outputs = {}
    seconds: float | None = None
    outputs: tuple[OutputVerdict, ...] = ()
    if candidate.refused:
        status, reasons = _failed(candidate.refused)
    elif candidate.runner is None:
        status, reasons = "not compared", (candidate.missing or "the runtime is missing",)
    else:
        return_freed_memory()
        started = time.perf_counter()
        try:
            actual = candidate.runner.run(_typed(feed.inputs, candidate.runner))
        except RequestError as error:
            status, reasons = _failed(str(error))
        else:
            seconds = time.perf_counter() - started
            if misshapen := _misshapen(expected, actual):
                status, reasons = _failed(misshapen)
            else:
                measured = {
                    spec.name: _measured(spec, expected[spec.name], actual[spec.name], feed, candidate, memory)
                    for spec in signature.outputs
                }
                outputs = _judged(measured, candidate, feed, expected, reference)
                status = overall(output.status for output in outputs)
                reasons = tuple(f"{output.output}: {reason}" for output in outputs for reason in output.reasons)
    verdict = Verdict(
        feed=feed.name,
        runtime=candidate.runtime,
        status=status,
        limits=candidate.limits,
        reasons=reasons,
        outputs=outputs,
        reference_seconds=reference_seconds,
        candidate_seconds=seconds,
    )
    return Compared(candidate=candidate, verdict=verdict, feed=feed, expected=expected, actual=actual)


def _failed(reason: str) -> tuple[Status, tuple[str, ...]]:
    return "failed", (reason,)


def _typed(inputs: Outputs, runner: Runner) -> Outputs:
    """Convert a feed to the types that the candidate takes: an FP16 input rounds it, which counts as its error."""
    types = {info.name: info.dtype for info in runner.inputs}
    return {name: array.astype(types.get(name, array.dtype), copy=False) for name, array in inputs.items()}


def _misshapen(expected: Outputs, actual: Outputs) -> str | None:
    for name, array in expected.items():
        if name not in actual or actual[name].shape != array.shape:
            found = list(actual[name].shape) if name in actual else "missing"
            return f"{name} is {found}; the reference has {list(array.shape)}"
    return None


def _judged(
    measured: Mapping[str, Metrics], candidate: Candidate, feed: Feed, expected: Outputs, reference: Runner
) -> tuple[OutputVerdict, ...]:
    """Judge the outputs by the absolute limits and, where they miss those, by what rounding costs the reference."""

    def verdicts(roundings: Mapping[str, Rounding]) -> tuple[OutputVerdict, ...]:
        return tuple(
            verdict_from_metrics(name, replace(metrics, rounding=roundings.get(name)), candidate.limits)
            for name, metrics in measured.items()
        )

    outputs = verdicts({})
    if candidate.limits.times is not None and isinstance(reference, Reference):
        # Each may take a run of the reference, so the next is asked for only while a finite output fails.
        roundings = reference.roundings(candidate.precision, feed, expected)
        while any(output.status == "failed" and output.metrics.max_abs is not None for output in outputs):
            if (found := next(roundings, None)) is None:
                break
            outputs = verdicts(found)
    return outputs


def _measured(
    spec: TensorSpec,
    expected: NDArray[Any],
    actual: NDArray[Any],
    feed: Feed,
    candidate: Candidate,
    memory: ErrorMemory,
) -> Metrics:
    with_ssim = candidate.with_ssim or candidate.limits.ssim is not None
    metrics = compare(expected, actual, spec.quantity, with_ssim=with_ssim)
    if metrics.max_abs is None:  # not finite: neither noise nor flicker can be computed
        return metrics
    key = (candidate.file, candidate.runtime, spec.name)
    return replace(
        metrics,
        snr_db=signal_to_noise(expected, actual) if feed.probe else None,
        flicker=memory.flicker(feed.sequence, feed.index, key, expected, actual),
    )


def verdict_from_metrics(output: str, metrics: Metrics, limits: Limits) -> OutputVerdict:
    """Judge an output; every limit that it misses is a reason."""
    reasons = tuple(margin.reason for margin in margins(metrics, limits) if margin.missed)
    return OutputVerdict(output=output, status="failed" if reasons else "passed", reasons=reasons, metrics=metrics)


def overall(statuses: Iterable[Status]) -> Status:
    """Combine statuses: failed if any failed, passed only if there is one and all passed."""
    found = set(statuses)
    if "failed" in found:
        return "failed"
    return "passed" if found == {"passed"} else "not compared"


def group_status(statuses: Sequence[Status], options: ValidateOptions) -> Status:
    """Combine the feeds of one file in one runtime at one size, by the share and number of them that may fail."""
    passed, failed = statuses.count("passed"), statuses.count("failed")
    may_fail = failed if options.may_fail is None else options.may_fail
    if failed and (passed < options.share * (passed + failed) or failed > may_fail):
        return "failed"
    return "passed" if passed and passed + failed == len(statuses) else "not compared"
