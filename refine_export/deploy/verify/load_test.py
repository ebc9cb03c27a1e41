"""How fast a server answers, and whether it still answers rightly, when several clients ask at once.

Each client is a thread with a connection of its own, which sends its next request when the last was answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from refine_export.errors import RefineExportError
from refine_export.runners.triton.client import ServerOptions, TritonClient

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

WARM_UPS = 2
"""Requests of each client before the clock starts."""
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, and what to make of its answer."""

    inputs: Arrays
    wrong: Callable[[Arrays], str | None]
    """What is wrong with an answer; None where nothing is."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One model over one channel, asked by so many clients at once."""

    model: str
    channel: str
    concurrency: int
    size: tuple[int, int]
    """Height and width."""
    requests: int
    """That were answered rightly."""
    errors: int
    """That were refused, failed or were answered wrongly."""
    reason: str
    """Of the first error."""
    seconds: float
    """From the first request to the last answer, warm-up left out."""
    latency_ms: dict[str, float]
    """`p50`, `p90`, `p95`, `p99` and `mean` of a request, from array to array, of those that were answered rightly;
    empty where none was."""

    @property
    def per_second(self) -> float:
        """Right answers per second."""
        return self.requests / self.seconds if self.seconds else 0.0


def measure_load(
    options: ServerOptions,
    channel: str,
    model: str,
    version: str,
    questions: Sequence[Question],
    size: tuple[int, int],
    *,
    concurrency: int,
    requests: int,
) -> Load:
    """Ask in a closed loop.

    Args:
        options: the server.
        channel: what it is called.
        model: its name.
        version: its number; empty for the server's choice.
        questions: every client begins with another one, so that an answer that went to the wrong client is seen.
        size: of the frames, for the record.
        concurrency: how many clients.
        requests: of all clients together, at least one each.
    """
    clients = []
    for number in range(concurrency):
        first = number % len(questions)
        count = max(1, requests // concurrency + (number < requests % concurrency))
        clients.append(_Client(model, version, [*questions[first:], *questions[:first]], count))
    once = replace(options, patience_s=0)  # what is asked twice is no measure, and a failure is to be seen
    begun: list[float] = []
    barrier = threading.Barrier(concurrency, action=lambda: begun.append(time.perf_counter()))
    with ThreadPoolExecutor(concurrency) as threads:
        working = [threads.submit(client.work, once, barrier) for client in clients]
        for work in working:
            work.result()
        seconds = time.perf_counter() - begun[0]
    times = [took for client in clients for took in client.seconds]
    reasons = [reason for client in clients for reason in client.reasons]
    return Load(
        model=model,
        channel=channel,
        concurrency=concurrency,
        size=size,
        requests=len(times),
        errors=len(reasons),
        reason=reasons[0] if reasons else "",
        seconds=seconds,
        latency_ms=_latency(times),
    )


class _Client:
    """One thread's work and what came of it."""

    def __init__(self, model: str, version: str, questions: Sequence[Question], count: int) -> None:
        self._model, self._version, self._questions, self._count = model, version, questions, count
        self.seconds: list[float] = []
        self.reasons: list[str] = []

    def work(self, options: ServerOptions, barrier: threading.Barrier) -> None:
        with TritonClient(options) as client:
            try:
                for number in range(WARM_UPS):
                    question = self._questions[number % len(self._questions)]
                    client.infer(self._model, question.inputs, version=self._version)
            except RefineExportError as error:
                self.reasons.append(str(error))
                return
            finally:
                barrier.wait()
            for number in range(self._count):
                self._ask(client, self._questions[number % len(self._questions)])

    def _ask(self, client: TritonClient, question: Question) -> None:
        started = time.perf_counter()
        try:
            answer = client.infer(self._model, question.inputs, version=self._version)
        except RefineExportError as error:
            self.reasons.append(str(error))
            return
        took = time.perf_counter() - started
        if reason := question.wrong(answer):
            self.reasons.append(reason)
        else:
            self.seconds.append(took)


def _latency(seconds: Sequence[float]) -> dict[str, float]:
    import numpy as np

    if not seconds:
        return {}
    values = {f"p{percent}": float(np.percentile(seconds, percent) * 1e3) for percent in PERCENTILES}
    return values | {"mean": float(np.mean(seconds) * 1e3)}
