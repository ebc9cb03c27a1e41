"""Wait for what happens in another thread or process."""

import time
from collections.abc import Callable


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds; only what hangs takes so long."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"it did not come true within {seconds} s"
        time.sleep(0.02)
