"""Subjects of one batch and size: run once, and their figures from the seconds of their runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from refine_export.artifacts import Sizes
from refine_export.bench.bench_files import Work
from refine_export.bench.bench_result import Measurement
from refine_export.bench.known_gpus import peak_rates, share_of_roofline
from refine_export.bench.memory_child import Memory
from refine_export.bench.subjects import Subject, call_of
from refine_export.runners.base import Arrays, Runner
from refine_export.runners.latency import latency_from_seconds, ratio_in_turn


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """A subject that has run once."""

    subject: Subject
    runner: Runner
    feeds: Arrays
    work: Work | None
    call: Callable[[], object]
    first_s: float
    """Seconds of the first run."""


def ready_subject(subject: Subject, runner: Runner, feeds: Arrays, work: Work | None) -> Ready:
    """Run a subject once, so that one that fails, or compiles, does not disturb the others.

    Raises:
        RequestError: the run fails.
        UnavailableError: torch cannot compile on this machine.
    """
    call = call_of(runner, feeds)
    started = time.perf_counter()
    call()
    first_s = time.perf_counter() - started
    return Ready(subject=subject, runner=runner, feeds=feeds, work=work, call=call, first_s=first_s)


def measurements_from_seconds(
    point: Sizes, seconds: Mapping[Ready, Sequence[float]], memory: Mapping[Ready, Memory]
) -> Iterator[Measurement]:
    """Yield the figures of each subject; the first of a graph is what the ratios of that graph refer to."""
    references: dict[str, Sequence[float]] = {}
    for one, times in seconds.items():
        subject, runner, work = one.subject, one.runner, one.work
        latency = latency_from_seconds(times)
        ratio, error = ratio_in_turn(times, references.setdefault(subject.graph, times))
        median_s = latency.median_ms / 1000
        gpu = runner.device.partition("(")[2].rstrip(")") if runner.device.startswith("cuda") else ""
        rates = peak_rates(gpu)
        roofline = None
        if work is not None and rates is not None and subject.precision is not None:
            roofline = share_of_roofline(work, median_s, subject.precision, rates)
        yield Measurement(
            file=subject.file,
            runtime=subject.mode,
            provider=runner.provider,
            device=runner.device,
            graph=subject.graph,
            batch=point[0],
            size=point[1:],
            latency=latency,
            first_ms=1000 * one.first_s,
            per_second=point[0] / median_s,
            ratio=ratio,
            ratio_error=error,
            gflops=None if work is None else 2e-9 * work.multiply_adds / median_s,
            roofline=roofline,
            memory=memory.get(one),
        )
