"""The decoder of videos: one frame at a time, so that what is held does not grow with the length.

Only containers that hold their own data are opened, as files: no playlist, address or list of other files is followed.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from refine_export.data.colour import coding_from_frame, colour_notes, is_convertible, rgb_from_frame
from refine_export.data.completeness import AGAIN, OR_ACCEPT, Completeness
from refine_export.data.ffv1_checksums import is_intact
from refine_export.data.images import AddNote, Frame
from refine_export.errors import FrameError, RequestError
from refine_export.signature import LARGEST_SIDE
from refine_export.support.files import check_input_file
from refine_export.support.imports import require

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg", ".ogv", ".ivf", ".y4m", ".flv",
    ".nut",
)  # fmt: skip
"""Suffixes by which a video is known, in lower case."""
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,ivf,yuv4mpegpipe,flv,nut"
RAW = "rawvideo"
"""FFmpeg's container of frames without a header."""
UNCONVERTED = ("yaf32le", "yaf32be")
"""Pixel formats at whose conversion FFmpeg ends the process (an assertion)."""
PIPE = Path("-")
"""Standard input, or output."""
LARGEST_PIXELS = 2**27
USUAL_RATE = Fraction(25)


class CountedPipe:
    """A pipe that counts what is read: FFmpeg leaves out the part of a frame with which YUV4MPEG ends."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self.count = 0
        """Bytes so far."""
        self.start = b""
        """The bytes that were read first."""

    def read(self, size: int = -1) -> bytes:
        """Read up to a number of bytes."""
        content = self._pipe.read(size)
        self.start = self.start or content
        self.count += len(content)
        return content


@dataclass(frozen=True, kw_only=True)
class RawVideo:
    """Frames one behind the other, without a header."""

    size: tuple[int, int]
    """Height and width in pixels."""
    layout: str
    """FFmpeg's name of the pixel format."""
    rate: Fraction
    """Frames a second."""

    @property
    def options(self) -> dict[str, str]:
        """Options of FFmpeg's demuxer.

        Raises:
            RequestError: `wrong-option`; FFmpeg does not know the pixel format, or cannot convert from it.
        """
        av = require("av", extra="video")
        try:
            if self.layout in UNCONVERTED:
                raise ValueError(self.layout)
            av.VideoFrame(16, 16, self.layout).reformat(format="rgb24")
        except (ValueError, av.FFmpegError) as error:
            raise RequestError(
                f"{self.layout} is not a pixel format that can be read; expected one such as yuv420p or rgb24: `ffmpeg "
                "-pix_fmts` lists them, with an I in front",
                code="wrong-option",
                option="raw_input",
            ) from error
        size = f"{self.size[1]}x{self.size[0]}"
        return {"video_size": size, "pixel_format": self.layout, "framerate": str(self.rate)}


class VideoDecoder:
    """An open video; made by `open_video`."""

    def __init__(
        self, path: Path, container: Any, stream: Any, size: Callable[[], int], *, allow_missing: bool
    ) -> None:
        self.path = path
        self.container = container
        self.stream = stream
        self.time_base = Fraction(stream.time_base)
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or USUAL_RATE)
        """Frames a second, on average."""
        self.count = 0
        """Frames that were decoded so far."""
        self.notes: list[str] = []
        """Missing frames, where that is allowed; complete when all is decoded."""
        self._allow_missing = allow_missing
        self._missing = 0
        self._size = size
        self._completeness = Completeness(path, container, stream, self.rate)

    @property
    def expected_frames(self) -> int:
        """Number of frames by the container's header, or by its length; 0 where it has neither."""
        seconds = float(self.container.duration or 0) / 1e6
        counts = [self._completeness.promised, round(seconds * float(self.rate))]
        return min(filter(None, counts), default=0)  # an edit list may leave out frames; sound may last longer

    def decode(self) -> Iterator[Any]:
        """Decode all frames in order of presentation, with their times (`pts`, in the stream's time base).

        Returns:
            An iterator over `av.VideoFrame`.

        Raises:
            FrameError: the video is too large, changes its size or has colours that cannot be converted; or it is
                broken, truncated or lacks frames, and that is not allowed; at the frame where it shows.
        """
        try:
            yield from self._decode()
        except require("av", extra="video").FFmpegError as error:
            raise _undecodable(self.path, error, AGAIN if self._allow_missing else OR_ACCEPT) from error

    def _decode(self) -> Iterator[Any]:
        completeness, size = self._completeness, None
        for packet in self.container.demux():  # all streams, since the longest one decides on the file's length
            if problem := completeness.take_packet(packet):
                self._lack(problem)
            for frame in self._frames_of(packet) if packet.stream.index == self.stream.index else ():
                size = size or (frame.height, frame.width)
                self._check_frame(frame, size)
                if frame.is_corrupt:
                    self._lack(self._broken("is broken"))
                    continue
                completeness.take_frame(frame)
                yield frame
                self.count += 1
        broken = self._missing
        for problem in completeness.problems(broken, self._size()):
            self._lack(problem)
        self.notes += completeness.notes(broken)
        if self._missing:
            self.notes.append(f"it is damaged: at {self._missing} places frames are missing or broken")

    def _frames_of(self, packet: Any) -> Iterator[Any]:
        try:
            if self.stream.codec_context.name == "ffv1" and packet.size and not is_intact(bytes(packet)):
                self._lack(self._broken("is broken: the checksum of a slice differs"))
                return
            yield from packet.decode()
        except require("av", extra="video").error.FFmpegError as error:
            if self.container.format.name == RAW:
                problem = f"ends with {packet.size} bytes, fewer than a frame has, at frame {self.count}; expected "
                problem += "whole frames: check the size and the pixel format of --raw-input"
                self._lack(FrameError.about(self.path, "raw-frame-cut", problem, frame=self.count))
            elif self._allow_missing and isinstance(error, require("av", extra="video").error.InvalidDataError):
                self._missing += 1
            else:
                raise

    def _broken(self, problem: str) -> FrameError:
        described = self._completeness.described(problem)
        return FrameError.about(self.path, "video-broken", described, frame=self.count)

    def _lack(self, error: FrameError) -> None:
        """Refuse missing frames, or count the place."""
        if not self._allow_missing:
            raise error
        self._missing += 1

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
        if not is_convertible(frame):
            problem = f"has the colour matrix {int(frame.colorspace)} of FFmpeg; expected BT.601, BT.709 or BT.2020"
            raise FrameError.about(self.path, "colour-matrix-unknown", f"{problem}: convert it with ffmpeg")


