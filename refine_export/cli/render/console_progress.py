"""Progress on standard error, so that results on standard output can be piped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from refine_export.support.progress import Progress, Silent
from refine_export.support.text import clean

if TYPE_CHECKING:
    from rich.status import Status


class ConsoleProgress:
    """A spinner with the time on a terminal; elsewhere a plain line when a step starts and when it is done."""

    def __init__(self) -> None:
        from rich.console import Console  # not needed by --help

        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._label = ""

    def within(self, phase: str, done: int, steps: int) -> None:
        """Show how far a phase of the step has come, on a terminal."""
        if self._status is not None:
            self._status.update(f"{self._label}: {_plain(phase)} {done}/{steps}")

    @contextmanager
    def step(self, label: str) -> Iterator[Callable[[str], None]]:
        """Show a step while it lasts, and how it went."""
        outcome: list[str] = []
        started = time.perf_counter()
        self._label = _plain(label)
        if self._console.is_terminal:
            with self._console.status(self._label) as self._status:
                yield outcome.append
            self._status = None
        else:
            self._console.print(f"{self._label} ...", soft_wrap=True)
            yield outcome.append
        seconds = time.perf_counter() - started
        result = f": {_plain(outcome[-1])}" if outcome else ""
        self._console.print(f"{_plain(label)}{result} ({seconds:.1f} s)", soft_wrap=True)


class JsonProgress:
    """One JSON object a line on standard error: steps as they start and end, and how far each is."""

    def __init__(self) -> None:
        self._label = ""
        self._started = 0.0
        self._first: int | None = None

    def within(self, phase: str, done: int, steps: int) -> None:
        """Write how far the step is: frames or other units done, of how many, how many a second, seconds left."""
        seconds = time.perf_counter() - self._started
        first = self._first = done if self._first is None else self._first
        rate = (done - first) / seconds if seconds else 0.0
        left = (steps - done) / rate if rate and steps else None
        self._write(event="progress", done=done, total=steps or None, rate=round(rate, 3), seconds_left=left)

    @contextmanager
    def step(self, label: str) -> Iterator[Callable[[str], None]]:
        """Write that a step starts, and how it ended."""
        outcome: list[str] = []
        self._label, self._started, self._first = label, time.perf_counter(), None
        self._write(event="start")
        yield outcome.append
        self._write(event="end", outcome=outcome[-1] if outcome else None)

    def _write(self, **fields: object) -> None:
        seconds = round(time.perf_counter() - self._started, 3)
        sys.stderr.write(json.dumps({"step": self._label, **fields, "seconds": seconds}) + "\n")
        sys.stderr.flush()


def make_progress(quiet: bool) -> Progress:
    """Return progress on standard error, or none."""
    return Silent() if quiet else ConsoleProgress()


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(clean(text))
