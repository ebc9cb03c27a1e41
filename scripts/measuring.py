"""Tools of the scripts that measure: Markdown tables, medians of calls in turn, and the peak memory of a process."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from refine_export.runners.latency import measure_in_turn

CLI = (sys.executable, "-c", "from refine_export.cli.main import program; program()")

# A process of its own between this one and the one that is measured: Linux counts the memory of the process that
# starts another as the peak of the other, and this one has torch loaded.
_WATCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20]))
"""


class Watched(NamedTuple):
    """Time and memory of a process."""

    seconds: float
    processor_s: float
    peak_gib: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.processor_s:.1f} s of processor time), peak {self.peak_gib:.2f} GiB"


def head(*names: str) -> None:
    """Print the first two lines of a table."""
    row(*names)
    row(*("---" for _ in names))


def row(*cells: object) -> None:
    """Print a line of a table as soon as it is known."""
    texts = (f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells)
    print(f"| {' | '.join(texts)} |", flush=True)


def medians(
    *calls: Callable[[], object], rounds: int = 5, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the median seconds of each call, measured in turn after a warm-up: machines are shared and noisy."""
    measured = measure_in_turn(dict(enumerate(calls)), rounds, clock=clock)
    return [statistics.median(seconds) for seconds in measured.values()]


def cli(*arguments: object) -> Watched:
    """Run the command line in a process of its own, and measure its time and its peak memory."""
    command = [sys.executable, "-c", _WATCH, *CLI, *map(str, arguments)]
    return Watched(*json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
