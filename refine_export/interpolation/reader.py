"""A video as pairs of consecutive frames, each with the frames of the output that come between them.

Frames are not turned, since the output keeps the display matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from refine_export.data.colour import ColourCoding, Picture, coding_from_frame, colour_notes, rgb_from_frame
from refine_export.data.deep_colour import floats_from_frame
from refine_export.data.picture_sequences import PictureDecoder, is_sequence, open_pictures
from refine_export.data.video import PIPE, RawVideo, VideoDecoder, open_video, stream_notes
from refine_export.errors import FrameError, RequestError
from refine_export.interpolation.interpolation_options import RAW, VideoOptions
from refine_export.interpolation.rates import Schedule, Shot, named_rate, schedule_for
from refine_export.interpolation.timing import Clock

WITHOUT_TIMES = ("avi",)  # formats that have packets at a rate, and no times of frames
MOST_AT_ONCE = 64
"""Frames of a gap that are held at a time: at a constant rate, a frame that is shown for an hour has any number."""
MOST_REPEATED = 3
"""Repeated frames in a row that are left out: more are a picture that stands still."""
PULLDOWN = (0, 1, 2, 3, 5)
"""Numbers of frames that are left where one of five repeats: 24 frames in 30."""
BLOCK, SAME = 16, 3 / 255
"""Side of the blocks by which frames are compared, and the mean difference that coding makes of equal ones."""


@dataclass
class SourceFrame:
    """A frame of the video."""

    frame: Any
    """The decoded `av.VideoFrame`."""
    coding: ColourCoding
    number: int
    pts: int
    """Time of presentation; this and the duration are in units of the stream's time base."""
    duration: int

    @cached_property
    def picture(self) -> Picture:
        """The same as RGB: uint8, or floats where it has more than 8 bits a channel."""
        if self.coding.bits > 8:
            return floats_from_frame(self.frame, self.coding)
        return rgb_from_frame(self.frame, self.coding)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A frame and the next one, with the output's frames from the first up to the second."""

    before: SourceFrame
    after: SourceFrame | None
    """None behind the last frame."""
    shots: tuple[Shot, ...]
    counts: bool = True
    """Its cut or stillness is counted: not with a later part of a frame that is shown for long, nor where an earlier
    run has written its first frames."""


class VideoSource:
    """An open video, read up to its first frame; made by `open_source`."""

    def __init__(self, video: VideoDecoder | PictureDecoder, options: VideoOptions, *, constant: bool) -> None:
        self._video, self._options = video, options
        self.path, self.container, self.stream = video.path, video.container, video.stream
        self._items = video.decode()
        first = next(self._items, None)
        if first is None:
            raise FrameError.about(self.path, "no-frames", "has no frames; expected two or more")
        self.first = first
        self.coding = coding_from_frame(self.first)
        self.size = (int(self.first.height), int(self.first.width))
        """Height and width in pixels."""
        self.notes = [*colour_notes(self.first, deep=True)]
        starts = None
        if self.container is not None and self.stream is not None and self.container.format.name in WITHOUT_TIMES:
            starts = int(self.stream.start_time or 0)
        self._clock = Clock(self.path, video.time_base, video.rate, starts)
        self._first = self._timed(self.first, 0)
        constant = constant or self.container is None or options.dedupe
        self.schedule: Schedule = schedule_for(options, video.time_base, video.rate, self._first.pts, constant=constant)
        self.read = 0
        """Frames that were read so far."""
        self.written = 0
        """Frames of the output up to the last one that was read."""
        self.repeated = 0
        """Frames that were left out, since they repeat the one before."""
        self._layouts = {self.first.format.name: 0}
        """Pixel format -> number of the first frame that has it."""
        if self.stream is not None:
            self.notes += stream_notes(self.stream)
        if self.first.interlaced_frame:
            self.notes.append("it is interlaced: its fields are not taken apart, and frames between may show combs")

    @property
    def expected_frames(self) -> int:
        """Number of frames of the output, as far as is known before all is read; 0 where it is not."""
        seconds = self._video.expected_frames / self._video.rate
        return round(seconds * self.schedule.stretch * self.schedule.rate)

    def gaps(self, skip: int = 0) -> Iterator[Gap]:
        """Read all frames with their next ones.

        Args:
            skip: frames of the output that are written already.

        Raises:
            FrameError: as `VideoDecoder.decode`, or the colours change, or the times do not grow; at that frame.
        """
        for before, after in self._pairs():
            if after is None:
                shots = self.schedule.behind(before.pts, before.pts + before.duration)
            else:
                shots = self.schedule.between(before.pts, after.pts)
            part, is_first = tuple(islice(shots, MOST_AT_ONCE)), True
            while part or is_first:
                left = part[max(0, skip - self.written) :]
                self.written += len(part)
                if left or not part:
                    yield Gap(before=before, after=after, shots=left, counts=is_first and len(left) == len(part))
                part, is_first = tuple(islice(shots, MOST_AT_ONCE)), False
        own, *others = self._layouts.items()
        self.notes += [
            f"frame {number} and others are {name}: they are encoded as {own[0]} is" for name, number in others
        ]
        self.notes += [*self._clock.notes, *self._video.notes]

    def _pairs(self) -> Iterator[tuple[SourceFrame, SourceFrame | None]]:
        before: SourceFrame | None = None
        for frame in with_even_pulldown(self._kept()) if self._options.dedupe else self._kept():
            if before is not None:
                yield before, frame
            before = frame
        if self.read == 1 or before is None:
            raise FrameError.about(self.path, "too-few-frames", "has one frame; expected two or more")
        yield before, None

    def _kept(self) -> Iterator[SourceFrame]:
        """Yield the frames that do not repeat the one before, and the last one."""
        kept, repeated = self._first, 0
        self.read = 1
        last = kept
        yield kept
        for number, frame in enumerate(self._items, 1):
            self._check_colours(frame, number)
            last = self._timed(frame, number)
            self.read += 1
            if self._options.dedupe and repeated < MOST_REPEATED and is_repeated(kept.picture, last.picture):
                repeated += 1
                self.repeated += 1
                continue
            yield last
            kept, repeated = last, 0
        if last is not kept:  # it ends the last interval, though it repeats the frame before
            self.repeated -= 1
            yield last

    def _timed(self, frame: Any, number: int) -> SourceFrame:
        return SourceFrame(frame, self.coding, number, *self._clock.times_of(frame))

    def _check_colours(self, frame: Any, number: int) -> None:
        """Refuse colours that change, since the output can name one kind only; note pixel formats that do."""
        self._layouts.setdefault(frame.format.name, number)
        if str(coding := coding_from_frame(frame)) != str(self.coding):
            problem = f"has frames in {self.coding}, then in {coding}; expected one kind: cut the video there"
            raise FrameError.about(self.path, "frame-colours-change", problem, frame=number)


