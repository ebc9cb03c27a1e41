"""Measure how fast a server answers several clients at once, and whether the answers stay right.

Each client is a thread with a connection of its own, which sends its next request when the last one is answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from refine_export.errors import RefineExportError
from refine_export.runners.base import Arrays
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions

WARM_UPS = 2
"""Requests of each client before the clock starts."""
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """A request of a load test."""

    inputs: Arrays
    why_wrong: Callable[[Arrays], str | None]
    """Returns what is wrong with an answer; None where it is right."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Result for one model over one channel with a number of clients."""

    model: str
    channel: str
    concurrency: int
    """Number of clients."""
    size: tuple[int, int]
    """Height and width of the frames."""
    requests: int
    """Requests with a right answer."""
    errors: int
    """Requests that were refused, failed or had a wrong answer."""
    reason: str
    """Message of the first error."""
    seconds: float
    """Time from the first request to the last answer, without the warm-up."""
    latency_ms: dict[str, float]
    """`p50`, `p90`, `p95`, `p99` and `mean` of right answers, from array to array; empty where there was none."""

    @property
    def per_second(self) -> float:
        """Right answers per second."""
        return self.requests / self.seconds if self.seconds else 0.0


def measure_load(
    options: ServerOptions,
    channel: str,
    model: str,
    version: str,
    load_requests: Sequence[LoadRequest],
    size: tuple[int, int],
    *,
    concurrency: int,
    requests: int,
) -> Load:
    """Send requests in a closed loop.

    Args:
        options: the server.
        channel: name of the channel, for the result.
        model: its name.
        version: its number; empty for the server's choice.
        load_requests: sent in turn; each client begins with another one, which shows an answer that went to the wrong
            client.
        size: height and width of the frames, for the result.
        concurrency: number of clients.
        requests: number of requests of all clients together; at least one each.
    """
    once = replace(options, patience_s=0)  # a retry would hide a failure, and its pause would count as latency
    clients = []
    for number in range(concurrency):
        first = number % len(load_requests)
        count = max(1, requests // concurrency + (number < requests % concurrency))
        clients.append(_Client(once, model, version, [*load_requests[first:], *load_requests[:first]], count))
    begun: list[float] = []
    # All clients are connected and warm before the clock starts.
    barrier = threading.Barrier(concurrency, action=lambda: begun.append(time.perf_counter()))
    with ThreadPoolExecutor(concurrency) as threads:
        for future in [threads.submit(client.run, barrier) for client in clients]:
            future.result()
        seconds = time.perf_counter() - begun[0]
    times = [time_s for client in clients for time_s in client.seconds]
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
        latency_ms=_latency_ms(times),
    )


@dataclass
class _Client:
    """One thread's requests and results."""

    options: ServerOptions
    model: str
    version: str
    requests: Sequence[LoadRequest]
    count: int
    seconds: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def run(self, barrier: threading.Barrier) -> None:
        with TritonClient(self.options) as client:
            try:
                for number in range(WARM_UPS):
                    self._send(client, number)
            except RefineExportError as error:
                self.reasons.append(str(error))
                return
            finally:
                barrier.wait()  # in every case: the other clients wait for this one
            for number in range(self.count):
                started = time.perf_counter()
                try:
                    answer = self._send(client, number)
                except RefineExportError as error:
                    self.reasons.append(str(error))
                    continue
                seconds = time.perf_counter() - started
                if reason := self.requests[number % len(self.requests)].why_wrong(answer):
                    self.reasons.append(reason)
                else:
                    self.seconds.append(seconds)

    def _send(self, client: TritonClient, number: int) -> Arrays:
        return client.infer(self.model, self.requests[number % len(self.requests)].inputs, version=self.version)


def _latency_ms(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    percentiles = {f"p{percent}": float(np.percentile(seconds, percent) * 1e3) for percent in PERCENTILES}
    return percentiles | {"mean": float(np.mean(seconds) * 1e3)}
