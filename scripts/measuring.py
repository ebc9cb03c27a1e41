"""Tools of the benchmarks: Markdown tables, medians of calls in turn, and the peak memory of a process."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

CLI = (sys.executable, "-c", "from refine_export.cli.main import program; program()")

# A process of its own between this one and the one that is measured: Linux counts the memory of the process that
# starts another as the peak of the other, and this one has torch loaded.
_WATCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
output = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([seconds, peak / 2**20, output]))
"""


class Watched(NamedTuple):
    """Time and memory of a process, and its output."""

    seconds: float
    peak_gib: float
    output: str


def head(*names: str) -> None:
    """Print the first two lines of a table."""
    row(*names)
    row(*("---" for _ in names))


def row(*cells: object) -> None:
    """Print a line of a table as soon as it is known."""
    texts = (f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells)
    print(f"| {' | '.join(texts)} |", flush=True)


def in_turn(*calls: Callable[[], object], rounds: int = 5) -> list[float]:
    """Return the median seconds of each call, run A B A B after one warm-up: machines are shared and noisy."""
    seconds: list[list[float]] = [[] for _ in calls]
    for index in range(rounds + 1):
        for call, measured in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            if index:
                measured.append(time.perf_counter() - started)
    return [statistics.median(measured) for measured in seconds]


def watched(*command: str) -> Watched:
    """Run a program, and measure its wall time and its peak memory."""
    result = subprocess.run([sys.executable, "-c", _WATCH, *command], check=True, capture_output=True, text=True)
    return Watched(*json.loads(result.stdout))


def cli(*arguments: str) -> Watched:
    """Run the command line in a process of its own."""
    return watched(*CLI, *arguments)
