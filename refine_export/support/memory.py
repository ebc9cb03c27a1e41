"""Memory that the process has freed, back to the system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def return_freed_memory() -> None:
    """Return to the system what the C library keeps of freed memory.

    glibc keeps blocks of up to 32 MiB for the next allocation, in several heaps: after a run of torch on frames of
    1088x1920 about 300 MiB, which the next runtime does not use. Does nothing where the C library is another one.
    """
    if trim := _trim():
        trim(0)


@functools.cache
def _trim() -> Callable[[int], object] | None:
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # Windows has no such handle, macOS and musl no such function
        return None
    return found
