"""Times of a video's frames."""

from __future__ import annotations

import shlex
from fractions import Fraction
from pathlib import Path
from typing import Any

from refine_export.errors import FrameError

LONGEST_S = 24 * 3600
"""Seconds for which a frame is shown at most: a damaged time would fill a disk with it at a constant rate."""


class Clock:
    """Gives every frame of a video its time, also where the file has none.

    A frame without a time of its own gets, in this order, its packet's, and that of the frame before plus one frame at
    the average rate.

    Args:
        path: what errors call the video.
        time_base: unit of the times, in seconds.
        rate: frames a second, on average.
        starts: given for a file that has no times of frames, as AVI: when the first one is shown. The packets' times
            are counted from there; those that FFmpeg gives to its frames go forth and back where there are B frames.
    """

    def __init__(self, path: Path, time_base: Fraction, rate: Fraction, starts: int | None = None) -> None:
        self.notes: list[str] = []
        self._path, self._rate = path, rate
        self._one_frame = max(1, round(1 / (rate * time_base)))
        self._longest = LONGEST_S / time_base
        self._count = 0
        self._last: int | None = None
        self._starts = starts
        self._first_dts: int | None = None

    def times_of(self, frame: Any) -> tuple[int, int]:
        """Return when the next frame is shown and for how long, in units of the time base.

        Raises:
            FrameError: it is not later than the frame before, or too late.
        """
        pts = self._own(frame)
        if pts is None:
            pts = (self._starts or 0) if self._last is None else self._last + self._one_frame
            if not self.notes and self._starts is None:
                self.notes.append("not all of its frames have a time: its average rate is taken for them")
        duration = int(frame.duration or 0) or self._one_frame
        advice = f"ffmpeg -i {shlex.quote(str(self._path))} -r {self._rate} -c:v ffv1 -c:a copy even.mkv"
        if self._last is not None and pts <= self._last:
            problem = f"has the time {pts} for frame {self._count}, after {self._last}; give its frames new times"
            raise FrameError.about(self._path, "frame-times-not-growing", f"{problem}: {advice}", frame=self._count)
        if max(duration, 0 if self._last is None else pts - self._last) > self._longest:
            problem = (
                f"shows a frame for more than {LONGEST_S // 3600} hours, at frame {self._count}: a time is damaged; "
            )
            problem += f"give its frames new times: {advice}"
            raise FrameError.about(self._path, "frame-times-jump", problem, frame=self._count)
        self._last = pts
        self._count += 1
        return pts, duration

    def _own(self, frame: Any) -> int | None:
        """Return the time that the file has for a frame."""
        if self._starts is None:
            return int(frame.pts) if frame.pts is not None else frame.dts
        if frame.dts is None:
            return None
        if self._first_dts is None:
            self._first_dts = frame.dts
        return int(frame.dts) - self._first_dts + self._starts
