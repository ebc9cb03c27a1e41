"""A video to pairs of consecutive frames with their times, and to the packets of its sound.

What is opened, and what is refused, is as in `video`; frames are not turned, since the output keeps the display matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.data.video import DEMUXERS, HDR_CURVES, LARGEST_PIXELS, LENGTH_TOLERANCE, MATRICES, TELL_THEIR_LENGTH
from refine_export.errors import FrameError
from refine_export.interpolation.colour import Colours, meaning_of, picture_from_frame
from refine_export.interpolation.timing import Clock
from refine_export.signature import LARGEST_SIDE
from refine_export.support.imports import require

if TYPE_CHECKING:
    from refine_export.interpolation.interpolator import Picture

MOST_PACKETS = 64  # of sound, that wait for a frame
WITHOUT_TIMES = ("avi",)  # formats that have packets at a rate, and no times of frames
USUAL_RATE = Fraction(25)


@dataclass(frozen=True, kw_only=True)
class SourceFrame:
    """A frame of the video."""

    frame: Any
    """As decoded."""
    picture: Picture
    """The same as RGB."""
    pts: int
    """In units of the stream's time base."""
    duration: int
    """Likewise."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A frame and the next one; what comes between them is to be made."""

    before: SourceFrame
    after: SourceFrame | None
    """None behind the last frame."""


@dataclass(frozen=True)
class Sound:
    """Packets to be copied as they are."""

    packets: tuple[Any, ...]


