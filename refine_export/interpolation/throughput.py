"""How fast frames are made, and how long it takes yet."""

from __future__ import annotations

import time

from refine_export.support.progress import Progress

REPORT_S = 0.2  # between two words on the progress


def pace(done: int, total: int, seconds: float) -> str:
    """Frames a second, and the time that is left: `12.3 frames/s, 1:05 left`."""
    rate = done / max(seconds, 1e-9)
    left_s = round(max(0, total - done) / rate) if rate else 0
    text = f"{rate:.1f} frames/s"
    return f"{text}, {left_s // 60}:{left_s % 60:02} left" if total else text


class Told:
    """Tells the progress at most every `REPORT_S` seconds."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = max(0, total)
        self._started = self._last = time.perf_counter()

    def tell(self, done: int) -> None:
        """Of frames that are written."""
        now = time.perf_counter()
        if now - self._last >= REPORT_S:
            self._last = now
            self._progress.within(pace(done, self._total, now - self._started), done, max(done, self._total))