@contextmanager
def open_video(path: Path, *, allow_missing: bool = False, raw: RawVideo | None = None) -> Iterator[VideoDecoder]:
    """Open a video.

    Args:
        path: the file, or `-` for standard input: YUV4MPEG, or a container that is read from its start.
        allow_missing: leave out what is missing or broken, and note it.
        raw: what its frames are, where it has no header.

    Raises:
        FrameError: it is not a video.
        RequestError: as `RawVideo.options`.
        UnavailableError: PyAV is missing.
    """
    av = require("av", extra="video")
    options = {"format_whitelist": DEMUXERS if raw is None else RAW, "protocol_whitelist": "file"}
    options |= {} if raw is None else raw.options
    given: Any = CountedPipe(sys.stdin.buffer)
    if path != PIPE:
        check_input_file(path, FrameError, "give a video, such as an MP4")
        given = f"file:{path.resolve()}"
    try:
        container = av.open(given, format=raw and RAW, options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise _undecodable(path, error, AGAIN) from error  # nothing of it can be accepted
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise FrameError.about(path, "no-video", "has no video that can be decoded; give one with pictures in it")
        if container.format.name == "yuv4mpegpipe":
            _check_rate(path, given.start if path == PIPE else _header_of(path))
        stream.codec_context.options = {"max_pixels": str(LARGEST_PIXELS)}
        # With frames in threads, FFmpeg's H.264 decoder now and then does not mark a frame as broken.
        stream.thread_type = "SLICE" if stream.codec_context.name == "h264" else "AUTO"
        size = (lambda: given.count) if path == PIPE else (lambda: path.stat().st_size)
        yield VideoDecoder(path, container, stream, size, allow_missing=allow_missing)


def _header_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(1024)


def _check_rate(path: Path, header: bytes) -> None:
    """Refuse a YUV4MPEG header with a rate of zero, in place of which FFmpeg takes 25 frames a second."""
    rate = re.search(rb" F(\S*)", header.partition(b"\n")[0])
    if rate is not None and re.fullmatch(rb"0*[1-9]\d*:0*[1-9]\d*", rate[1]) is None:
        problem = (
            f"has the frame rate {rate[1].decode(errors='replace')} in its header; expected one such as 24000:1001"
        )
        advice = "`-r 24` before `-f yuv4mpegpipe` sets it in ffmpeg"
        raise FrameError.about(path, "frame-rate-zero", f"{problem}: {advice}")


def frames_of_video(path: Path, add_note: AddNote, label: str) -> Iterator[Callable[[], Frame]]:
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
                for note in [*_notes(frame), *stream_notes(video.stream)]:
                    add_note(f"{label or path.name}: {note}.")
            yield functools.partial(_turned_frame, frame)


def stream_notes(stream: Any) -> Iterator[str]:
    """Describe what decoding leaves out that no frame shows: FFmpeg's VP9 decoder drops the alpha channel of WebM."""
    if any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items()):
        yield "its alpha channel is left out"


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


def _undecodable(path: Path, error: Any, advice: str) -> FrameError:
    if path == PIPE:
        problem = f"cannot be decoded ({error.strerror}); expected YUV4MPEG, a container that can be read from its "
        problem += "start, or --raw-input for frames without a header"
        return FrameError.about(path, "video-undecodable", problem)
    problem = f"cannot be decoded ({error.strerror}): it is not a video, broken or truncated; {advice}"
    return FrameError.about(path, "video-undecodable", problem)
