"""Work on a stream in threads: one reads, several compute, the caller takes the results in order.

What is held does not grow with the length: jobs of no more weight than `ahead` are read and not yet taken, one more
waits for room, and the caller has one. Whatever fails, all threads end and the caller gets the error once, after the
results before it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from queue import SimpleQueue
from threading import Condition, Event, Thread
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")
Opens = Callable[[Event], AbstractContextManager[Callable[[J], R]]]
"""Opens what one thread computes with; the event is set when it is to give up."""

GRACE_S = 5.0
"""Seconds to wait for computations that are under way when all ends early."""


class Stopped(Exception):  # noqa: N818 (it is not an error: the work is over)
    """The stream was closed."""


class Budget:
    """Upper bound of the weight in use; a heavier job runs by itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._closed = False
        self._changed = Condition()

    def acquire(self, weight: int) -> None:
        """Wait until there is room.

        Raises:
            Stopped: the budget is closed, now or while this waits.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._used or self._used + weight <= self._limit)
            if self._closed:
                raise Stopped
            self._used += weight

    def release(self, weight: int) -> None:
        """Give room back."""
        with self._changed:
            self._used -= weight
            self._changed.notify_all()

    def close(self) -> None:
        """End every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


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
    todo: SimpleQueue[tuple[J, Future[R]] | None] = SimpleQueue()
    read: SimpleQueue[tuple[J, Future[R]] | BaseException | None] = SimpleQueue()
    opened: list[Future[None]] = [Future() for _ in range(threads)]

    def read_jobs() -> None:
        with contextlib.suppress(Stopped):
            end: BaseException | None = None
            try:
                for job in jobs:
                    budget.acquire(weigh(job))
                    item: tuple[J, Future[R]] = job, Future()
                    read.put(item)
                    todo.put(item)
            except Stopped:
                raise
            except BaseException as error:  # the caller's thread raises it
                end = error
            read.put(end)

    def compute(ready: Future[None]) -> None:
        with contextlib.suppress(Stopped):
            try:
                with opens(stop) as work:
                    ready.set_result(None)
                    while (item := todo.get()) is not None and not stop.is_set():
                        job, future = item
                        try:
                            future.set_result(work(job))
                        except BaseException as error:  # likewise
                            future.set_exception(error)
            except Stopped:
                raise
            except BaseException as error:
                if not ready.done():  # where it could not be closed, all results are there already
                    ready.set_exception(error)

    computing = [
        Thread(target=compute, args=(ready,), name=f"compute-{number}", daemon=True)
        for number, ready in enumerate(opened)
    ]
    reading = Thread(target=read_jobs, name="read", daemon=True)
    try:
        for thread in computing:
            thread.start()
        for ready in opened:
            ready.result()
        reading.start()
        while (taken := read.get()) is not None:
            if isinstance(taken, BaseException):
                raise taken
            job, future = taken
            budget.release(weigh(job))
            yield job, future.result()
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
