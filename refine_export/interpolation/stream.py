"""Work on a stream in threads: one reads, several compute, the caller takes the results in order.

What is held does not grow with the length: jobs of no more weight than `ahead` are read and not yet taken, and one
more in each hand. Whatever fails, wherever, all threads end and the caller gets the error once, after the results
before it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from threading import Event, Thread
from typing import TypeVar

from refine_export.interpolation.bounded_queue import Line, Stopped

J = TypeVar("J")
R = TypeVar("R")
Opens = Callable[[Event], AbstractContextManager[Callable[[J], R]]]
"""Opens what one thread computes with; the event is set when it is to give up."""

GRACE_S = 5.0
"""How long computations that are under way are waited for when all ends early."""


def in_order(
    jobs: Iterator[J], opens: Opens[J, R], *, threads: int, ahead: int, weigh: Callable[[J], int] = lambda _: 1
) -> Generator[tuple[J, R]]:
    """Each job with its result, in the order of the jobs.

    Everything is opened before the first job is read. Close this generator (`contextlib.closing`) to end early.

    Args:
        jobs: advanced in a thread of its own, which has ended when this generator has.
        opens: called once in each computing thread.
        threads: how many compute.
        ahead: most weight of the jobs that are read and not yet taken; one may be more by itself.
        weigh: how much a job and its result hold; without, each is 1.

    Raises:
        Exception: whatever `jobs` or a computation raised.
    """
    stop = Event()
    todo: Line[tuple[J, Future[R]]] = Line(ahead)
    results: Line[tuple[J, Future[R]] | BaseException | None] = Line(
        ahead, lambda taken: weigh(taken[0]) if isinstance(taken, tuple) else 0
    )
    opened: Line[BaseException | None] = Line(threads)
    computing = [
        Thread(target=_compute, args=(opens, todo, opened, stop), name=f"compute-{number}", daemon=True)
        for number in range(threads)
    ]
    reading = Thread(target=_read, args=(jobs, todo, results), name="read", daemon=True)
    try:
        for thread in computing:
            thread.start()
        for _ in computing:
            if (error := opened.get()) is not None:
                raise error
        reading.start()
        while (taken := results.get()) is not None:
            if isinstance(taken, BaseException):
                raise taken
            job, future = taken
            yield job, future.result()
    finally:
        stop.set()
        for line in (todo, results, opened):
            line.close()
        if reading.ident is not None:
            reading.join()
        ends = time.monotonic() + GRACE_S
        for thread in computing:
            if thread.ident is not None:
                thread.join(max(0.0, ends - time.monotonic()))


def _read(
    jobs: Iterator[J],
    todo: Line[tuple[J, Future[R]]],
    results: Line[tuple[J, Future[R]] | BaseException | None],
) -> None:
    with contextlib.suppress(Stopped):
        try:
            for job in jobs:
                future: Future[R] = Future()
                results.put((job, future))
                todo.put((job, future))
        except Stopped:
            raise
        except BaseException as error:  # the caller's thread raises it
            results.put(error)
        else:
            results.put(None)


def _compute(
    opens: Opens[J, R], todo: Line[tuple[J, Future[R]]], opened: Line[BaseException | None], stop: Event
) -> None:
    with contextlib.suppress(Stopped):
        try:
            with opens(stop) as compute:
                opened.put(None)
                while True:
                    job, future = todo.get()
                    try:
                        future.set_result(compute(job))
                    except BaseException as error:  # likewise
                        future.set_exception(error)
        except Stopped:
            raise
        except BaseException as error:  # it could not be opened; when it could not be closed, nobody listens
            opened.put(error)
