"""Work on a stream in threads: one reads, several compute, the caller takes the results in order.

What is held does not grow with the length: jobs of no more weight than `ahead` are read and not yet taken, one more
waits for room, and the caller has one. Whatever fails, all threads end and the caller gets the error once, after the
results before it.

The caller's thread takes no lock of Python's own, only queues: Ctrl-C may come right after it has a lock, and then
nobody gives it back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")
Opens = Callable[[Event], AbstractContextManager[Callable[[J], R]]]
"""Opens what one thread computes with; the event is set when it is to give up."""

GRACE_S = 5.0
"""Seconds to wait for computations that are under way when all ends early."""


class Stopped(Exception):  # noqa: N818 (it is not an error: the work is over)
    """The stream was closed."""


@dataclass(frozen=True)
class _Failure:
    """Error of a computation, in the place of its result."""

    error: BaseException


def _value_of(given: R | _Failure) -> R:
    if isinstance(given, _Failure):
        raise given.error
    return given


class Budget:
    """Upper bound of the weight in use; a heavier job runs by itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0  # as the thread that acquires knows it
        self._closed = False
        self._released: SimpleQueue[int] = SimpleQueue()

    def acquire(self, weight: int) -> None:
        """Wait until there is room; for one thread alone.

        Raises:
            Stopped: the budget is closed, now or while this waits.
        """
        while not self._closed and self._used and self._used + weight > self._limit:
            self._used -= self._released.get()
        if self._closed:
            raise Stopped
        self._used += weight

    def release(self, weight: int) -> None:
        """Give room back."""
        self._released.put(weight)

    def close(self) -> None:
        """End every wait."""
        self._closed = True
        self._released.put(0)


def in_order(
    jobs: Iterator[J], opens: Opens[J, R], *, threads: int, ahead: int, weigh: Callable[[J], int] = lambda _: 1
) -> Generator[tuple[J, R]]:
    """Compute the results of jobs, in the order of the jobs.

    Everything is opened before the first job is read. Close this generator (`contextlib.closing`) to end early.

    Args:
        jobs: advanced in a thread of its own, which has ended when this generator has.
        opens: called once in each computing thread.
        threads: how many compute.
        ahead: most weight of the jobs that are read and not yet taken; one may be more by itself.
        weigh: memory that a job and its result hold. Defaults to 1 for each.

    Returns:
        A generator of each job with its result.

    Raises:
        Exception: whatever `jobs` or a computation raised.
    """
    stop, budget = Event(), Budget(ahead)
    todo: SimpleQueue[tuple[J, SimpleQueue[R | _Failure]] | None] = SimpleQueue()
    read: SimpleQueue[tuple[J, SimpleQueue[R | _Failure]] | _Failure | None] = SimpleQueue()
    opened: SimpleQueue[_Failure | None] = SimpleQueue()

    def read_jobs() -> None:
        with contextlib.suppress(Stopped):
            end: _Failure | None = None
            try:
                for job in jobs:
                    budget.acquire(weigh(job))
                    item: tuple[J, SimpleQueue[R | _Failure]] = job, SimpleQueue()
                    read.put(item)
                    todo.put(item)
            except Stopped:
                raise
            except BaseException as error:  # the caller's thread raises it
                end = _Failure(error)
            read.put(end)

    def compute() -> None:
        with contextlib.suppress(Stopped):
            try:
                with opens(stop) as work:
                    opened.put(None)
                    while (item := todo.get()) is not None and not stop.is_set():
                        job, done = item
                        try:
                            done.put(work(job))
                        except BaseException as error:  # likewise
                            done.put(_Failure(error))
            except Stopped:
                raise
            except BaseException as error:
                opened.put(_Failure(error))  # read by nobody where it is the closing: all results are there already

    computing = [Thread(target=compute, name=f"compute-{number}", daemon=True) for number in range(threads)]
    reading = Thread(target=read_jobs, name="read", daemon=True)
    try:
        for thread in computing:
            thread.start()
        for _ in computing:
            _value_of(opened.get())
        reading.start()
        while (taken := read.get()) is not None:
            job, done = _value_of(taken)
            budget.release(weigh(job))
            yield job, _value_of(done.get())
    finally:
        stop.set()
        budget.close()
        for _ in computing:
            todo.put(None)
        if reading.ident is not None:
            reading.join()
        ends = time.monotonic() + GRACE_S
        for thread in computing:
            if thread.ident is not None:
                thread.join(max(0.0, ends - time.monotonic()))
