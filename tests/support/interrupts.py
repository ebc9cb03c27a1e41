"""A real interrupt in the main thread, at any of its instructions: what Ctrl-C does while others compute."""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Have `_thread.interrupt_main` interrupt: a shell that starts the tests in the background has them ignore SIGINT.

    An interrupt in the middle of open() leaves closing the file to the garbage collector, which warns.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        signal.signal(signal.SIGINT, before)
