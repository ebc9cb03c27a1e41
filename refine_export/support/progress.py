"""How a long job tells what it is doing; the library only calls, the CLI shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told of each step when it starts and, by the end of the block, when it is done."""

    def within(self, phase: str, done: int, steps: int) -> None:
        """Told how far a phase of the open step has come."""
        ...

    def step(self, label: str) -> AbstractContextManager[Callable[[str], None]]:
        """Enter when the step starts; what is entered takes a word on how it went, such as `reused`."""
        ...


class Silent:
    """Tells nobody."""

    def within(self, phase: str, done: int, steps: int) -> None:
        """Do nothing."""

    @contextmanager
    def step(self, label: str) -> Iterator[Callable[[str], None]]:
        """Do nothing."""
        yield lambda outcome: None
