"""Decoded frames to RGB and back, with the matrix and the range that the video has; and what is encoded.

FFmpeg's scaler is asked for its exact ways: with its fast ones 4:2:0 comes out 1.2 levels too dark on average, and
frames made from RGB would flicker beside those that pass untouched. Full-range chroma it rounds down, by half a level
on average: that is taken at 12 bits and rounded here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refine_export.data.video import BT709, EXACT, LARGE, RGB_MATRIX, UNSPECIFIED
from refine_export.errors import FrameError
from refine_export.support.imports import require

if TYPE_CHECKING:
    from refine_export.interpolation.interpolator import Picture

LIMITED, FULL = 1, 2  # AVColorRange
BT470BG, SMPTE170M = 5, 6  # AVColorSpace: both are BT.601
SUBSAMPLED = {(2, 2): "yuv420p", (2, 1): "yuv422p", (1, 2): "yuv440p", (1, 1): "yuv444p"}
"""How many pixels share a chroma value across and down, to FFmpeg's name of the format."""
NAMES = {1: "BT.709", 4: "FCC", 5: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}
"""Of matrices, by swscale's number."""
EVEN_ONLY = ("libx264", "libx265")
"""Encoders that refuse an odd side where chroma is subsampled along it."""


@dataclass(frozen=True, kw_only=True)
class Colours:
    """How a video's frames are coded, and how those of the output will be; numbers are FFmpeg's."""

    layout: str
    """Pixel format of the output, such as `yuv420p`."""
    matrix: int
    """For the conversions: what the video names, else what players take."""
    full: bool
    """Whether black is 0 and white 255."""
    tagged_matrix: int
    """For the output, as the video has it: not named stays not named."""
    tagged_range: int
    primaries: int
    transfer: int
    by_rgb: bool = False
    """Whether the video's own frames go through RGB too; else their planes are kept, but for bits and subsampling."""
    grey: bool = False
    """Whether it has no colour. FFmpeg's scaler takes any grey for full range: its values stay as they are."""
    notes: tuple[str, ...] = ()
    """What changes on the way."""


@dataclass(frozen=True)
class Meaning:
    """What the values of a frame mean; the same for all frames of a video."""

    matrix: int
    """What it names, else what players take."""
    full: bool
    is_rgb: bool
    grey: bool

    def __str__(self) -> str:
        if self.is_rgb or self.grey:
            return "RGB" if self.is_rgb else "grey"
        matrix = NAMES.get(_scaler_matrix(self.matrix), str(self.matrix))
        return f"{matrix} in {'full' if self.full else 'limited'} range"

    def is_as(self, other: Meaning) -> bool:
        """Whether both are converted alike."""
        return str(self) == str(other)


def meaning_of(frame: Any) -> Meaning:
    """What the values of a frame of PyAV mean."""
    is_rgb = bool(frame.format.is_rgb or frame.format.has_palette)
    named, named_range, grey = int(frame.colorspace), int(frame.color_range), _is_grey(frame.format)
    if frame.format.name.startswith("yuvj") or (grey and not named_range):
        named_range = FULL
    guessed = BT709 if frame.height > LARGE[0] or frame.width > LARGE[1] else BT470BG
    matrix = guessed if is_rgb or named in (UNSPECIFIED, RGB_MATRIX) else named
    return Meaning(matrix, named_range == FULL and not is_rgb, is_rgb, grey)


def colours_of(frame: Any, codec: str) -> Colours:
    """Decide for a video by its first frame.

    Args:
        frame: of PyAV.
        codec: name of the encoder.

    Raises:
        FrameError: the encoder has no pixel format that fits.
    """
    av = require("av", extra="video")
    source = frame.format.name
    known = [one.name for one in av.codec.Codec(codec, "w").video_formats or ()]
    layout, notes = _layout(frame, codec, known)
    meaning, named, named_range = meaning_of(frame), int(frame.colorspace), int(frame.color_range)
    if meaning.is_rgb:
        notes.append(f"{source} becomes {layout}: RGB values are rounded to YUV")
        named_range = LIMITED
    elif meaning.full:
        named_range = FULL
    if meaning.matrix != named and not meaning.is_rgb and not meaning.grey:
        notes.append(
            f"it names no colour matrix; {NAMES[meaning.matrix]} is taken for the frames between, as players do for "
            "this size"
        )
    return Colours(
        layout=layout,
        matrix=meaning.matrix,
        full=meaning.full,
        tagged_matrix=meaning.matrix if meaning.is_rgb else named,
        tagged_range=named_range,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        by_rgb=meaning.is_rgb,
        grey=meaning.grey,
        notes=tuple(notes),
    )


def picture_from_frame(frame: Any, colours: Colours) -> Picture:
    """A decoded frame as RGB, not turned."""
    import numpy as np

    if not colours.by_rgb:
        pixels = frame.to_ndarray(
            format="rgb24",
            src_colorspace=_scaler_matrix(colours.matrix),
            src_color_range=FULL if colours.full else LIMITED,
            dst_color_range=FULL,
            interpolation=EXACT,
        )
    else:
        pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def frame_from_picture(picture: Picture, colours: Colours) -> Any:
    """RGB as a frame to encode, in the video's own matrix and range."""
    import numpy as np

    av = require("av", extra="video")
    given = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    if colours.grey:
        return _grey_as(given.reformat(format="gray"), colours.layout)
    frame = _scaled(given, colours.layout, colours)
    if colours.full:
        finer = _scaled(given, f"{colours.layout}12le", colours)
        for plane, deep in zip(frame.planes[1:], finer.planes[1:], strict=True):
            _rounded(deep, plane)
    return frame


