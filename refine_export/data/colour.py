"""Decoded frames to RGB and back, with the matrix and the range that the video has.

Numbers of matrices, ranges and the like are FFmpeg's (libavutil/pixfmt.h).

FFmpeg's scaler is used with its exact flags: with its fast ones 4:2:0 becomes 1.2 of 255 levels too dark on average,
and frames made from RGB would flicker beside unchanged ones. It rounds full-range chroma down, by half a level on
average, so chroma is converted to 12 bits and rounded here. YUV of more than 8 bits is converted in `deep_colour`,
because FFmpeg's conversion to 16-bit RGB ends at 65280 instead of 65535.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refine_export.data.deep_colour import frame_from_floats, planar_layout, plane_values
from refine_export.errors import FrameError
from refine_export.support.imports import require

Picture = NDArray[Any]
"""RGB, [H, W, 3]: uint8, 0 to 255; or float32, 0 to 1, where the source has more than 8 bits a channel."""

RGB_MATRIX, BT709, UNSPECIFIED, BT470BG, SMPTE170M = 0, 1, 2, 5, 6  # AVColorSpace; the last two are BT.601
MATRIX_NAMES = {1: "BT.709", 4: "FCC", 5: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}
"""Number in the scaler -> name of each matrix that can be converted (BT.601 has a single number there)."""
LIMITED, FULL = 1, 2  # AVColorRange
HDR_CURVES = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic
LARGE = (576, 1279)
"""Height and width above which players assume BT.709 where no matrix is named, as in mpv's video/csputils.c."""

EXACT = 0x2 | 0x2000 | 0x4000 | 0x40000
"""Flags of libswscale/swscale.h: bilinear, full chroma in (0x4000) and out (0x2000), accurate rounding."""

SUBSAMPLED = {(2, 2): "yuv420p", (2, 1): "yuv422p", (1, 2): "yuv440p", (1, 1): "yuv444p"}
"""Pixels per chroma sample, horizontally and vertically -> FFmpeg's name of the pixel format."""
DEPTHS = (10, 12, 16)
"""Bits a channel beyond 8 that pixel formats have."""
RGB_LAYOUTS = ("rgb48be", "rgb24", "pal8")
"""Pixel formats of pictures, best first."""
PIPE_LAYOUTS = ("gray", *(f"yuv{one}p{depth}" for one in (420, 422, 444) for depth in ("", "10le", "12le")))
"""Pixel formats of YUV4MPEG."""
RAW_ONLY = {"rawvideo": ("rgb24", "rgb48be")}
"""Pixel formats that frames without a header have beside those."""
LIMITED_ONLY = "prores_ks"
"""The encoder whose stream and container do not name a range."""
EVEN_ONLY = ("libx264", "libx265", "libsvtav1", "h264_nvenc", "hevc_nvenc", "av1_nvenc")
"""Encoders that reject an odd side along which chroma is subsampled."""

DEEP_NVENC = ("hevc_nvenc", "av1_nvenc")
"""Encoders that take 4:2:0 of 10 bits as p010le. So does h264_nvenc, on Blackwell and later alone."""


@dataclass(frozen=True, kw_only=True)
class ColourCoding:
    """Meaning of the values of a frame; the same for all frames of a video."""

    matrix: int
    """Matrix that the frame names, otherwise the one that players assume."""
    full: bool
    """Black is 0 and white 255, not 16 and 235."""
    is_rgb: bool = False
    grey: bool = False
    """True for frames without colour. FFmpeg's scaler treats any grey as full range: values are not changed."""
    bits: int = 8
    """Bits a channel that are kept: 8 for grey."""

    def __str__(self) -> str:
        if self.is_rgb or self.grey:
            return "RGB" if self.is_rgb else "grey"
        return f"{MATRIX_NAMES[_scaler_matrix(self.matrix)]} in {'full' if self.full else 'limited'} range"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Coding of the frames of an output, which follows the source's."""

    coding: ColourCoding
    """Coding of the source, for conversions."""
    layout: str
    """Pixel format of the output, such as `yuv420p`."""
    tagged_matrix: int
    """Matrix as the source names it; this and the next three stay unspecified where the source leaves them so."""
    tagged_range: int
    primaries: int
    transfer: int
    notes: tuple[str, ...] = ()
    """Changes to the source's frames, such as a lost alpha channel."""


