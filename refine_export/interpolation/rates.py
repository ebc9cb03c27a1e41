"""Times of the output's frames: each interval of the video divided, or a constant rate.

A time of the output is an exact fraction of the way between two frames of the video.

24 frames a second to 60: frame 3 is at 3/60 s, between frames 1 and 2 of the video, at 1/24 and 2/24 s: timestep 1/5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from refine_export.errors import RequestError
from refine_export.interpolation.interpolation_options import VideoOptions

LARGEST_DENOMINATOR = 10**9
"""Upper bound of a time base's denominator: libvpx takes no more, MP4 about twice that."""
COARSE = Fraction(1, 8)
"""Units of time, in frames, from which rounding is no longer what moves a frame from an even rate."""
NTSC = Fraction(1000, 1001)
NAMED = Fraction(1, 200)  # 23.976 and 59.94 are written for 24000/1001 and 60000/1001


class Shot(NamedTuple):
    """A frame of the output."""

    timestep: Fraction
    """Place between two frames of the video, in [0, 1); at 0 it is the first of them."""
    pts: int
    """Time of presentation; this and the duration are in units of the schedule's time base."""
    duration: int


class Schedule(ABC):
    """Says which frames the output has between two of the video."""

    time_base: Fraction
    """Unit of the output's times, in seconds."""
    rate: Fraction
    """Frames a second of the output, on average."""

    @abstractmethod
    def between(self, before: int, after: int) -> Sequence[Shot]:
        """Return the output's frames from one of the video up to the next, by their times in the video's units."""

    def behind(self, last: int, end: int) -> Sequence[Shot]:
        """Return the frames that hold the video's last one until its end."""
        return [shot._replace(timestep=Fraction(0)) for shot in self.between(last, end)]


@dataclass(frozen=True, kw_only=True)
class Division(Schedule):
    """Every interval in equal parts: a rate that varies goes on varying."""

    source: Fraction
    """The video's time base, in seconds."""
    source_rate: Fraction
    times: int
    """Parts of each interval."""

    @property
    def time_base(self) -> Fraction:  # type: ignore[override]
        """Unit in which each part of each interval is a whole number, if an encoder takes it."""
        finer = self.source / self.times
        return finer if finer.denominator <= LARGEST_DENOMINATOR else Fraction(1, LARGEST_DENOMINATOR)

    @property
    def rate(self) -> Fraction:  # type: ignore[override]
        """Frames a second, on average."""
        return self.source_rate * self.times

    def between(self, before: int, after: int) -> Sequence[Shot]:
        """Divide the interval."""
        times = [
            round((before + Fraction((after - before) * part, self.times)) * self.source / self.time_base)
            for part in range(self.times + 1)
        ]
        return [
            Shot(Fraction(part, self.times), times[part], times[part + 1] - times[part]) for part in range(self.times)
        ]


@dataclass(frozen=True, kw_only=True)
class Grid(Schedule):
    """A constant rate, from the video's first frame to its end."""

    source: Fraction
    """The video's time base, in seconds."""
    source_rate: Fraction
    rate: Fraction
    first: int
    """Time of the video's first frame."""
    stretch: Fraction = Fraction(1)
    """Seconds of the output for one of the video."""

    @property
    def time_base(self) -> Fraction:  # type: ignore[override]
        """Unit in which the start and every frame are whole numbers, if an encoder takes it."""
        start, step = self.first * self.source, 1 / self.rate
        unit = Fraction(
            math.gcd(start.numerator * step.denominator, step.numerator * start.denominator),
            start.denominator * step.denominator,
        )
        return unit if unit.denominator <= LARGEST_DENOMINATOR else Fraction(1, LARGEST_DENOMINATOR)

    def between(self, before: int, after: int) -> Sequence[Shot]:
        """Return the frames at the times of the rate."""
        start, end = self._seconds(before), self._seconds(after)
        numbers = range(math.ceil(start * self.rate), math.ceil(end * self.rate))
        pts = [round((self.first * self.source + number / self.rate) / self.time_base) for number in numbers]
        step = round(1 / self.rate / self.time_base)
        return [
            Shot((number / self.rate - start) / (end - start), time, step)
            for number, time in zip(numbers, pts, strict=True)
        ]

    def _seconds(self, pts: int) -> Fraction:
        """Return a time of the video in the output, from the first frame.

        A container's unit, as Matroska's of 1 ms, rounds the times of an even rate: they are taken as even again.
        """
        since = (pts - self.first) * self.source
        even = round(since * self.source_rate) / self.source_rate
        if abs(since - even) <= self.source and self.source * self.source_rate <= COARSE:
            since = even
        return since * self.stretch


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
    if target < rate / slow * (1 - NAMED / 10):
        raise RequestError(
            f"fps is {float(target):g}, and the video has {float(rate / slow):g}{' when slowed' if slow > 1 else ''}; "
            "expected more: frames are put between, none are taken out",
            code="fps-below-source",
            fps=target,
            source=rate / slow,
        )
    if options.fps is None and times.denominator == 1 and slow == 1 and not constant:
        return Division(source=time_base, source_rate=rate, times=int(times))
    return Grid(source=time_base, source_rate=rate, rate=target, first=first, stretch=slow)


def named_rate(fps: float) -> Fraction:
    """Return the exact rate that a number stands for: 59.94 is 60000/1001."""
    whole = round(fps / NTSC)
    if fps != round(fps) and abs(Fraction(fps) - whole * NTSC) < NAMED:
        return whole * NTSC
    return fraction_from(fps)


def fraction_from(number: float) -> Fraction:
    """Return the simple fraction that a decimal number stands for."""
    return Fraction(number).limit_denominator(1000)


def parts_of(schedule: Schedule) -> Fraction:
    """Return into how many parts each interval of an even rate is divided."""
    if isinstance(schedule, Grid):
        return schedule.rate * schedule.stretch / schedule.source_rate
    assert isinstance(schedule, Division)
    return Fraction(schedule.times)
