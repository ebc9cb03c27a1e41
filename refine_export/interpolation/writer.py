"""Frames and copied sound to a video file that is either whole or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.interpolation.colour import Colours
from refine_export.interpolation.reader import VideoSource
from refine_export.support.files import atomic_path
from refine_export.support.imports import require

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""What is written, by the output's suffix."""
ENCODERS = {
    "libx264": {"crf": "18", "x264-params": "cpu-independent=1"},
    "libx265": {"crf": "20", "x265-params": "log-level=error"},
    "libvpx-vp9": {"crf": "24", "row-mt": "1", "cpu-used": "3"},
    "ffv1": {},
}
"""Encoders that can be chosen, with what they are told; `ffv1` loses nothing.

x264's macroblock tree in AVX-512 reads memory that nobody wrote, and two runs differ by up to 40 levels (x264 165 of
PyAV 18.1, one thread); `cpu-independent` takes its plain one."""
LARGEST_CRF = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63}
USUAL_ENCODERS = {"webm": "libvpx-vp9"}
METADATA = ("title", "artist", "album", "date", "comment", "copyright", "description", "genre", "creation_time")
STREAM_METADATA = ("language", "title")
"""What is kept of the source's; the rest says how that file was made."""
SQUARE_ONLY = ("libvpx-vp9", "ffv1")
"""Encoders whose stream has no shape of pixels; PyAV can't write it into the container."""
LATEST = 2**62  # in units of the time base: FFmpeg counts in 64 bits
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # errors that more space mends


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """How the output is encoded."""

    codec: str | None = None
    """`libx264`, `libx265`, `libvpx-vp9` or `ffv1` (lossless); without it, libx264, and libvpx-vp9 for .webm."""
    crf: int | None = None
    """Quality, from 0: lower is better and larger. Without it 18 for libx264, 20 for libx265, 24 for libvpx-vp9."""

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in ENCODERS:
            raise RequestError(f"--codec is {self.codec!r}; expected {', '.join(ENCODERS)}")

    def of(self, output: Path) -> str:
        """The encoder for a file.

        Raises:
            RequestError: no container has its suffix, or the encoder has no such quality.
        """
        codec = self.codec or USUAL_ENCODERS.get(container_of(output), "libx264")
        if self.crf is not None and not 0 <= self.crf <= LARGEST_CRF.get(codec, -1):
            if codec not in LARGEST_CRF:
                raise RequestError(f"{codec} loses nothing and has no quality to choose; leave --crf out")
            raise RequestError(f"--crf is {self.crf}; expected 0 to {LARGEST_CRF[codec]} for {codec}")
        return codec


def container_of(output: Path) -> str:
    """What a file is written as.

    Raises:
        RequestError: its suffix is none of those that are written.
    """
    if (found := CONTAINERS.get(output.suffix.lower())) is None:
        raise RequestError(f"the output is {output.name!r}; expected a name in {', '.join(CONTAINERS)}")
    return found


class VideoWriter:
    """An open output; made by `video_writer`."""

    def __init__(self, container: Any, stream: Any, sound: dict[int, Any], time_base: Fraction) -> None:
        self._container = container
        self._stream = stream
        self._sound = sound
        self._time_base = time_base
        self._durations: dict[int, int] = {}  # of frames inside the encoder, by pts
        self._end = 0
        self._last_shown: int | None = None  # in the container's unit

    def frame(self, frame: Any, pts: int, duration: int) -> None:
        """Encode a frame in the output's pixel format; its time and kind are overwritten.

        Raises:
            FrameError: its time is that of the frame before, in the unit that the container counts in, or too late for
                any.
        """
        self._check_time(pts + duration)
        shown = round(pts * self._time_base / self._stream.time_base)
        if self._last_shown is not None and shown <= self._last_shown:
            raise FrameError(
                f"the frames are {float(duration * self._time_base) * 1e3:.3g} ms apart, and this output counts in "
                f"{float(self._stream.time_base) * 1e3:.3g} ms: write .mp4, or give fewer --times"
            )
        self._last_shown = shown
        frame.pts, frame.time_base = pts, self._time_base
        frame.pict_type = 0  # as decoded it would decide how x264 codes it
        self._durations[pts], self._end = duration, pts + duration
        self._mux(self._stream.encode(frame))

    def packets(self, packets: tuple[Any, ...]) -> None:
        """Copy packets of sound."""
        for packet in packets:
            packet.stream = self._sound[packet.stream.index]
            self._container.mux_one(packet)

    def finish(self) -> None:
        """Encode what is left."""
        self._mux(self._stream.encode(None), last=True)

    def _mux(self, packets: list[Any], *, last: bool = False) -> None:
        for number, packet in enumerate(packets, 1):
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            if last and number == len(packets):  # MP4 takes the end from what is written last, which may be a B frame
                packet.dts, packet.duration = packet.pts, self._end - packet.pts
            self._container.mux_one(packet)

    def _check_time(self, end: int) -> None:
        """Refuse a time that FFmpeg can't hold, in the unit of the frames or of the container."""
        unit = min(self._time_base, self._stream.time_base)
        if abs(end * self._time_base) >= LATEST * unit:
            raise FrameError(
                f"a frame is shown at {float(end * self._time_base):.3g} s, which is too late for this output: write "
                "its times anew, from 0"
            )


