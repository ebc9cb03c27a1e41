"""A video as pairs of consecutive frames with their times, and the packets of its sound.

Frames are not turned, since the output keeps the display matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from refine_export.data.colour import Picture, coding_from_frame, colour_notes, rgb_from_frame
from refine_export.data.video import VideoDecoder, open_video
from refine_export.errors import FrameError
from refine_export.interpolation.timing import Clock
from refine_export.support.imports import require

WITHOUT_TIMES = ("avi",)  # formats that have packets at a rate, and no times of frames


@dataclass(frozen=True, kw_only=True)
class SourceFrame:
    """A frame of the video."""

    frame: Any
    """The decoded `av.VideoFrame`."""
    picture: Picture
    """The same as RGB."""
    pts: int
    """Time of presentation; this and the duration are in units of the stream's time base."""
    duration: int


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A frame and the next one; what comes between them is to be made."""

    before: SourceFrame
    after: SourceFrame | None
    """None behind the last frame."""


class VideoSource:
    """An open video, read up to its first frame; made by `open_source`."""

    def __init__(self, video: VideoDecoder, *, audio: bool) -> None:
        self._video = video
        self._packet: Any = require("av", extra="video").Packet
        self.path, self.container, self.stream = video.path, video.container, video.stream
        self.sound = tuple(self.container.streams.audio)
        self.time_base, self.rate = Fraction(self.stream.time_base), video.rate
        self._items = video.decode(with_sound=audio)
        self._early: list[Any] = []  # sound before the first frame, without which no output can be opened
        for item in self._items:
            if not isinstance(item, self._packet):
                self.first = item
                break
            self._early.append(item)
        else:
            raise FrameError.about(self.path, "no-frames", "has no frames; expected two or more")
        self.coding = coding_from_frame(self.first)
        self.size = (int(self.first.height), int(self.first.width))
        """Height and width in pixels."""
        self.notes = [*colour_notes(self.first)]
        if self.first.interlaced_frame:
            self.notes.append("it is interlaced: its fields are not taken apart, and frames between may show combs")
        kinds = [one.type for one in self.container.streams if one.index != self.stream.index and one.type != "audio"]
        if kinds:
            left_out = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
            self.notes.append(f"left out: {left_out}")

    @property
    def expected_frames(self) -> int:
        """Number of frames by the video's header, or by its length; 0 where it has neither."""
        seconds = float(self.container.duration or 0) / 1e6
        return int(self.stream.frames or round(seconds * float(self.rate)))

    def gaps(self) -> Iterator[Any]:
        """Read all frames with their next ones, and the packets of the sound where they stand among them.

        Returns:
            An iterator over `Gap` and `av.Packet`.

        Raises:
            FrameError: as `VideoDecoder.decode`, or the colours change, or the times do not grow; at that frame.
        """
        starts = int(self.stream.start_time or 0) if self.container.format.name in WITHOUT_TIMES else None
        clock = Clock(self.path, self.time_base, self.rate, starts)
        before: SourceFrame | None = None
        for item in self._all():
            if isinstance(item, self._packet):
                yield item
                continue
            self._check_colours(item)
            pts, duration = clock.times_of(item)
            picture = rgb_from_frame(item, self.coding)
            after = SourceFrame(frame=item, picture=picture, pts=pts, duration=duration)
            if before is not None:
                yield Gap(before=before, after=after)
            before = after
        self.notes += clock.notes
        if self._video.lost:
            self.notes.append(
                f"{self._video.lost} of its packets gave no frame: it is damaged and lacks frames, unless these are "
                "fields of interlaced video or hidden frames; copy it again"
            )
        if before is not None:
            yield Gap(before=before, after=None)

    def _all(self) -> Iterator[Any]:
        yield from self._early
        yield self.first
        yield from self._items

    def _check_colours(self, frame: Any) -> None:
        """Refuse colours that change, since the output can name one kind only."""
        if str(coding := coding_from_frame(frame)) != str(self.coding):
            problem = f"has frames in {self.coding}, then in {coding}; expected one kind: cut the video there"
            raise FrameError.about(self.path, "frame-colours-change", problem, frame=self._video.count)


@contextmanager
def open_source(path: Path, *, audio: bool = True) -> Iterator[VideoSource]:
    """Open a video, up to its first frame.

    Args:
        path: the file.
        audio: read the packets of its sound too.

    Raises:
        FrameError: it is not a video, or its first frame cannot be used.
        UnavailableError: PyAV is missing.
    """
    with open_video(path) as video:
        yield VideoSource(video, audio=audio)
