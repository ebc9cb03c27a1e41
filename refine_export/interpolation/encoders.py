"""Encoders and containers: which there are, with which settings, and what each can hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from refine_export.data.colour import Encoding
from refine_export.data.picture_sequences import PATTERN
from refine_export.data.video import PIPE, RAW
from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.interpolation.interpolation_options import Codec, EncoderOptions
from refine_export.support.imports import require

VIDEO_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Containers that are written, by the output's suffix."""
PICTURE_FORMATS = {".png": ("image2", "png"), ".apng": ("apng", "apng"), ".gif": ("gif", "gif")}
"""Containers of pictures with their encoders; a .png is one of several, with a number in its name."""
PIPE_FORMAT = ("yuv4mpegpipe", "wrapped_avframe")
# x264's macroblock tree in AVX-512 reads memory that nobody wrote, and two runs differ by up to 40 levels (x264 165 of
# PyAV 18.1, one thread); `cpu-independent` takes its plain one.
ENCODERS: Mapping[str, dict[str, str]] = {
    "libx264": {"crf": "18", "x264-params": "cpu-independent=1"},
    "libx265": {"crf": "20", "x265-params": "log-level=error"},
    "libsvtav1": {"crf": "26", "preset": "8"},
    "libvpx-vp9": {"crf": "24", "row-mt": "1", "cpu-used": "3"},
    "ffv1": {},
    "prores_ks": {"profile": "hq"},
    "h264_nvenc": {"cq": "19", "preset": "p5"},
    "hevc_nvenc": {"cq": "19", "preset": "p5"},
    "av1_nvenc": {"cq": "24", "preset": "p5"},
}
"""Encoders of videos and their settings; `ffv1` loses nothing."""
LARGEST_CRF: Mapping[str, int] = {
    "libx264": 51, "libx265": 51, "libsvtav1": 63, "libvpx-vp9": 63, "h264_nvenc": 51, "hevc_nvenc": 51,
    "av1_nvenc": 51,
}  # fmt: skip
BITS_PER_PIXEL = {"ffv1": 4.0, "prores_ks": 4.0, "png": 4.0, "apng": 1.0, "gif": 1.0}
LOSSY_BITS_PER_PIXEL = 0.05
"""Least bits that a pixel takes, for the estimate of the space on the disk."""
HDR = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
"""Side data of frames, of PyAV."""
SQUARE_ONLY = ("libvpx-vp9", "ffv1")
"""Encoders whose stream has no shape of pixels; PyAV cannot write it into the container."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that an encoder is opened with."""

    codec: str
    options: Mapping[str, str]
    encoding: Encoding
    size: tuple[int, int]
    """Height and width in pixels."""
    time_base: Fraction
    """Unit of the frames to come, in seconds."""
    rate: Fraction
    """Frames a second, for players and the encoder; the times decide."""
    shape: Fraction | None
    """Width of a pixel by its height, where it is not known to be 1."""

    def open(self) -> Any:
        """Open an encoder by itself, for a container that keeps headers apart.

        Raises:
            RequestError: `cannot-encode`, or an option that it does not have.
        """
        av = require("av", extra="video")
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes its settings to standard error otherwise
        context = av.CodecContext.create(self.codec, "w")
        context.height, context.width = self.size
        context.options = dict(self.options)
        context.flags |= int(av.codec.context.Flags.global_header)
        self.apply(context)
        try:
            context.time_base, context.framerate = self.time_base, self.rate
            context.open()
        except (av.FFmpegError, OverflowError, ValueError) as error:
            needs = ""
            if self.codec.endswith("nvenc"):
                needs = "it needs an NVIDIA GPU that encodes this, and its driver (`nvidia-smi` shows both); "
            raise RequestError(
                f"{self.codec} cannot be opened with {self.size[1]}x{self.size[0]} {self.encoding.layout} at "
                f"{float(self.rate):.6g} frames a second and {dict(self.options)}: {error}; {needs}choose another "
                "codec, another rate or other --encoder-options",
                code="cannot-encode",
                codec=self.codec,
            ) from error
        if context.options:
            raise RequestError(
                f"{self.codec} has no option {', '.join(context.options)}; `ffmpeg -h encoder={self.codec}` lists them",
                code="unknown-encoder-option",
                codec=self.codec,
                options=tuple(context.options),
            )
        return context

    def add_to(self, container: Any) -> Any:
        """Add the stream of this encoder to a container, and return it."""
        height, width = self.size
        stream = container.add_stream(
            self.codec, rate=self.rate, options=dict(self.options), time_base=self.time_base, width=width, height=height
        )
        self.apply(stream.codec_context)
        return stream

    def apply(self, context: Any) -> None:
        """Set the colours and the shape of pixels."""
        encoding = self.encoding
        context.pix_fmt = encoding.layout
        context.colorspace, context.color_range = encoding.tagged_matrix, encoding.tagged_range
        context.color_primaries, context.color_trc = encoding.primaries, encoding.transfer
        if self.shape:
            context.sample_aspect_ratio = self.shape

    def least_bytes(self, frames: int) -> int:
        """Return how many bytes a number of frames takes at least, roughly."""
        bits = BITS_PER_PIXEL.get(self.codec, LOSSY_BITS_PER_PIXEL)
        return int(frames * self.size[0] * self.size[1] * bits / 8)


def is_video(output: Path) -> bool:
    """Return whether an output is one file with one of the encoders of videos; pictures and pipes are not."""
    return output.suffix.lower() in VIDEO_FORMATS and output != PIPE


