"""Times of the output's frames: each interval of the video divided, or a constant rate.

A time of the output is an exact fraction of the way between two frames of the video.

24 frames a second to 60: frame 3 is at 3/60 s, between frames 1 and 2 of the video, at 1/24 and 2/24 s: timestep 1/5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from refine_export.errors import RequestError
from refine_export.interpolation.interpolation_options import VideoOptions

LARGEST_DENOMINATOR = 10**9
"""Upper bound of a time base's denominator: libvpx takes no more, MP4 about twice that."""
COARSE = Fraction(1, 8)
"""Units of time, in frames, above which a frame is off an even rate by more than rounding."""
NTSC = Fraction(1000, 1001)
NAMED = Fraction(1, 200)  # 23.976 and 59.94 are written for 24000/1001 and 60000/1001


class Shot(NamedTuple):
    """A frame of the output."""

    timestep: Fraction
    """Place between two frames of the video, in [0, 1); at 0 it is the first of them."""
    pts: int
    """Time of presentation; this and the duration are in units of the schedule's time base."""
    duration: int


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """Says which frames the output has between two of the video."""

    source: Fraction
    """The video's time base, in seconds."""
    source_rate: Fraction
    """Its frames a second, on average."""
    first: int
    """Time of its first frame."""

    @property
    @abstractmethod
    def time_base(self) -> Fraction:
        """Unit of the output's times, in seconds; every one is whole, if an encoder takes such a unit."""

    @property
    @abstractmethod
    def rate(self) -> Fraction:
        """Frames a second of the output, on average."""

    @property
    @abstractmethod
    def parts(self) -> Fraction:
        """Frames of the output for one of the video."""

    @property
    def stretch(self) -> Fraction:
        """Seconds of the output for one of the video."""
        return self.parts * self.source_rate / self.rate

    @abstractmethod
    def between(self, before: int, after: int) -> Iterator[Shot]:
        """Yield the output's frames from one of the video up to the next, by their times in the video's units."""

    def behind(self, last: int, end: int) -> Iterator[Shot]:
        """Yield the frames that hold the video's last one until its end."""
        return (shot._replace(timestep=Fraction(0)) for shot in self.between(last, end))

    def _seconds(self, pts: int) -> Fraction:
        """Return a time of the video from its first frame.

        A container's unit, as Matroska's of 1 ms, rounds the times of an even rate: they are taken as even again.
        """
        since = (pts - self.first) * self.source
        even = round(since * self.source_rate) / self.source_rate
        is_rounded = abs(since - even) < self.source and self.source * self.source_rate <= COARSE
        return even if is_rounded else since

    def _unit_of(self, *times: Fraction) -> Fraction:
        """Return the largest unit in which the start of the video and some times are whole numbers."""
        unit = self.first * self.source
        for time in times:
            over = math.lcm(unit.denominator, time.denominator)
            unit = Fraction(math.gcd(int(unit * over), int(time * over)), over)
        return unit if unit.denominator <= LARGEST_DENOMINATOR else Fraction(1, LARGEST_DENOMINATOR)


@dataclass(frozen=True, kw_only=True)
class Division(Schedule):
    """Every interval in equal parts: a rate that varies goes on varying."""

    times: int
    """Parts of each interval."""

    @property
    def time_base(self) -> Fraction:
        """Unit of the output's times, in seconds."""
        return self._unit_of(self.source / self.times, 1 / self.rate)

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return self.source_rate * self.times

    @property
    def parts(self) -> Fraction:
        """Frames of the output for one of the video."""
        return Fraction(self.times)

    def between(self, before: int, after: int) -> Iterator[Shot]:
        """Divide the interval."""
        start, end = self._seconds(before), self._seconds(after)
        begins, unit = self.first * self.source, self.time_base
        times = [round((begins + start + (end - start) * part / self.times) / unit) for part in range(self.times + 1)]
        for part in range(self.times):
            yield Shot(Fraction(part, self.times), times[part], times[part + 1] - times[part])


@dataclass(frozen=True, kw_only=True)
class Grid(Schedule):
    """A constant rate, from the video's first frame to its end."""

    target: Fraction
    """The rate."""
    slow: Fraction = Fraction(1)
    """Seconds of the output for one of the video."""

    @property
    def time_base(self) -> Fraction:
        """Unit of the output's times, in seconds."""
        return self._unit_of(1 / self.target)

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return self.target

    @property
    def parts(self) -> Fraction:
        """Frames of the output for one of the video."""
        return self.target * self.slow / self.source_rate

    def between(self, before: int, after: int) -> Iterator[Shot]:
        """Yield the frames at the times of the rate."""
        start, end = self._seconds(before) * self.slow, self._seconds(after) * self.slow
        begins, unit = self.first * self.source, self.time_base
        step = round(1 / self.target / unit)
        for number in range(math.ceil(start * self.target), math.ceil(end * self.target)):
            time = number / self.target
            yield Shot((time - start) / (end - start), round((begins + time) / unit), step)


def schedule_for(
    options: VideoOptions, time_base: Fraction, rate: Fraction, first: int, *, constant: bool = False
) -> Schedule:
    """Decide on the times of the output.

    Args:
        options: `fps`, `times` and `slow`.
        time_base: unit of the video's times, in seconds.
        rate: frames a second of the video, on average.
        first: time of its first frame.
        constant: keep to one rate where the intervals vary.

    Raises:
        RequestError: `fps-below-source`.
    """
    slow = Fraction(1) if options.slow is None else fraction_from(options.slow)
    times = Fraction(2 if options.slow is None else 1) if options.times is None else fraction_from(options.times)
    target = rate * times if options.fps is None else named_rate(options.fps)
    check_rate(target, rate / slow)
    if options.fps is None and times.denominator == 1 and slow == 1 and not constant:
        return Division(source=time_base, source_rate=rate, first=first, times=int(times))
    return Grid(source=time_base, source_rate=rate, first=first, target=target, slow=slow)


def check_rate(fps: Fraction, source: Fraction) -> None:
    """Refuse a rate below that of the frames that there are."""
    if fps < source * (1 - NAMED / 10):
        raise RequestError(
            f"{float(fps):g} frames a second are asked for, and there are {float(source):g}; expected more: frames are "
            "put between, none are taken out",
            code="fps-below-source",
            fps=fps,
            source=source,
        )


def named_rate(fps: float) -> Fraction:
    """Return the exact rate that a number stands for: 59.94 is 60000/1001."""
    whole = round(fps / NTSC)
    if fps != round(fps) and abs(Fraction(fps) - whole * NTSC) < NAMED:
        return whole * NTSC
    return fraction_from(fps)


def fraction_from(number: float) -> Fraction:
    """Return the simple fraction that a decimal number stands for."""
    return Fraction(number).limit_denominator(1000)
