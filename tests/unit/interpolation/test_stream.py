"""Threads and queues: order, bounds, errors, the end."""

import itertools
import random
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest

from refine_export.interpolation.stream import Stopped, in_order
from tests.support.waiting import eventually


def opens_with(compute):
    @contextmanager
    def opens(stop):
        yield compute

    return opens


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith(("compute-", "read"))]


def test_results_come_in_the_order_of_the_jobs():
    chance = random.Random(0)
    pauses = [chance.uniform(0, 0.004) for _ in range(120)]

    def compute(job):
        time.sleep(pauses[job])
        return job * 10

    results = list(in_order(iter(range(120)), opens_with(compute), threads=6, ahead=9))
    assert results == [(job, job * 10) for job in range(120)]
    assert not ours()


def test_several_are_computed_at_a_time():
    together = threading.Barrier(4, timeout=60)  # nobody passes alone
    results = in_order(iter(range(8)), opens_with(lambda job: together.wait() >= 0), threads=4, ahead=8)
    assert [done for _, done in results] == [True] * 8


def test_no_more_is_held_than_asked_for_however_long_the_stream():
    """Read - taken <= ahead + 1 that the reader holds + 1 that the caller holds."""
    read, most = [], 0

    def jobs():
        for job in range(500):
            read.append(job)
            yield job

    for taken, _ in enumerate(in_order(jobs(), opens_with(lambda job: job), threads=3, ahead=5)):
        if taken % 50 == 0:
            eventually(lambda taken=taken: len(read) >= taken + 7)
            time.sleep(0.01)  # the reader would run away here
        most = max(most, len(read) - taken)
    assert (taken, most) == (499, 7)


@pytest.mark.parametrize(("weight", "held"), [(1, 12), (5, 2), (40, 1)])
def test_jobs_are_held_by_their_weight(weight, held):
    """Those that are read, one in the reader's hand and one in the caller's; a job too heavy for all waits alone."""
    read = []

    def jobs():
        for job in range(60):
            read.append(job)
            yield job

    results = in_order(jobs(), opens_with(lambda job: job), threads=2, ahead=12, weigh=lambda job: weight)
    with closing(results):
        assert next(results)[0] == 0
        eventually(lambda: len(read) >= held + 2)
        time.sleep(0.05)  # it would go on here
        assert len(read) == held + 2


def fail_at(number):
    def work(job):
        if job == number:
            raise ValueError("failed")
        return job

    return work


@pytest.mark.parametrize(
    ("jobs", "compute"), [(itertools.count(), fail_at(5)), (map(fail_at(5), itertools.count()), lambda job: job)]
)
def test_an_error_of_a_computation_or_of_the_reader_comes_once_behind_the_results_before_it(jobs, compute):
    taken = []
    with pytest.raises(ValueError, match="failed"):  # noqa: PT012 (what was taken before counts)
        for job, _ in in_order(jobs, opens_with(compute), threads=4, ahead=8):
            taken.append(job)
    assert taken == [0, 1, 2, 3, 4]
    assert not ours()


def test_nothing_is_read_where_one_thread_cannot_be_opened():
    numbers = itertools.count()

    @contextmanager
    def opens(stop):
        if next(numbers) == 1:
            raise ConnectionError("nobody there")
        yield lambda job: job

    read = []

    def jobs():
        read.append(0)
        yield 0

    with pytest.raises(ConnectionError, match="nobody there"):
        next(in_order(jobs(), opens, threads=3, ahead=3))
    assert read == []
    assert not ours()


def test_closing_early_ends_all_threads_those_that_wait_too():
    waiting = threading.Event()

    @contextmanager
    def opens(stop):
        def compute(job):
            if job == 2:
                waiting.set()
                if stop.wait(120):  # as a client waits for its server
                    raise Stopped
            return job

        yield compute

    started = time.perf_counter()
    with closing(in_order(itertools.count(), opens, threads=2, ahead=4)) as results:
        assert next(results)[0] == 0
        assert waiting.wait(60)
    assert time.perf_counter() - started < 90  # the client waits for 120
    assert not ours()


def test_an_interrupt_at_any_instruction_ends_all_threads():
    """Ctrl-C may come when the caller's thread has just taken a lock that the others need."""
    interrupted, opens = [], opens_with(lambda job: job)

    def consume(at):
        instructions, begun = itertools.count(), False

        def trace(frame, event, _):
            frame.f_trace_opcodes = True
            if event == "opcode" and begun and next(instructions) == at:
                raise KeyboardInterrupt
            return trace

        with closing(in_order(itertools.count(), opens, threads=1, ahead=2)) as results:
            next(results)
            begun = True
            sys.settrace(trace)
            try:
                for _ in range(3):
                    next(results)
            except KeyboardInterrupt:
                interrupted.append(at)
            finally:
                sys.settrace(None)

    for at in range(300):
        thread = threading.Thread(target=consume, args=(at,), daemon=True)
        thread.start()
        thread.join(60)
        assert (thread.is_alive(), ours()) == (False, []), f"at instruction {at}"
        if at not in interrupted:
            break  # that was all of them
    assert len(interrupted) > 50