def container_of(output: Path) -> tuple[str, str | None]:
    """Return the container of an output and its only encoder, if it has only one.

    Raises:
        RequestError: `output-suffix`.
    """
    suffix = output.suffix.lower()
    if output == PIPE:
        return PIPE_FORMAT
    if suffix in VIDEO_FORMATS:
        return VIDEO_FORMATS[suffix], None
    if suffix == ".png" and not PATTERN.search(output.name):
        raise RequestError.about(
            output, "output-suffix", "is one picture; expected a name with a number, such as frame_%05d.png"
        )
    if suffix in PICTURE_FORMATS:
        return PICTURE_FORMATS[suffix]
    known = ", ".join([*VIDEO_FORMATS, *PICTURE_FORMATS])
    raise RequestError.about(output, "output-suffix", f"is the output; expected a name in {known}, or - for a pipe")


def encoder_for(output: Path, options: EncoderOptions, bits: int = 8) -> str:
    """Choose the encoder of an output.

    Args:
        output: its suffix decides where no codec is given.
        options: the encoder's.
        bits: bits a channel of the source.

    Raises:
        RequestError: no container has its suffix, or the encoder has no such quality.
        UnavailableError: PyAV is missing or has no such encoder.
    """
    container, only = container_of(output)
    if options.raw_output and output != PIPE:
        message = f"raw_output is given, and the output is {output}; expected - for standard output"
        raise RequestError(message, code="options-do-not-fit", option="raw_output")
    only = RAW if options.raw_output else only
    if only is not None and (options.codec or options.crf is not None):
        message = f"codec or crf is given, and {output} has an encoder of its own, {only}; leave them out"
        raise RequestError(message, code="options-do-not-fit", option="codec")
    usual: Codec = "libx265" if bits > 8 else "libx264"
    codec: str = only or options.codec or ("libvpx-vp9" if container == "webm" else usual)
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


def given_options(options: EncoderOptions) -> dict[str, str]:
    """Return the options of an encoder by name."""
    return dict(option.split("=", 1) for option in options.encoder_options)


def settings_for(
    source: Any, codec: str, encoding: Encoding, options: EncoderOptions, time_base: Fraction, rate: Fraction
) -> Settings:
    """Put together what an encoder is opened with: its usual settings, the user's, and HDR's from the source.

    Args:
        source: the `VideoSource`.
        codec: name of the encoder.
        encoding: how its frames are coded.
        options: the user's.
        time_base: unit of the frames' times, in seconds.
        rate: frames a second.

    Raises:
        FrameError: `pixel-shape-not-encoded`.
    """
    shape = None if source.stream is None else source.stream.sample_aspect_ratio
    if shape not in (None, 0, 1) and codec in SQUARE_ONLY:
        raise FrameError(
            f"{source.path} has pixels of {shape.numerator}:{shape.denominator}, which {codec} cannot name; write it "
            "with libx264 to .mp4 or .mkv, or scale the video to square pixels first",
            code="pixel-shape-not-encoded",
            codec=codec,
        )
    chosen = dict(ENCODERS.get(codec, {}))
    if options.crf is not None:
        chosen["cq" if codec.endswith("nvenc") else "crf"] = str(options.crf)
    given = given_options(options)
    given.pop("pix_fmt", None)
    for more in (hdr_options(codec, source.first), given):
        for name, value in more.items():
            both = name.endswith("-params") and name in chosen
            chosen[name] = f"{chosen[name]}:{value}" if both else value
    return Settings(
        codec=codec, options=chosen, encoding=encoding, size=source.size, time_base=time_base, rate=rate, shape=shape
    )


def lost_notes(frame: Any, codec: str, output: Path) -> list[str]:
    """Describe what the first frame says and the output cannot."""
    notes = []
    if any(name in frame.side_data for name in HDR) and not hdr_options(codec, frame):
        notes.append(f"left out: HDR's mastering display and content light level, which {codec} does not write here")
    if "DISPLAYMATRIX" in frame.side_data and not is_video(output):
        notes.append(f"it is to be shown turned or mirrored, which {output} cannot say: its frames are not turned")
    return notes


def hdr_options(codec: str, frame: Any) -> dict[str, str]:
    """Return the options that write a frame's mastering display and content light level into the stream.

    The layouts are those of AVMasteringDisplayMetadata and AVContentLightMetadata in FFmpeg's libavutil.
    """
    mastering, light = (frame.side_data.get(name) for name in HDR)
    parts: dict[str, str] = {}
    if mastering is not None:
        pairs = np.frombuffer(mastering, np.int32)[:20].reshape(10, 2).astype(np.float64)
        values = pairs[:, 0] / np.where(pairs[:, 1] == 0, 1, pairs[:, 1])
        (red, green, blue, white), (least, most) = values[:8].reshape(4, 2), values[8:]
        whole = codec != "libsvtav1"
        chroma, nits = (50000, 10000) if whole else (1, 1)

        def text(values: Iterable[float], scale: int) -> str:
            return ",".join(f"{value * scale:.0f}" if whole else f"{value:.4f}" for value in values)

        places = zip(("G", "B", "R", "WP"), (green, blue, red, white), strict=True)
        parts["display"] = "".join(f"{name}({text(place, chroma)})" for name, place in places)
        parts["display"] += f"L({text((most, least), nits)})"
    if light is not None:
        parts["light"] = ",".join(map(str, np.frombuffer(light, np.uint32)[:2]))
    names = {
        "libx265": ("x265-params", "master-display", "max-cll"),
        "libx264": ("x264-params", "mastering-display", "cll"),
        "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
    }.get(codec)
    if names is None or not parts:
        return {}
    return {names[0]: ":".join(f"{names[1 if kind == 'display' else 2]}={value}" for kind, value in parts.items())}
