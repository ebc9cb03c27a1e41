"""A queue between two threads that holds so many items at most, and that can be closed under both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 (no error: the work is over)
    """The line was closed."""


class Line(Generic[T]):
    """First in, first out; `put` waits while it is full and `get` while it is empty.

    Args:
        holds: the most; an item that is more by itself is held alone.
        weigh: how much an item is; without, each is 1.
    """

    def __init__(self, holds: int, weigh: Callable[[T], int] = lambda _: 1) -> None:
        self._items: deque[T] = deque()
        self._holds, self._weigh = holds, weigh
        self._held = 0
        self._changed = Condition()
        self._closed = False

    def put(self, item: T) -> None:
        """Add an item.

        Raises:
            Stopped: the line is closed, now or while this waits.
        """
        with self._changed:
            weight = self._weigh(item)
            self._changed.wait_for(lambda: self._closed or not self._items or self._held + weight <= self._holds)
            if self._closed:
                raise Stopped
            self._items.append(item)
            self._held += weight
            self._changed.notify_all()

    def get(self) -> T:
        """Take the first item.

        Raises:
            Stopped: the line is closed, now or while this waits; what is left in it is dropped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items)
            if self._closed:
                raise Stopped
            item = self._items.popleft()
            self._held -= self._weigh(item)
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """End it, and every wait on it."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