def is_convertible(frame: Any) -> bool:
    """Return whether the frame's colour matrix is one that can be converted."""
    named = int(frame.colorspace)
    return named in (RGB_MATRIX, UNSPECIFIED) or _scaler_matrix(named) in MATRIX_NAMES


def coding_from_frame(frame: Any) -> ColourCoding:
    """Read how the values of a frame of PyAV are coded."""
    is_rgb, grey = bool(frame.format.is_rgb or frame.format.has_palette), _is_grey(frame.format)
    named, named_range = int(frame.colorspace), int(frame.color_range)
    if frame.format.name.startswith("yuvj") or (grey and not named_range):  # full range by an old name of the format
        named_range = FULL
    guessed = BT709 if frame.height > LARGE[0] or frame.width > LARGE[1] else BT470BG
    matrix = guessed if is_rgb or named in (UNSPECIFIED, RGB_MATRIX) else named
    bits = 8 if grey else max(8, *(part.bits for part in frame.format.components if not part.is_alpha))
    return ColourCoding(matrix=matrix, full=named_range == FULL and not is_rgb, is_rgb=is_rgb, grey=grey, bits=bits)


def colour_notes(frame: Any, *, deep: bool = False) -> Iterator[str]:
    """Describe what the conversion to RGB changes or assumes; the same for all frames of a video.

    Args:
        frame: the first.
        deep: colours of more than 8 bits are not read as 8.
    """
    coding = coding_from_frame(frame)
    if coding.matrix != int(frame.colorspace) and not coding.is_rgb and not coding.grey:
        name = MATRIX_NAMES[coding.matrix]
        yield f"no colour matrix is stated; {name} is taken, as players do for frames of this size"
    if (curve := HDR_CURVES.get(int(frame.color_trc))) is not None:
        yield f"its {curve} values are taken as they are, without tone mapping"
    colour = [component for component in frame.format.components if not component.is_alpha]
    if len(colour) < len(frame.format.components):
        yield "its alpha channel is left out"
    if (bits := max(component.bits for component in colour)) > 8 and not (deep and coding.bits > 8):
        yield f"{bits} bits a channel are read as 8"


def rgb_from_frame(frame: Any, coding: ColourCoding) -> Picture:
    """Convert a decoded frame to RGB, without rotation."""
    ranges: dict[str, int] = {}
    if not coding.is_rgb:
        source_range = FULL if coding.full else LIMITED
        ranges = {"src_colorspace": _scaler_matrix(coding.matrix), "src_color_range": source_range}
        ranges["dst_color_range"] = FULL
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24", interpolation=EXACT, **ranges), dtype=np.uint8)


def bytes_from_picture(picture: Picture) -> NDArray[np.uint8]:
    """Round a picture to 8 bits a channel."""
    return picture if picture.dtype == np.uint8 else np.rint(picture * 255).astype(np.uint8)


