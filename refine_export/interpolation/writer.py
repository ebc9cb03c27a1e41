"""Frames and copied sound to a video file that is either complete or absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from refine_export.data.colour import Encoding
from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.interpolation.interpolation_options import Codec, EncoderOptions
from refine_export.interpolation.reader import VideoSource
from refine_export.support.files import atomic_path
from refine_export.support.imports import require

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Containers that are written, by the output's suffix."""
# x264's macroblock tree in AVX-512 reads memory that nobody wrote, and two runs differ by up to 40 levels (x264 165 of
# PyAV 18.1, one thread); `cpu-independent` takes its plain one.
ENCODERS: Mapping[Codec, dict[str, str]] = {
    "libx264": {"crf": "18", "x264-params": "cpu-independent=1"},
    "libx265": {"crf": "20", "x265-params": "log-level=error"},
    "libvpx-vp9": {"crf": "24", "row-mt": "1", "cpu-used": "3"},
    "ffv1": {},
}
"""Encoders and their settings; `ffv1` loses nothing."""
LARGEST_CRF: Mapping[Codec, int] = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63}
METADATA = ("title", "artist", "album", "date", "comment", "copyright", "description", "genre", "creation_time")
STREAM_METADATA = ("language", "title")
"""Metadata that is kept of the source's; the rest says how that file was made."""
SQUARE_ONLY = ("libvpx-vp9", "ffv1")
"""Encoders whose stream has no shape of pixels; PyAV cannot write it into the container."""
LATEST = 2**62  # in units of the time base: FFmpeg counts in 64 bits


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

    def write_frame(self, frame: Any, pts: int, duration: int) -> None:
        """Encode a frame in the output's pixel format; its time and kind are overwritten.

        Raises:
            FrameError: its time is that of the frame before, in the unit that the container counts in, or too late for
                any.
        """
        end_s = (pts + duration) * self._time_base
        if abs(end_s) >= LATEST * min(self._time_base, self._stream.time_base):  # the frames' unit or the container's
            message = f"a frame is shown at {float(end_s):.3g} s, too late for this output: write times from 0"
            raise FrameError(message, code="frame-too-late")
        shown = round(pts * self._time_base / self._stream.time_base)
        if self._last_shown is not None and shown <= self._last_shown:
            raise FrameError(
                f"the frames are {float(duration * self._time_base) * 1e3:.3g} ms apart, and this output counts in "
                f"{float(self._stream.time_base) * 1e3:.3g} ms: write .mp4, or give fewer --times",
                code="frames-too-close",
            )
        self._last_shown = shown
        frame.pts, frame.time_base = pts, self._time_base
        frame.pict_type = 0  # as decoded it would decide how x264 codes it
        self._durations[pts], self._end = duration, pts + duration
        self._mux(self._stream.encode(frame))

    def copy_packet(self, packet: Any) -> None:
        """Copy a packet of sound."""
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


@contextmanager
def video_writer(
    output: Path,
    source: VideoSource,
    encoding: Encoding,
    options: EncoderOptions,
    *,
    time_base: Fraction,
    rate: Fraction,
    audio: bool,
) -> Iterator[VideoWriter]:
    """Open an output with the source's size, colours, shape of pixels, display matrix, sound and title.

    The file appears when the block ends without an exception, and then it is whole.

    Args:
        output: its suffix decides on the container.
        source: its streams are the model, up to the codec.
        encoding: how its frames are coded.
        options: the encoder's.
        time_base: unit of the times of the frames to come, in seconds.
        rate: frames a second, for players and the encoder; the times decide.
        audio: copy all streams of sound.

    Raises:
        RequestError: the container cannot hold a stream of sound, or the file cannot be written.
        FrameError: the encoder cannot take such frames.
        UnavailableError: PyAV is missing or has no such encoder.
    """
    av = require("av", extra="video")
    with atomic_path(output) as temporary:
        try:
            with av.open(str(temporary), "w", format=_container(output)) as container:
                if audio:
                    _check_sound(output, container, source)
                stream = _video_stream(container, source, encoding, options, output, time_base, rate)
                copied = {one.index: _sound_stream(container, one) for one in source.sound} if audio else {}
                container.metadata.update(_kept(source.container.metadata, METADATA))
                container.set_chapters(source.container.chapters())
                try:
                    container.start_encoding()  # writes the header, where some sound is refused only now
                except av.FFmpegError as error:
                    if isinstance(error, OSError) or not copied:
                        raise
                    names = ", ".join(dict.fromkeys(map(_codec_name, source.sound)))
                    raise _sound_refused(output, source, f"{names}: {error.strerror}") from error
                writer = VideoWriter(container, stream, copied, time_base)
                yield writer
                writer.finish()
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # a full disk: `atomic_path` translates it
                raise
            problem = f"cannot be written: {error.strerror}; choose another codec or format"
            raise RequestError.about(output, "cannot-write", problem) from error


