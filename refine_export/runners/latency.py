"""Latency of calls that are made in turn, so that a machine that slows down slows down all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")

WARM_UP_ROUNDS = 12
"""Upper bound of the rounds before the measurement."""
STABLE_ROUNDS = 3
STABLE = 0.1
"""Change of the median of the last `STABLE_ROUNDS` rounds below which a call is warm."""
SCALE_OF_MEDIAN_DEVIATION = 1.4826
"""Standard deviation of normally distributed values over their median deviation."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of one call, in milliseconds."""

    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    spread: float
    """Median deviation from the median, scaled to a standard deviation, over the median."""


def measure_in_turn(
    calls: Mapping[K, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[K, list[float]]:
    """Measure calls A B A B, after a warm-up until none becomes faster or slower any more.

    Args:
        calls: what to measure, by name.
        rounds: times that each is measured.
        clock: in seconds.

    Returns:
        Seconds of each call, by round.
    """

    def one_round() -> Iterator[float]:
        for call in calls.values():
            started = clock()
            call()
            yield clock() - started

    warm: list[list[float]] = []
    while len(warm) < WARM_UP_ROUNDS and not _stable(warm):
        warm.append(list(one_round()))
    measured = [list(one_round()) for _ in range(rounds)]
    return {name: list(seconds) for name, seconds in zip(calls, zip(*measured, strict=True), strict=True)}


def _stable(rounds: Sequence[Sequence[float]]) -> bool:
    if len(rounds) < 2 * STABLE_ROUNDS:
        return False
    before, now = rounds[-2 * STABLE_ROUNDS : -STABLE_ROUNDS], rounds[-STABLE_ROUNDS:]
    medians = [[statistics.median(times) for times in zip(*part, strict=True)] for part in (before, now)]
    return all(abs(new - old) <= STABLE * old for old, new in zip(*medians, strict=True))


def latency_from_seconds(seconds: Sequence[float]) -> Latency:
    """Summarise the times of one call."""
    ordered = sorted(1000 * one for one in seconds)

    def quantile(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    median = statistics.median(ordered)
    return Latency(
        runs=len(ordered),
        median_ms=median,
        p90_ms=quantile(0.9),
        p99_ms=quantile(0.99),
        spread=_deviation(ordered) / median if median else 0.0,
    )


def ratio_in_turn(candidate: Sequence[float], reference: Sequence[float]) -> tuple[float, float]:
    """Return the median ratio of two calls that were measured in turn, and its relative standard error.

    The ratio is taken round by round: what slows down a whole round does not count.
    """
    ratios = [one / other for one, other in zip(candidate, reference, strict=True)]
    ratio = statistics.median(ratios)
    # The median of n values has 1.2533 times the standard error of their mean.
    return ratio, 1.2533 * _deviation(ratios) / math.sqrt(len(ratios)) / ratio


def _deviation(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return SCALE_OF_MEDIAN_DEVIATION * statistics.median(abs(value - middle) for value in values)