def encoding_for(frame: Any, codec: str, layout: str | None = None) -> Encoding:
    """Decide how to encode a video.

    Args:
        frame: its first, of PyAV.
        codec: name of the encoder.
        layout: pixel format to take in place of the one that fits best.

    Raises:
        FrameError: the encoder has no pixel format that fits.
    """
    av = require("av", extra="video")
    known = [one.name for one in av.codec.Codec(codec, "w").video_formats or ()]
    known = known or [*PIPE_LAYOUTS, *RAW_ONLY.get(codec, ())]
    if layout is not None and layout not in known:
        raise FrameError(
            f"pix_fmt is {layout}; {codec} takes {', '.join(known)}", code="pixel-format-not-encoded", codec=codec
        )
    given = layout
    layout, notes = (layout, []) if layout else _layout(frame, codec, known)
    coding, named, named_range = coding_from_frame(frame), int(frame.colorspace), int(frame.color_range)
    if coding.full and codec == LIMITED_ONLY:
        message = f"{codec} cannot say that values are in full range, and these are; choose another codec"
        raise FrameError(message, code="range-not-encoded", codec=codec)
    if coding.is_rgb and not av.VideoFormat(layout).is_rgb and layout != "pal8":
        notes.append(f"{frame.format.name} becomes {layout}: RGB values are rounded to YUV")
        is_even = frame.width % 2 == frame.height % 2 == 0
        if given is None and layout.startswith("yuv444p") and "yuv420p" in known and codec in EVEN_ONLY and is_even:
            notes.append(
                f"many players and browsers cannot play {layout}: --encoder-options pix_fmt=yuv420p makes a video "
                "that they can play"
            )
    if coding.is_rgb:
        named, named_range = coding.matrix, LIMITED
    elif coding.full:
        named_range = FULL
    return Encoding(
        coding=coding,
        layout=layout,
        tagged_matrix=named,
        tagged_range=named_range,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        notes=tuple(notes),
    )