def encoder_for(output: Path, options: EncoderOptions) -> Codec:
    """Choose the encoder of a file.

    Raises:
        RequestError: no container has its suffix, or the encoder has no such quality.
        UnavailableError: PyAV is missing or has no such encoder.
    """
    codec: Codec = options.codec or ("libvpx-vp9" if _container(output) == "webm" else "libx264")
    if options.crf is not None and not 0 <= options.crf <= LARGEST_CRF.get(codec, -1):
        expected = f"0 to {LARGEST_CRF[codec]} for {codec}" if codec in LARGEST_CRF else f"none for {codec}"
        raise RequestError(f"crf is {options.crf}; expected {expected}", code="wrong-option", option="crf")
    av = require("av", extra="video")
    try:
        av.codec.Codec(codec, "w")
    except Exception as error:  # of PyAV, whose class for it has changed its place
        raise UnavailableError(
            f"this PyAV {av.__version__} has no encoder {codec}; choose another with --codec ({', '.join(ENCODERS)})",
            code="no-encoder",
            codec=codec,
        ) from error
    return codec


def _container(output: Path) -> str:
    if (found := CONTAINERS.get(output.suffix.lower())) is None:
        raise RequestError.about(output, "output-suffix", f"is the output; expected a name in {', '.join(CONTAINERS)}")
    return found


def _video_stream(
    container: Any,
    source: VideoSource,
    encoding: Encoding,
    options: EncoderOptions,
    output: Path,
    time_base: Fraction,
    rate: Fraction,
) -> Any:
    codec = encoder_for(output, options)
    if codec not in container.supported_codecs:
        message = f"{output.suffix} files hold no {codec}; choose another codec, or write .mkv"
        raise RequestError(message, code="codec-not-in-container", codec=codec)
    shape = source.stream.sample_aspect_ratio
    if shape not in (None, 0, 1) and codec in SQUARE_ONLY:
        raise FrameError(
            f"{source.path} has pixels of {shape.numerator}:{shape.denominator}, which {codec} cannot name; write it "
            "with libx264 to .mp4 or .mkv, or scale the video to square pixels first",
            code="pixel-shape-not-encoded",
            codec=codec,
        )
    chosen = {**ENCODERS[codec], **({} if options.crf is None else {"crf": str(options.crf)})}
    height, width = source.size
    stream = container.add_stream(codec, rate=rate, options=chosen, time_base=time_base, width=width, height=height)
    context = stream.codec_context
    context.pix_fmt = encoding.layout
    context.colorspace, context.color_range = encoding.tagged_matrix, encoding.tagged_range
    context.color_primaries, context.color_trc = encoding.primaries, encoding.transfer
    if shape:
        context.sample_aspect_ratio = shape
    stream.metadata.update(_kept(source.stream.metadata, STREAM_METADATA))
    if (matrix := source.first.side_data.get("DISPLAYMATRIX")) is not None:
        stream.set_display_matrix(memoryview(matrix).cast("B").cast("i").tolist())
    return stream


def _check_sound(output: Path, container: Any, source: VideoSource) -> None:
    for number, one in enumerate(source.sound):
        name = _codec_name(one)
        if one.codec_context is None or name not in container.supported_codecs:
            raise _sound_refused(output, source, f"{name}, stream {number}")
        layout = str(one.codec_context.layout.name)
        # MP4 has to name the place of each channel; without this check it would fail when all else is written
        if container.format.name == "mp4" and name.startswith("pcm_") and layout.endswith("channels"):
            raise _sound_refused(output, source, f"{name} that does not name the places of its {layout}")


def _sound_refused(output: Path, source: VideoSource, what: str) -> RequestError:
    other = "" if output.suffix.lower() == ".mkv" else "write .mkv, or "
    return RequestError(
        f"{output.suffix} files cannot hold the sound in {source.path} as it is ({what}); {other}leave the sound out "
        "with --no-audio",
        code="sound-not-in-container",
        path=source.path,
    )


def _sound_stream(container: Any, template: Any) -> Any:
    stream = container.add_stream_from_template(template, opaque=True)
    stream.metadata.update(_kept(template.metadata, STREAM_METADATA))
    stream.disposition = template.disposition
    return stream


def _codec_name(sound: Any) -> str:
    return sound.codec_context.name if sound.codec_context is not None else "an unknown codec"


def _kept(metadata: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() in keys}