@contextmanager
def video_writer(
    output: Path,
    source: VideoSource,
    colours: Colours,
    options: EncoderOptions,
    *,
    time_base: Fraction,
    rate: Fraction,
    sound: bool,
) -> Iterator[VideoWriter]:
    """Open an output with the source's size, colours, shape of pixels, display matrix, sound and title.

    The file appears when the block ends without an exception, and then it is whole.

    Args:
        output: its suffix decides what is written.
        source: its streams are the model, up to the codec.
        colours: of the source.
        options: the encoder's.
        time_base: of the frames to come, in seconds.
        rate: of the frames to come, a second; for players and the encoder, the times decide.
        sound: copy all streams of sound.

    Raises:
        RequestError: the container can't hold a stream of sound, or the file can't be written.
        FrameError: the encoder can't take such frames.
        UnavailableError: PyAV is missing or has no such encoder.
    """
    av = require("av", extra="video")
    with atomic_path(output) as temporary:
        try:
            with av.open(str(temporary), "w", format=container_of(output)) as container:
                if sound:
                    _check_sound(output, container, source)
                stream = _video_stream(container, source, colours, options, output, time_base, rate)
                copied = {one.index: _sound_stream(container, one) for one in source.sound} if sound else {}
                container.metadata.update(_kept(source.container.metadata, METADATA))
                container.set_chapters(source.container.chapters())
                _start(output, container, source if sound else None)
                writer = VideoWriter(container, stream, copied, time_base)
                yield writer
                writer.finish()
        except av.FFmpegError as error:
            raise _unwritable(output, error) from error


def check_encoder(codec: str) -> None:
    """Refuse an encoder that this PyAV has not.

    Raises:
        UnavailableError: PyAV is missing or has no such encoder.
    """
    av = require("av", extra="video")
    try:
        av.codec.Codec(codec, "w")
    except Exception as error:
        raise UnavailableError(
            f"this PyAV {av.__version__} has no encoder {codec}; choose another with --codec ({', '.join(ENCODERS)})"
        ) from error


def _video_stream(
    container: Any,
    source: VideoSource,
    colours: Colours,
    options: EncoderOptions,
    output: Path,
    time_base: Fraction,
    rate: Fraction,
) -> Any:
    codec = options.of(output)
    if codec not in container.supported_codecs:
        raise RequestError(f"{output.suffix} files hold no {codec}; choose another with --codec, or write .mkv")
    shape = source.stream.sample_aspect_ratio
    if shape not in (None, 0, 1) and codec in SQUARE_ONLY:
        raise FrameError(
            f"{source.path} has pixels of {shape.numerator}:{shape.denominator}, which {codec} can't say; write it "
            "with libx264 to .mp4 or .mkv, or scale the video to square pixels first"
        )
    chosen = {**ENCODERS[codec], **({} if options.crf is None else {"crf": str(options.crf)})}
    height, width = source.size
    stream = container.add_stream(codec, rate=rate, options=chosen, time_base=time_base, width=width, height=height)
    context = stream.codec_context
    context.pix_fmt = colours.layout
    context.colorspace, context.color_range = colours.tagged_matrix, colours.tagged_range
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer
    if shape:
        context.sample_aspect_ratio = shape
    stream.metadata.update(_kept(source.stream.metadata, STREAM_METADATA))
    if (matrix := source.first.side_data.get("DISPLAYMATRIX")) is not None:
        stream.set_display_matrix(memoryview(matrix).cast("B").cast("i").tolist())
    return stream


def _check_sound(output: Path, container: Any, source: VideoSource) -> None:
    for number, one in enumerate(source.sound):
        name = _codec_of(one)
        if one.codec_context is None or name not in container.supported_codecs:
            raise RequestError(
                f"{output.suffix} files hold no {name}, which stream {number} of the sound in {source.path} is; "
                f"{_instead(output)}"
            )
        layout = str(one.codec_context.layout.name)
        if container.format.name == "mp4" and name.startswith("pcm_") and layout.endswith("channels"):
            raise RequestError(  # it would fail when all else is written
                f"stream {number} of the sound in {source.path} is {name} that does not say where its {layout} stand, "
                f"and {output.suffix} files have to; {_instead(output)}"
            )


def _start(output: Path, container: Any, source: VideoSource | None) -> None:
    """Write the header, where some sound is refused only now."""
    try:
        container.start_encoding()
    except require("av", extra="video").FFmpegError as error:
        if _number(error) in FULL or source is None or not source.sound:
            raise
        names = ", ".join(dict.fromkeys(map(_codec_of, source.sound)))
        raise RequestError(
            f"{output.suffix} files seem not to hold the sound in {source.path} ({names}) as it is: "
            f"{_reason(error)}; {_instead(output)}"
        ) from error


def _codec_of(sound: Any) -> str:
    return sound.codec_context.name if sound.codec_context is not None else "an unknown codec"


def _instead(output: Path) -> str:
    other = "" if output.suffix.lower() == ".mkv" else "write .mkv, or "
    return f"{other}leave the sound out with --no-audio"


def _sound_stream(container: Any, template: Any) -> Any:
    stream = container.add_stream_from_template(template, opaque=True)
    stream.metadata.update(_kept(template.metadata, STREAM_METADATA))
    stream.disposition = template.disposition
    return stream


def _kept(metadata: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() in keys}


def _unwritable(output: Path, error: Any) -> RequestError:
    do = "free some space, or choose another folder"
    if _number(error) not in FULL:
        do = "choose another folder, codec or format"
    return RequestError(f"can't write {output}: {_reason(error)}; {do}")


def _reason(error: Any) -> str:
    number = _number(error)
    return os.strerror(number) if number else str(error.strerror)


def _number(error: Any) -> int | None:
    """Of the system's errors; None for FFmpeg's own."""
    return error.errno if isinstance(error, OSError) else None