def frame_from_rgb(picture: Picture, encoding: Encoding) -> Any:
    """Convert RGB to a frame to encode, in the video's own matrix and range."""
    av = require("av", extra="video")
    if encoding.layout == "rgb48be":
        return av.VideoFrame.from_ndarray(np.rint(picture * 65535).astype(np.uint16), format="rgb48be")
    if picture.dtype != np.uint8 and encoding.layout not in RGB_LAYOUTS:
        planar = planar_layout(av.VideoFormat(encoding.layout))
        return _recoded(frame_from_floats(picture, replace(encoding, layout=planar)), encoding)
    picture = bytes_from_picture(picture)
    if encoding.layout == "pal8":
        few = Image.fromarray(picture).quantize(dither=Image.Dither.FLOYDSTEINBERG)
        palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
        used = np.array(few.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette[: len(used), 1:] = used
        return av.VideoFrame.from_ndarray((np.asarray(few), palette), format="pal8")
    given = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    if encoding.layout == "rgb24":
        return given
    if encoding.coding.grey:
        return _grey_as(given.reformat(format="gray"), encoding.layout)
    frame = _scaled(given, encoding.layout, encoding.coding)
    if encoding.coding.full and encoding.layout in SUBSAMPLED.values():  # of 8 bits
        finer = _scaled(given, f"{encoding.layout}12le", encoding.coding)
        codes = np.arange(4096) + 0.5  # the scaler rounds these down too, so 0.5 is the mean of each code
        levels = np.clip(np.rint((codes - 2048) * (255 / 4095) + 128), 0, 255).astype(np.uint8)
        for plane, deep in zip(frame.planes[1:], finer.planes[1:], strict=True):
            plane_values(plane)[...] = levels[plane_values(deep, 12)]
    return frame


def frame_to_encode(frame: Any, picture: Picture, encoding: Encoding) -> Any:
    """Convert a decoded frame to the output's pixel format, without passing through RGB where possible.

    Args:
        frame: as decoded; not modified.
        picture: the same as RGB.
        encoding: of the output.
    """
    coding, layout = encoding.coding, encoding.layout
    if frame.format.name == layout:
        return frame
    if layout in RGB_LAYOUTS:
        return frame_from_rgb(picture, encoding)
    if coding.grey:
        return _grey_as(frame.reformat(format="gray"), layout)
    if coding.is_rgb:
        return frame_from_rgb(picture, encoding)
    if frame.format.name == layout.replace("yuv", "yuvj"):  # the same values under an old name of the format
        copy = require("av", extra="video").VideoFrame(frame.width, frame.height, layout)
        for source, target in zip(frame.planes, copy.planes, strict=True):
            plane_values(target)[...] = plane_values(source)
        return copy
    return _recoded(frame, encoding)


def _recoded(frame: Any, encoding: Encoding) -> Any:
    """Convert to the output's pixel format, in the same matrix and range."""
    coding = encoding.coding
    value_range, matrix = FULL if coding.full else LIMITED, _scaler_matrix(coding.matrix)
    return frame.reformat(
        format=encoding.layout,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=value_range,
        dst_color_range=value_range,
        interpolation=EXACT,
    )


def _layout(frame: Any, codec: str, known: Sequence[str]) -> tuple[str, list[str]]:
    """Choose the pixel format to encode, and describe what it loses."""
    source, bits = frame.format, coding_from_frame(frame).bits
    if source.name in RAW_ONLY.get(codec, ()):
        return source.name, []
    if not any(one.startswith("yuv") for one in known):  # pictures
        [chosen, *_] = [one for one in RGB_LAYOUTS if one in known and (bits > 8 or one != "rgb48be")]
        return chosen, [f"{codec} has 256 colours a frame: others are dithered"] if chosen == "pal8" else []
    if _is_grey(source):
        grey = "gray" in known
        notes = [] if grey else [f"{codec} has no grey: it is written as yuv420p without colour"]
        return "gray" if grey else "yuv420p", notes
    across, down = 1, 1
    if not (source.is_rgb or source.has_palette):
        across, down = 16 // source.chroma_width(16), 16 // source.chroma_height(16)
    layout, notes = SUBSAMPLED.get((across, down), ""), []
    if bits > 8:
        depths = [depth for depth in DEPTHS if f"{layout}{depth}le" in known]
        fitting = [depth for depth in depths if depth >= bits] or depths[-1:]
        if not depths and layout == "yuv420p" and codec in DEEP_NVENC:
            lost = [f"{codec} has no {bits} bits a channel: 10 are written"] if bits > 10 else []
            return "p010le", lost
        if not depths and "yuv422p10le" in known and layout != "yuv444p":  # ProRes has no 4:2:0
            fitting, layout = [10], "yuv422p"
        if fitting:
            lost = [f"{codec} has no {bits} bits a channel: {fitting[0]} are written"] if fitting[0] < bits else []
            return f"{layout}{fitting[0]}le", lost
        notes.append(f"{codec} has no {bits} bits a channel in {layout}: 8 are written")
    if (frame.width % across or frame.height % down) and codec in EVEN_ONLY:
        notes.append(
            f"{codec} takes no odd size ({frame.width}x{frame.height}) in {layout}: it is written as yuv444p, which "
            "some players cannot play"
        )
        layout = "yuv444p"
    elif layout not in known:
        more = ("yuv444p", f"{layout}10le", "yuv422p10le", "yuv444p10le")  # the last two are ProRes's
        layout = next((one for one in more if one in known), "yuv444p")
        notes.append(f"{codec} has no {source.name}: it is written as {layout}")
    if layout not in known:
        even = frame.width % 2 == frame.height % 2 == 0  # what pixel formats with fewer colours than pixels take
        advice = "give --encoder-options pix_fmt=yuv420p" if even else "choose another codec with --codec"
        message = f"{codec} encodes {', '.join(known)}; expected {layout} for a video in {source.name}: {advice}"
        raise FrameError(message, code="pixel-format-not-encoded", codec=codec, expected=layout)
    return layout, notes


def _is_grey(layout: Any) -> bool:
    return not layout.has_palette and sum(not component.is_alpha for component in layout.components) == 1


def _scaled(frame: Any, layout: str, coding: ColourCoding) -> Any:
    return frame.reformat(
        format=layout,
        dst_colorspace=_scaler_matrix(coding.matrix),
        src_color_range=FULL,
        dst_color_range=FULL if coding.full else LIMITED,
        interpolation=EXACT,
    )


def _scaler_matrix(matrix: int) -> int:
    """Convert AVColorSpace to the scaler's number, from which PyAV sets that of the frame."""
    return BT470BG if matrix == SMPTE170M else matrix


def _grey_as(grey: Any, layout: str) -> Any:
    """Convert grey to another pixel format, with neutral chroma."""
    if layout == "gray":
        return grey
    frame = require("av", extra="video").VideoFrame(grey.width, grey.height, layout)
    luma, *chroma = frame.planes
    plane_values(luma)[...] = plane_values(grey.planes[0])
    for plane in chroma:
        np.frombuffer(plane, np.uint8)[...] = 128
    return frame