def frame_to_encode(frame: Any, picture: Picture, colours: Colours) -> Any:
    """A decoded frame in the output's pixel format.

    Args:
        frame: as decoded; not modified.
        picture: the same as RGB.
        colours: of the video.
    """
    if frame.format.name == colours.layout:
        return frame
    if colours.grey:
        return _grey_as(frame.reformat(format="gray"), colours.layout)
    if colours.by_rgb:
        return frame_from_picture(picture, colours)
    if frame.format.name == colours.layout.replace("yuv", "yuvj"):
        return _same_planes(frame, colours.layout)
    return frame.reformat(
        format=colours.layout,
        src_colorspace=_scaler_matrix(colours.matrix),
        dst_colorspace=_scaler_matrix(colours.matrix),
        src_color_range=FULL if colours.full else LIMITED,
        dst_color_range=FULL if colours.full else LIMITED,
        interpolation=EXACT,
    )


def _layout(frame: Any, codec: str, known: Sequence[str]) -> tuple[str, list[str]]:
    """The pixel format to encode, and what it loses."""
    source, notes = frame.format, []
    colour = [component for component in source.components if not component.is_alpha]
    if len(colour) < len(source.components):
        notes.append("its alpha channel is left out")
    if (bits := max(component.bits for component in colour)) > 8:
        notes.append(f"{bits} bits a channel are read, and written, as 8")
    if _is_grey(source):
        if "gray" in known:
            return "gray", notes
        return "yuv420p", [*notes, f"{codec} has no grey: it is written as yuv420p without colour"]
    if source.is_rgb or source.has_palette:
        across, down = 1, 1
    else:
        across, down = 16 // source.chroma_width(16), 16 // source.chroma_height(16)
    layout = SUBSAMPLED.get((across, down), "yuv444p")
    odd = (frame.width % across or frame.height % down) and codec in EVEN_ONLY
    if odd:
        layout = "yuv444p"
        notes.append(
            f"{codec} takes no odd size ({frame.width}x{frame.height}) in {SUBSAMPLED.get((across, down))}: it is "
            "written as yuv444p, which some players can't play"
        )
    elif layout not in known or (across, down) not in SUBSAMPLED:
        layout = "yuv444p"
        notes.append(f"{codec} has no {source.name}: it is written as yuv444p")
    if layout not in known:
        raise FrameError(f"{codec} encodes {', '.join(known)}; expected {layout} for a video in {source.name}")
    return layout, notes


def _is_grey(layout: Any) -> bool:
    return not layout.has_palette and sum(not component.is_alpha for component in layout.components) == 1


def _scaled(frame: Any, layout: str, colours: Colours) -> Any:
    return frame.reformat(
        format=layout,
        dst_colorspace=_scaler_matrix(colours.matrix),
        src_color_range=FULL,
        dst_color_range=FULL if colours.full else LIMITED,
        interpolation=EXACT,
    )


def _scaler_matrix(matrix: int) -> int:
    """AVColorSpace to swscale's number; PyAV sets the frame's by it."""
    return BT470BG if matrix == SMPTE170M else matrix


def _rounded(deep: Any, plane: Any) -> None:
    """Full-range chroma of 12 bits to 8, into a plane."""
    import numpy as np

    values = np.frombuffer(deep, np.uint16).reshape(deep.height, -1)[:, : deep.width]
    out = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
    codes = np.arange(4096) + 0.5  # these are rounded down too
    of_8_bits = np.clip(np.rint((codes - 2048) * (255 / 4095) + 128), 0, 255).astype(np.uint8)
    out[:, : plane.width] = of_8_bits[values]


def _grey_as(grey: Any, layout: str) -> Any:
    """Grey under another name of the format: its values, and no colour."""
    import numpy as np

    if layout == "gray":
        return grey
    frame = require("av", extra="video").VideoFrame(grey.width, grey.height, layout)
    luma, *chroma = (np.frombuffer(plane, np.uint8).reshape(plane.height, -1) for plane in frame.planes)
    luma[:, : grey.width] = np.frombuffer(grey.planes[0], np.uint8).reshape(grey.height, -1)[:, : grey.width]
    for plane in chroma:
        plane[:] = 128
    return frame


def _same_planes(frame: Any, layout: str) -> Any:
    """The same values under another name of the format."""
    import numpy as np

    av = require("av", extra="video")
    copy = av.VideoFrame(frame.width, frame.height, layout)
    for source, target in zip(frame.planes, copy.planes, strict=True):
        values = np.frombuffer(source, np.uint8).reshape(source.height, -1)
        out = np.frombuffer(target, np.uint8).reshape(target.height, -1)
        out[:, : target.width] = values[:, : source.width]
    return copy
