"""Measure how fast a server answers several clients at once, and whether the answers stay right.

Each client is a thread with a connection of its own, which sends its next request when the last one is answered.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

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
    """Function that returns the fault of an answer; None where it is right."""


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
        model: its name.
        version: its number; empty for the server's choice.
        load_requests: sent in turn; each client begins with another one, which shows an answer that went to the wrong
            client.
        size: height and width of the frames, for the result.
        concurrency: number of clients.
        requests: number of requests of all clients together; at least one each.
    """
    once = replace(options, patience_s=0)  # a retry would hide a failure, and its pause would count as latency
    begun: list[float] = []
    # All clients are connected and warm before the clock starts.
    barrier = threading.Barrier(concurrency, action=lambda: begun.append(time.perf_counter()))

    def send_all(number: int) -> tuple[list[float], list[str]]:
        first = number % len(load_requests)
        in_turn = [*load_requests[first:], *load_requests[:first]]
        count = max(1, requests // concurrency + (number < requests % concurrency))
        with TritonClient(once) as client:
            return _send_requests(client, model, version, in_turn, count, barrier)

    with ThreadPoolExecutor(concurrency) as threads:
        results = list(threads.map(send_all, range(concurrency)))
        seconds = time.perf_counter() - begun[0]
    times = [time_s for of_client, _ in results for time_s in of_client]
    reasons = [reason for _, of_client in results for reason in of_client]
    return Load(
        model=model,
        channel=options.channel,
        concurrency=concurrency,
        size=size,
        requests=len(times),
        errors=len(reasons),
        reason=reasons[0] if reasons else "",
        seconds=seconds,
        latency_ms=_latency_ms(times),
    )


def _send_requests(
    client: TritonClient,
    model: str,
    version: str,
    requests: Sequence[LoadRequest],
    count: int,
    barrier: threading.Barrier,
) -> tuple[list[float], list[str]]:
    """Return the latencies of one client's right answers, and the reasons of its errors."""
    seconds: list[float] = []
    try:
        for _, request in zip(range(WARM_UPS), itertools.cycle(requests), strict=False):
            client.infer(model, request.inputs, version=version)
    except RefineExportError as error:
        return [], [str(error)]
    finally:
        barrier.wait()  # in every case: the other clients wait for this one
    reasons: list[str] = []
    for _, request in zip(range(count), itertools.cycle(requests), strict=False):
        started = time.perf_counter()
        try:
            answer = client.infer(model, request.inputs, version=version)
        except RefineExportError as error:
            reasons.append(str(error))
            continue
        latency = time.perf_counter() - started
        if reason := request.why_wrong(answer):
            reasons.append(reason)
        else:
            seconds.append(latency)
    return seconds, reasons


def _latency_ms(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    percentiles = {f"p{percent}": float(np.percentile(seconds, percent) * 1e3) for percent in PERCENTILES}
    return percentiles | {"mean": float(np.mean(seconds) * 1e3)}
