"""Progress of a long job: the library calls, the CLI shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Receives each step of a job."""

    def within(self, phase: str, done: int, steps: int) -> None:
        """Receive how far a phase of the current step is."""
        ...

    def step(self, label: str) -> AbstractContextManager[Callable[[str], None]]:
        """Enter a step; the value takes a remark on its outcome, such as `reused`."""
        ...


class Silent:
    """Shows nothing."""

    def within(self, phase: str, done: int, steps: int) -> None:
        """Do nothing."""

    @contextmanager
    def step(self, label: str) -> Iterator[Callable[[str], None]]:
        """Do nothing."""
        yield lambda outcome: None
