"""Outputs: a video that is joined from its parts, with the source's other streams; pictures; a pipe.

A file is either complete or absent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from refine_export.data.video import PIPE, RAW
from refine_export.errors import RequestError
from refine_export.interpolation.copied_streams import CopiedStreams, kept_metadata, merged
from refine_export.interpolation.encoders import PIPE_FORMAT, Settings, container_of
from refine_export.interpolation.reader import VideoSource
from refine_export.interpolation.segments import Segments
from refine_export.support.files import atomic_path, cannot_write, private_folder
from refine_export.support.imports import require

LEAST_OF_GIF = Fraction(1, 50)
"""Shortest time of a GIF's frame, in seconds. GIF counts in 1/100 s, and players show frames of 1/100 s for 1/10 s."""


class JoinedVideo:
    """An open output whose header is written; made by `joined_video`."""

    def __init__(self, container: Any, stream: Any, settings: Settings, copied: CopiedStreams | None) -> None:
        self._container, self._stream, self._settings, self._copied = container, stream, settings, copied
        self.unit = Fraction(stream.time_base)
        """Unit of its times, in seconds."""

    def join(self, segments: Segments, *, whole: bool = True) -> None:
        """Write the packets of all parts, and those of the other streams among them.

        Args:
            segments: the parts.
            whole: take the other streams to their end; otherwise to that of the parts.
        """
        end = None if whole else segments.end * self._settings.time_base

        def video() -> Iterator[Any]:
            for packet in segments.packets(self._settings.time_base):
                packet.stream = self._stream
                yield packet

        for packet in merged(video(), *([] if self._copied is None else [self._copied.packets()])):
            if end is not None and packet.stream is not self._stream and (packet.pts or 0) * packet.time_base > end:
                continue
            with _named(None if packet.stream is self._stream else self._copied):
                self._container.mux_one(packet)


@contextmanager
def joined_video(
    output: Path, source: VideoSource, settings: Settings, copied: CopiedStreams | None
) -> Iterator[JoinedVideo]:
    """Open an output with the source's size, colours, shape of pixels, display matrix and other streams.

    The file appears when the block ends without an exception, and then it is whole. What the container cannot hold is
    refused here, before anything is computed.

    Args:
        output: its suffix decides on the container.
        source: the video that it is made of.
        settings: of the encoder.
        copied: the other streams; None for a source that has none.

    Raises:
        RequestError: the container cannot hold the codec or a stream of sound, or the file cannot be written.
    """
    av = require("av", extra="video")
    name, _ = container_of(output)
    with atomic_path(output) as temporary, _translated(output), av.open(str(temporary), "w", format=name) as container:
        if settings.codec not in container.supported_codecs:
            message = f"{output.suffix} files hold no {settings.codec}; choose another codec, or write .mkv"
            raise RequestError(message, code="codec-not-in-container", codec=settings.codec)
        stream = settings.add_to(container)
        if source.stream is not None:
            stream.metadata.update(kept_metadata(source.stream.metadata))
        if (matrix := source.first.side_data.get("DISPLAYMATRIX")) is not None:
            stream.set_display_matrix(memoryview(matrix).cast("B").cast("i").tolist())
        if copied is not None:
            copied.add_to(container)
        try:
            container.start_encoding()  # writes the header, where some sound is refused only now
        except av.FFmpegError as error:
            if isinstance(error, OSError) or copied is None or not copied.codecs_of_sound:
                raise
            if isinstance(error, av.error.InvalidDataError):
                raise copied.damaged(error) from error
            raise copied.refused(f"{copied.codecs_of_sound}: {error.strerror}") from error
        yield JoinedVideo(container, stream, settings, copied)
        with _named(copied):
            container.close()  # writes the trailer, in which MP4 has the headers of the sound


@contextmanager
def _named(copied: CopiedStreams | None) -> Iterator[None]:
    """Translate errors of FFmpeg, except those of the disk, into one that names the streams that are copied."""
    av = require("av", extra="video")
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError) or copied is None or not copied.taken:
            raise
        raise copied.damaged(error) from error


