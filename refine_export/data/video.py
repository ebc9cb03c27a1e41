"""The decoder of videos: one frame at a time, so that what is held does not grow with the length.

Only containers that hold their own data are opened, as files: no playlist, address or list of other files is followed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from refine_export.data.colour import coding_from_frame, colour_notes, is_convertible, rgb_from_frame
from refine_export.data.images import AddNote, Frame
from refine_export.errors import FrameError
from refine_export.signature import LARGEST_SIDE
from refine_export.support.files import check_input_file
from refine_export.support.imports import require

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg", ".ogv", ".ivf", ".y4m", ".flv",
    ".nut",
)  # fmt: skip
"""Suffixes by which a video is known, in lower case."""
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,ivf,yuv4mpegpipe,flv,nut"
TELL_THEIR_LENGTH = ("mov", "matroska", "avi")
"""Containers that have their length written down; for others it is estimated."""
LARGEST_PIXELS = 2**27
LENGTH_TOLERANCE = 1.5  # frames
USUAL_RATE = Fraction(25)
AGAIN = "copy or make it again, or cut the video before the damage"


class VideoDecoder:
    """An open video; made by `open_video`."""

    def __init__(self, path: Path, container: Any, stream: Any) -> None:
        self.path = path
        self.container = container
        self.stream = stream
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or USUAL_RATE)
        """Frames a second, on average."""
        self.count = 0
        """Frames that were decoded so far."""
        self.lost = 0
        """Packets that gave no frame, when all is decoded."""

    def decode(self, *, with_sound: bool = False) -> Iterator[Any]:
        """Decode all frames in order of presentation, with their times (`pts`, in the stream's time base).

        Args:
            with_sound: also yield the packets of sound, where they stand among the frames.

        Returns:
            An iterator over `av.VideoFrame`, and `av.Packet` for sound.

        Raises:
            FrameError: the video is broken, truncated, too large, changes its size or has colours that cannot be
                converted; at the frame where it shows.
        """
        try:
            yield from self._decode(with_sound=with_sound)
        except require("av", extra="video").FFmpegError as error:
            raise _undecodable(self.path, error) from error

    def _decode(self, *, with_sound: bool) -> Iterator[Any]:
        sound = {stream.index for stream in self.container.streams.audio} if with_sound else set()
        end_s, expected, size = 0.0, 0, None
        for packet in self.container.demux():  # all streams, since the longest one decides on the file's length
            if packet.pts is not None and packet.duration and packet.time_base:
                end_s = max(end_s, float((packet.pts + packet.duration) * packet.time_base))
            if packet.stream.index in sound and packet.size:
                yield packet
            elif packet.stream.index == self.stream.index:
                expected += bool(packet.size) and not packet.is_discard
                for frame in packet.decode():
                    size = size or (frame.height, frame.width)
                    self._check_frame(frame, size)
                    yield frame
                    self.count += 1
        self._check_length(end_s)
        self.lost = max(0, expected - self.count)

    def _check_frame(self, frame: Any, size: tuple[int, int]) -> None:
        height, width = frame.height, frame.width
        if max(height, width) > LARGEST_SIDE:
            problem = f"is {width}x{height}; expected at most {LARGEST_SIDE} pixels a side"
            raise FrameError.about(self.path, "frame-too-large", problem)
        if (height, width) != size:
            problem = (
                f"has frames of {size[1]}x{size[0]}, then of {width}x{height}; expected one size: cut the video there"
            )
            raise FrameError.about(self.path, "frame-size-changes", problem, frame=self.count)
        if frame.is_corrupt:
            problem = f"is broken at frame {self.count}; {AGAIN}"
            raise FrameError.about(self.path, "video-broken", problem, frame=self.count)
        if not is_convertible(frame):
            problem = f"has the colour matrix {int(frame.colorspace)} of FFmpeg; expected BT.601, BT.709 or BT.2020"
            raise FrameError.about(self.path, "colour-matrix-unknown", f"{problem}: convert it with ffmpeg")

    def _check_length(self, end_s: float) -> None:
        """Refuse a video that stops before its own end: a truncated file decodes without an error."""
        container = self.container
        if container.duration is None or not container.format.name.startswith(TELL_THEIR_LENGTH):
            return
        length_s = container.duration / 1e6
        if length_s - end_s > LENGTH_TOLERANCE / float(self.rate):
            problem = (
                f"ends after {self.count} frames, at {end_s:.2f} of {length_s:.2f} seconds: it is truncated; {AGAIN}"
            )
            raise FrameError.about(self.path, "video-truncated", problem, frame=self.count)


@contextmanager
def open_video(path: Path) -> Iterator[VideoDecoder]:
    """Open a video.

    Raises:
        FrameError: it is not a video.
        UnavailableError: PyAV is missing.
    """
    av = require("av", extra="video")
    check_input_file(path, FrameError, "give a video, such as an MP4")
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path.resolve()}", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise _undecodable(path, error) from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise FrameError.about(path, "no-video", "has no video that can be decoded; give one with pictures in it")
        stream.codec_context.options = {"max_pixels": str(LARGEST_PIXELS)}
        stream.thread_type = "AUTO"
        yield VideoDecoder(path, container, stream)


def frames_of_video(path: Path, add_note: AddNote, label: str = "") -> Iterator[Callable[[], Frame]]:
    """Decode the frames of a video; each is converted to [1, 3, H, W] when it is called, turned as the video says.

    Args:
        path: the file.
        add_note: receives what is converted, and what had to be guessed.
        label: what the notes call the video.

    Raises:
        FrameError: as `open_video` and `VideoDecoder.decode`.
        UnavailableError: PyAV is missing.
    """
    with open_video(path) as video:
        for frame in video.decode():
            if video.count == 0:
                for note in _notes(frame):
                    add_note(f"{label or path.name}: {note}.")
            yield functools.partial(_turned_frame, frame)


def _notes(frame: Any) -> Iterator[str]:
    yield from colour_notes(frame)
    if frame.rotation % 90:
        yield f"it is to be shown at {frame.rotation} degrees; it is not turned"
    elif frame.rotation:
        yield f"turned by {frame.rotation} degrees, as it says"
    if frame.interlaced_frame:
        yield "it is interlaced; its fields are not taken apart"
    if coding_from_frame(frame).grey:
        yield "grey is given to all three channels"


def _turned_frame(frame: Any) -> Frame:
    """Convert a decoded frame to FP32 [1, 3, H, W] in [0, 1]; turns are counter-clockwise, as FFmpeg counts them."""
    turns = 0 if frame.rotation % 90 else frame.rotation // 90
    pixels = np.rot90(rgb_from_frame(frame, coding_from_frame(frame)), turns)
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)[None], dtype=np.float32) / np.float32(255)


def _undecodable(path: Path, error: Any) -> FrameError:
    problem = f"cannot be decoded ({error.strerror}): it is not a video, broken or truncated; {AGAIN}"
    return FrameError.about(path, "video-undecodable", problem)
