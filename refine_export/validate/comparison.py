"""The reference against candidates over feeds; a verdict is data.

Feeds come one at a time and the reference runs once for each, whatever the number of candidates.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from refine_export.accuracy.flicker import ErrorMemory
from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import Metrics, compare, signal_to_noise
from refine_export.data.feeds import Feed
from refine_export.errors import RequestError
from refine_export.runners.base import Runner
from refine_export.signature import Signature, TensorSpec
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refine_export.runners.base import Arrays

Status = Literal["passed", "failed", "not compared"]


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
    """What the file is called."""
    limits: Limits
    """What it has to keep."""
    runtime: str
    runner: Runner | None
    missing: str | None = None
    """Why this machine can't run it: not compared."""
    refused: str | None = None
    """Why the runtime does not take the file: failed."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A verdict with the arrays it was made from."""

    candidate: Candidate
    verdict: Verdict
    feed: Feed
    expected: dict[str, NDArray[Any]]
    """What the reference gave."""
    actual: dict[str, NDArray[Any]]
    """What the candidate gave."""


def validate(
    signature: Signature,
    reference: Runner,
    candidates: Sequence[Candidate],
    feeds: Iterable[Feed],
    memory: ErrorMemory | None = None,
) -> Iterator[Compared]:
    """Run each feed through the reference once and through every candidate.

    Args:
        signature: of the graph.
        reference: runs it as it should be.
        candidates: of one graph.
        feeds: one at a time.
        memory: of the errors of the frame before, where a sequence comes in several calls.
    """
    memory = memory or ErrorMemory()
    for feed in feeds:
        memory.begin(feed.sequence, feed.index)
        started = time.perf_counter()
        expected = reference.run(feed.inputs)
        reference_seconds = time.perf_counter() - started
        _check_reference(feed, expected)
        for candidate in candidates:
            verdict, actual = _compared(signature, feed, expected, reference_seconds, candidate, memory)
            yield Compared(candidate=candidate, verdict=verdict, feed=feed, expected=expected, actual=actual)


def _check_reference(feed: Feed, outputs: Mapping[str, NDArray[Any]]) -> None:
    import numpy as np

    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise RequestError(
                f"the reference itself gives NaN or infinity in {name} on {feed.name}: there is nothing to compare "
                "with; the weights overflow FP32, check the checkpoint"
            )


def overall(statuses: Iterable[Status]) -> Status:
    """Failed if any failed; passed only if all that there is passed."""
    found = set(statuses)
    if "failed" in found:
        return "failed"
    return "passed" if found == {"passed"} else "not compared"


def group_status(statuses: Sequence[Status], options: ValidateOptions) -> Status:
    """The verdict of one file in one runtime at one size: by the share and number of its feeds that may fail."""
    passed, failed = statuses.count("passed"), statuses.count("failed")
    if failed and (passed < options.share * (passed + failed) or failed > _allowed(options, failed)):
        return "failed"
    return "passed" if passed and passed + failed == len(statuses) else "not compared"


def _allowed(options: ValidateOptions, failed: int) -> int:
    return failed if options.may_fail is None else options.may_fail


def _compared(
    signature: Signature,
    feed: Feed,
    expected: dict[str, NDArray[Any]],
    reference_seconds: float,
    candidate: Candidate,
    memory: ErrorMemory,
) -> tuple[Verdict, dict[str, NDArray[Any]]]:
    def verdict(
        status: Status, *reasons: str, outputs: tuple[OutputVerdict, ...] = (), seconds: float | None = None
    ) -> Verdict:
        return Verdict(
            feed=feed.name,
            runtime=candidate.runtime,
            status=status,
            limits=candidate.limits,
            reasons=reasons,
            outputs=outputs,
            reference_seconds=reference_seconds,
            candidate_seconds=seconds,
        )

    if candidate.refused:
        return verdict("failed", candidate.refused), {}
    if candidate.runner is None:
        return verdict("not compared", candidate.missing or "the runtime is missing"), {}
    started = time.perf_counter()
    try:
        actual = candidate.runner.run(_typed(feed.inputs, candidate.runner))
    except RequestError as error:
        return verdict("failed", str(error)), {}
    seconds = time.perf_counter() - started
    for name, array in expected.items():
        if name not in actual or actual[name].shape != array.shape:
            found = list(actual[name].shape) if name in actual else "not there"
            return verdict("failed", f"{name} is {found}; the reference has {list(array.shape)}"), actual
    outputs = tuple(
        judged(
            spec.name,
            _measured(spec, expected[spec.name], actual[spec.name], feed, candidate, memory),
            candidate.limits,
        )
        for spec in signature.outputs
    )
    reasons = tuple(f"{output.output}: {reason}" for output in outputs for reason in output.reasons)
    status = overall(output.status for output in outputs)
    return verdict(status, *reasons, outputs=outputs, seconds=seconds), actual


def _measured(
    spec: TensorSpec,
    expected: NDArray[Any],
    actual: NDArray[Any],
    feed: Feed,
    candidate: Candidate,
    memory: ErrorMemory,
) -> Metrics:
    metrics = compare(expected, actual, spec.quantity)
    if metrics.max_abs is None:
        return metrics
    if feed.probe:
        metrics = replace(metrics, snr_db=signal_to_noise(expected, actual))
    change = memory.flicker(feed.sequence, (candidate.file, candidate.runtime, spec.name), expected, actual)
    return metrics if change is None else replace(metrics, flicker=change)


def _typed(inputs: Arrays, runner: Runner) -> Arrays:
    """The feed in the types that the candidate takes: an FP16 input rounds it, and that counts as its error."""
    types = {info.name: info.dtype for info in runner.inputs}
    return {name: array.astype(types.get(name, array.dtype), copy=False) for name, array in inputs.items()}


def judged(name: str, metrics: Metrics, limits: Limits) -> OutputVerdict:
    """What limits say of an output; every one that it misses is a reason."""
    reasons = []
    if metrics.nan_count or metrics.inf_count:
        reasons.append(f"{metrics.nan_count} NaN and {metrics.inf_count} infinite values")
    else:
        if not metrics.max_of_peak <= limits.max_abs:
            reasons.append(f"largest error {metrics.max_of_peak:.3g} of the peak, above {limits.max_abs:g}")
        if metrics.psnr_db is not None and not metrics.psnr_db >= limits.psnr_db:
            reasons.append(f"PSNR {metrics.psnr_db:.2f} dB, below {limits.psnr_db:g}")
        for label, value, limit in (
            ("99.9th percentile of the error", metrics.p999_abs, limits.p999_abs),
            ("flicker", metrics.flicker, limits.flicker),
        ):
            if limit is not None and value is not None and not value / metrics.peak <= limit:
                reasons.append(f"{label} {value / metrics.peak:.3g} of the peak, above {limit:g}")
        if limits.snr_db is not None and metrics.snr_db is not None and not metrics.snr_db >= limits.snr_db:
            reasons.append(f"signal to noise on the probe {metrics.snr_db:.2f} dB, below {limits.snr_db:g}")
        if limits.ssim is not None and metrics.ssim is not None and not metrics.ssim >= limits.ssim:
            reasons.append(f"SSIM {metrics.ssim:.6f}, below {limits.ssim:g}")
    return OutputVerdict(output=name, status="failed" if reasons else "passed", reasons=tuple(reasons), metrics=metrics)