class VideoSource:
    """An open video; made by `video_source`."""

    def __init__(self, path: Path, container: Any, stream: Any) -> None:
        self.path = path
        self.container = container
        self.stream = stream
        self.sound = tuple(container.streams.audio)
        self.time_base = Fraction(stream.time_base)
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or USUAL_RATE)
        """Frames a second, on average."""
        self.notes: list[str] = []
        self._end_s = 0.0
        self._count = 0
        self._given = 0  # packets that should give frames
        self._early: list[Sound] = []
        self._items = self._decoded()
        first = next(self._items, None)
        while isinstance(first, Sound):  # before the first frame no output can be opened
            self._early.append(first)
            first = next(self._items, None)
        if first is None:
            raise FrameError(f"{path} has no frames; expected two or more")
        self.first = first
        self.meaning = meaning_of(first)
        self.size = (int(first.height), int(first.width))
        """Height and width in pixels."""
        self.notes += _notes_of(first)
        left_out = [one.type for one in container.streams if one.index != stream.index and one.type != "audio"]
        if left_out:
            self.notes.append(
                f"left out: {', '.join(f'{left_out.count(kind)} {kind}' for kind in sorted(set(left_out)))}"
            )

    @property
    def expected_frames(self) -> int:
        """How many frames the video says that it has, or should have by its length; 0 where it does not say."""
        seconds = float(self.container.duration or 0) / 1e6
        return int(self.stream.frames or round(seconds * float(self.rate)))

    def gaps(self, colours: Colours, *, sound: bool) -> Iterator[Gap | Sound]:
        """All frames with their next ones, and the packets of the sound where they stand among them.

        Raises:
            FrameError: the video is broken, truncated, changes its size or has times that do not grow; at that frame.
        """
        av = require("av", extra="video")
        starts = int(self.stream.start_time or 0) if self.container.format.name in WITHOUT_TIMES else None
        clock = Clock(self.path, self.time_base, self.rate, starts)
        before: SourceFrame | None = None
        try:
            for frame in self._all():
                if isinstance(frame, Sound):
                    if sound:
                        yield frame
                    continue
                here = clock.times_of(frame)
                after = SourceFrame(
                    frame=frame, picture=picture_from_frame(frame, colours), pts=here.pts, duration=here.duration
                )
                if before is not None:
                    yield Gap(before=before, after=after)
                before = after
        except av.FFmpegError as error:
            raise _undecodable(self.path, error) from error
        self.notes += clock.notes
        if before is not None:
            yield Gap(before=before, after=None)

    def _all(self) -> Iterator[Any]:
        yield self.first
        while self._early:
            yield self._early.pop(0)
        yield from self._items

    def _decoded(self) -> Iterator[Any]:
        """Frames as they are decoded, and the sound between them in batches."""
        indices = {stream.index for stream in self.sound}
        waiting: list[Any] = []
        for packet in self.container.demux():  # all, since the longest stream tells the length
            if packet.pts is not None and packet.duration and packet.time_base:
                self._end_s = max(self._end_s, float((packet.pts + packet.duration) * packet.time_base))
            if packet.stream.index in indices and packet.size:
                waiting.append(packet)
                if len(waiting) == MOST_PACKETS:
                    yield Sound(tuple(waiting))
                    waiting = []
            elif packet.stream.index == self.stream.index:
                self._given += bool(packet.size) and not packet.is_discard
                for frame in packet.decode():
                    self._check(frame)
                    yield frame
                    self._count += 1
                    if waiting:
                        yield Sound(tuple(waiting))
                        waiting = []
        if waiting:
            yield Sound(tuple(waiting))
        self._check_length()
        if (lost := self._given - self._count) > 0:
            self.notes.append(
                f"{lost} of its {self._given} packets gave no frame: it is damaged and lacks frames, unless these are "
                "fields of interlaced video or hidden frames; copy it again"
            )

    def _check(self, frame: Any) -> None:
        index, here = self._count, (int(frame.height), int(frame.width))
        if max(here) > LARGEST_SIDE:
            raise FrameError(f"{self.path} is {here[1]}x{here[0]}; expected at most {LARGEST_SIDE} pixels a side")
        if index and here != self.size:
            raise FrameError(
                f"{self.path}: frame {index} is {here[1]}x{here[0]}, those before are {self.size[1]}x{self.size[0]}; "
                "expected one size: cut the video there"
            )
        if frame.is_corrupt:
            raise FrameError(f"{self.path} is broken at frame {index}; copy it again, or cut the video there")
        if int(frame.colorspace) not in MATRICES:
            raise FrameError(
                f"{self.path} has the colour matrix {int(frame.colorspace)} of FFmpeg, which can't be converted; "
                "expected BT.601, BT.709 or BT.2020: convert it with ffmpeg"
            )
        if index and not (meaning := meaning_of(frame)).is_as(self.meaning):
            raise FrameError(
                f"{self.path}: the colours of frame {index} are {meaning}, those before {self.meaning}; expected one "
                "kind: cut the video there"
            )

    def _check_length(self) -> None:
        """Refuse a video that stops before its own end: a truncated file decodes without an error."""
        container = self.container
        if container.duration is None or not container.format.name.startswith(TELL_THEIR_LENGTH):
            return
        length_s = container.duration / 1e6
        if length_s - self._end_s > LENGTH_TOLERANCE / float(self.rate):
            raise FrameError(
                f"{self.path} ends after {self._count} frames, at {self._end_s:.2f} of {length_s:.2f} seconds: it is "
                "truncated; copy it again"
            )


@contextmanager
def video_source(path: Path) -> Iterator[VideoSource]:
    """Open a video, up to its first frame.

    Raises:
        FrameError: no video, or its first frame can't be used.
        UnavailableError: PyAV is missing.
    """
    av = require("av", extra="video")
    if not path.is_file():
        raise FrameError(f"{path} does not exist or is no file; give a video, such as an MP4")
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path.resolve()}", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise _undecodable(path, error) from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise FrameError(f"{path} has no video that can be decoded; give one with pictures in it")
        stream.codec_context.options = {"max_pixels": str(LARGEST_PIXELS)}
        stream.thread_type = "AUTO"
        try:
            source = VideoSource(path, container, stream)
        except av.FFmpegError as error:
            raise _undecodable(path, error) from error
        yield source


def _undecodable(path: Path, error: Any) -> FrameError:
    return FrameError(
        f"{path} can't be decoded ({error.strerror}): it is no video, broken or truncated; copy or make it again"
    )


def _notes_of(frame: Any) -> list[str]:
    """What of the frames is not as it may be thought."""
    notes = []
    if frame.interlaced_frame:
        notes.append("it is interlaced: its fields are not taken apart, and frames between may show combs")
    if (curve := HDR_CURVES.get(int(frame.color_trc))) is not None:
        notes.append(f"its {curve} values are blended as they are, without tone mapping")
    return notes