class FrameWriter:
    """Encodes frames straight into a container of pictures or a pipe; made by `frame_writer`."""

    def __init__(self, container: Any, stream: Any, time_base: Fraction) -> None:
        self._container, self._stream, self._time_base = container, stream, time_base

    def write_frame(self, frame: Any, pts: int, duration: int) -> None:
        """Encode a frame.

        Raises:
            RequestError: `frames-too-close`; it is too short for GIF.
        """
        seconds = duration * self._time_base
        if self._container.format.name == "gif" and seconds < LEAST_OF_GIF:
            raise RequestError(
                f"a frame lasts {float(seconds) * 1e3:.3g} ms, and players slow GIFs down whose frames last less than "
                f"{float(LEAST_OF_GIF) * 1e3:.0f} ms: give --fps {1 / LEAST_OF_GIF} or less, or write .apng or .mp4",
                code="frames-too-close",
            )
        frame.pts, frame.duration, frame.time_base, frame.pict_type = pts, duration, self._time_base, 0
        for packet in self._stream.encode(frame):  # in the encoder's unit
            packet.duration = round(duration * self._time_base / packet.time_base)
            self._container.mux_one(packet)

    def finish(self) -> None:
        """Encode what is left."""
        self._container.mux(self._stream.encode(None))


@contextmanager
def frame_writer(output: Path, settings: Settings) -> Iterator[FrameWriter]:
    """Open an output of pictures, an animation, or standard output for YUV4MPEG or bare frames.

    Several pictures are complete or absent together: they are written in a folder beside theirs, and moved.

    Raises:
        RequestError: it cannot be written.
        RequestError: `pipe-closed`; who reads the pipe is gone. `cannot-write`; the disk behind it is full.
    """
    av = require("av", extra="video")
    name = RAW if settings.codec == RAW else container_of(output)[0]
    with ExitStack() as stack:
        target: Any = output
        if output == PIPE:
            target = stack.enter_context(os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0))
        elif name == "image2":
            target = stack.enter_context(_moved_pictures(output))
        else:
            target = stack.enter_context(atomic_path(output))
        stack.enter_context(_translated(output))
        file = target if output == PIPE else str(target)
        options = {"strict": "-1"} if name == PIPE_FORMAT[0] else {"loop": "0"} if name == "gif" else {}
        # FFmpeg writes the encoder's unit of time as the rate of YUV4MPEG.
        opened = replace(settings, time_base=1 / settings.rate) if output == PIPE else settings
        with av.open(file, "w", format=name, container_options=options) as container:
            yield FrameWriter(container, opened.add_to(container), settings.time_base)


@contextmanager
def _moved_pictures(output: Path) -> Iterator[Path]:
    """Yield the pattern in a folder of its own, and move what is there when the block ends without an exception."""
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with private_folder(output.parent, ".pictures.work-") as folder:
            yield folder / output.name
            for picture in sorted(folder.iterdir()):
                picture.replace(output.parent / picture.name)
    except OSError as error:
        raise cannot_write(output, error, "free some space, or choose another folder") from error


@contextmanager
def _translated(output: Path) -> Iterator[None]:
    """Translate errors of FFmpeg; `atomic_path` translates a full disk."""
    av = require("av", extra="video")
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if output == PIPE:
            cause = error if isinstance(error, OSError) else error.__context__
            if isinstance(cause, OSError) and not isinstance(cause, BrokenPipeError):  # a file behind a redirection
                raise cannot_write(output, cause, "free some space, or write elsewhere") from error
            message = "standard output cannot be written: its reader is gone before the end"
            raise RequestError(message, code="pipe-closed") from error
        if isinstance(error, OSError):
            raise
        problem = f"cannot be written: {error.strerror}; choose another codec or format"
        raise RequestError.about(output, "cannot-encode", problem) from error