def with_even_pulldown(frames: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
    """Give 24 frames in 30 the times of 24: the four that are left of five last 5/4 of a frame each.

    Holds five frames. What has another rhythm keeps its times.
    """
    held: list[SourceFrame] = []
    for frame in frames:
        held.append(frame)
        if len(held) == 5:
            if tuple(one.number - held[0].number for one in held) == PULLDOWN:
                start, length = held[0].pts, held[4].pts - held[0].pts
                for place in (1, 2, 3):
                    held[place].pts = start + round(length * place / 4)
                yield from held[:4]
                del held[:4]
            else:
                yield held.pop(0)
    yield from held


def is_repeated(frame0: Picture, frame1: Picture) -> bool:
    """Return whether two frames differ by no more than coding makes of equal ones, in every block."""
    difference = np.abs(frame0.astype(np.float32) - frame1) / (255 if frame0.dtype == np.uint8 else 1)
    for axis in (0, 1):
        starts = np.arange(0, difference.shape[axis], BLOCK)
        counts = np.diff([*starts, difference.shape[axis]])
        shape = [-1 if one == axis else 1 for one in range(3)]
        difference = np.add.reduceat(difference, starts, axis) / counts.reshape(shape)
    return bool(difference.max() <= SAME)


@contextmanager
def open_source(path: Path, options: VideoOptions | None = None, *, constant: bool = False) -> Iterator[VideoSource]:
    """Open a video, an animation or pictures with numbers, up to the first frame.

    Args:
        path: a file, a folder, a pattern such as `frame_%05d.png`, or `-` for standard input.
        options: what the output is to be; by default twice the frames.
        constant: keep to one rate where the intervals vary.

    Raises:
        FrameError: it is not a video, or its first frame cannot be used.
        RequestError: the rate asked for is below that of the video.
        UnavailableError: PyAV is missing.
    """
    options = options or VideoOptions()
    if options.raw_input is not None and path != PIPE:
        raise RequestError(
            f"raw_input is given with {path}; it describes standard input: leave it out, or give - and pipe the file",
            code="options-do-not-fit",
            option="raw_input",
        )
    opened: Any = (
        open_pictures(path, options.source_fps, allow_missing=options.allow_missing)
        if is_sequence(path)
        else open_video(path, allow_missing=options.allow_missing, raw=_raw_video(options))
    )
    with opened as video:
        yield VideoSource(video, options, constant=constant)


def _raw_video(options: VideoOptions) -> RawVideo | None:
    """Return the kind of frames that have no header; None where they have."""
    if options.raw_input is None or (match := RAW.fullmatch(options.raw_input)) is None:
        return None
    width, height, layout, rate = match.groups()
    exact = Fraction(rate) if "/" in rate else named_rate(float(rate))
    return RawVideo(size=(int(height), int(width)), layout=layout, rate=exact)
