"""Latency of calls in turn, by a clock that the test moves."""

import itertools

import pytest

from refine_export.runners import latency
from refine_export.runners.latency import latency_from_seconds, measure_in_turn, ratio_in_turn


class Clock:
    """Calls that take given seconds; their order is kept."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def call(self, name, seconds):
        seconds = iter(seconds)

        def run():
            self.order.append(name)
            self.now += next(seconds)

        return run


def test_calls_are_made_in_turn_after_a_warm_up_until_stable():
    clock = Clock()
    calls = {
        "a": clock.call("a", itertools.chain([9.0, 5.0, 2.0], itertools.repeat(1.0))),
        "b": clock.call("b", itertools.repeat(3.0)),
    }
    measured = measure_in_turn(calls, 4, clock=clock)
    assert measured == {"a": pytest.approx([1.0] * 4), "b": pytest.approx([3.0] * 4)}
    assert clock.order == ["a", "b"] * (len(clock.order) // 2)
    assert 6 < len(clock.order) // 2 - 4 <= latency.WARM_UP_ROUNDS


def test_a_call_that_never_settles_is_measured_all_the_same():
    clock = Clock()
    growing = clock.call("a", (float(2**k) for k in itertools.count()))
    assert len(measure_in_turn({"a": growing}, 5, clock=clock)["a"]) == 5
    assert len(clock.order) == latency.WARM_UP_ROUNDS + 5


def test_quantiles_and_spread():
    found = latency_from_seconds([k / 1000 for k in range(1, 101)])
    assert (found.runs, found.median_ms, found.p90_ms, found.p99_ms) == (100, pytest.approx(50.5), 90.0, 99.0)
    assert found.spread == pytest.approx(1.4826 * 25 / 50.5)
    assert latency_from_seconds([0.002] * 5).spread == 0


def test_a_round_that_is_slow_as_a_whole_does_not_change_the_ratio():
    reference = [1.0, 1.0, 7.0, 1.0, 1.0]
    assert ratio_in_turn([2 * one for one in reference], reference) == (2.0, 0.0)
    ratio, error = ratio_in_turn([2.0, 2.2, 1.8, 2.1, 1.9], [1.0] * 5)
    assert (ratio, error) == (2.0, pytest.approx(1.2533 * 1.4826 * 0.1 / 5**0.5 / 2))
