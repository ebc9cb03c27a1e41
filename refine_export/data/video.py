"""Videos to frames, one at a time: what is held does not grow with the length.

Colours: the matrix and the range that the video names. Without a matrix it is BT.709 for a large frame and BT.601 for
a small one, as players take it. Bits beyond 8 are rounded off: FFmpeg's way to RGB of 16 bits ends at 65280, not 65535.

Only containers that hold their own data are opened, as files: no playlist, address or list of other files is followed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.data.images import AddNote
from refine_export.errors import FrameError
from refine_export.signature import LARGEST_SIDE
from refine_export.support.imports import require

if TYPE_CHECKING:
    from refine_export.data.images import Frame

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg", ".ogv", ".ivf", ".y4m", ".flv",
    ".nut",
)  # fmt: skip
"""By which a video is known, in lower case."""
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,ivf,yuv4mpegpipe,flv,nut"
TELL_THEIR_LENGTH = ("mov", "matroska", "avi")  # others estimate it
LARGEST_PIXELS = 2**27
LENGTH_TOLERANCE = 1.5  # frames

# AVColorSpace of FFmpeg's libavutil/pixfmt.h
RGB_MATRIX, BT709, UNSPECIFIED = 0, 1, 2
MATRICES = (RGB_MATRIX, BT709, UNSPECIFIED, 4, 5, 6, 7, 9)  # FCC, BT.470BG, SMPTE 170M, SMPTE 240M, BT.2020
# AVColorTransferCharacteristic, likewise
BILINEAR, FULL_CHROMA_H_INT, FULL_CHROMA_H_INP, ACCURATE = 2, 0x2000, 0x4000, 0x40000  # libswscale/swscale.h
EXACT = BILINEAR | FULL_CHROMA_H_INT | FULL_CHROMA_H_INP | ACCURATE
"""How pixels are converted: with the scaler's defaults 4:2:0 comes out 1.2 of 255 levels too dark in the mean."""
HDR_CURVES = {16: "PQ", 18: "HLG"}
LARGE = (576, 1279)  # height or width above which players take BT.709, as mpv's video/csputils.c does


def frames_of_video(path: Path, say: AddNote, label: str = "") -> Iterator[Callable[[], Frame]]:
    """The frames in order; each becomes [1, 3, H, W] when it is called.

    Args:
        path: the file.
        say: told what is converted, and what had to be guessed.
        label: what the notes call the video.

    Raises:
        FrameError: no video, or broken, too large, or of colours that can't be converted; at the frame where it shows.
        UnavailableError: PyAV is missing.
    """
    av = require("av", extra="video")
    if not path.is_file():
        raise FrameError(f"{path} does not exist or is no file; give a video, such as an MP4")
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{path.resolve()}", options=options, metadata_errors="replace") as container:
            yield from _decoded(path, container, lambda said: say(f"{label or path.name}: {said}."))
    except av.FFmpegError as error:
        raise FrameError(
            f"{path} can't be decoded ({error.strerror}): it is no video, broken or truncated; make it again, or take "
            "its first frames with max_pairs"
        ) from error


def _decoded(path: Path, container: Any, say: AddNote) -> Iterator[Callable[[], Frame]]:
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        raise FrameError(f"{path} has no video that can be decoded; give one with pictures in it")
    stream.codec_context.options = {"max_pixels": str(LARGEST_PIXELS)}
    size, count, end_s = None, 0, 0.0
    for packet in container.demux():
        if packet.pts is not None and packet.duration and packet.time_base:
            end_s = max(end_s, float((packet.pts + packet.duration) * packet.time_base))
        if packet.stream.index != stream.index:
            continue
        for frame in packet.decode():
            here = (frame.height, frame.width)
            size = size or here
            _check_frame(path, count, frame, size)
            if count == 0:
                for sentence in _said_of(frame):
                    say(sentence)
            yield functools.partial(_rgb, frame)
            count += 1
    _check_length(path, container, count, end_s, float(stream.average_rate or 25))


def _check_frame(path: Path, index: int, frame: Any, size: tuple[int, int]) -> None:
    here = (frame.height, frame.width)
    if max(here) > LARGEST_SIDE:
        raise FrameError(f"{path} is {here[1]}x{here[0]}; expected at most {LARGEST_SIDE} pixels a side")
    if here != size:
        raise FrameError(
            f"{path}: frame {index} is {here[1]}x{here[0]}, those before are {size[1]}x{size[0]}; expected one size: "
            "cut the video there"
        )
    if frame.is_corrupt:
        raise FrameError(f"{path} is broken at frame {index}; make it again, or take what is before with max_pairs")
    if int(frame.colorspace) not in MATRICES:
        raise FrameError(
            f"{path} has the colour matrix {int(frame.colorspace)} of FFmpeg, which can't be converted; expected "
            "BT.601, BT.709 or BT.2020: convert it with ffmpeg"
        )


def _check_length(path: Path, container: Any, count: int, end_s: float, rate: float) -> None:
    """Refuse a video that stops before its own end: a truncated file decodes without an error."""
    if container.duration is None or not container.format.name.startswith(TELL_THEIR_LENGTH):
        return
    length_s = container.duration / 1e6
    if length_s - end_s > LENGTH_TOLERANCE / rate:
        raise FrameError(
            f"{path} ends after {count} frames, at {end_s:.2f} of {length_s:.2f} seconds: it is truncated; copy it "
            "again, or take its first frames with max_pairs"
        )


def _said_of(frame: Any) -> Iterator[str]:
    """What the way to RGB changes or takes for granted; the same for all frames."""
    layout = frame.format.name
    if _guessed(frame):
        matrix, size = ("BT.709", "large") if _large(frame) else ("BT.601", "small")
        yield f"it names no colour matrix; {matrix} is taken, as players do for {size} frames"
    if frame.rotation % 90:
        yield f"it is to be shown at {frame.rotation} degrees; it is not turned"
    elif frame.rotation:
        yield f"turned by {frame.rotation} degrees, as it says"
    if frame.interlaced_frame:
        yield "it is interlaced; its fields are not taken apart"
    if (curve := HDR_CURVES.get(int(getattr(frame, "color_trc", 0)))) is not None:
        yield f"its {curve} values are taken as they are, without tone mapping"
    if layout.startswith("gray"):
        yield "grey is given to all three channels"
    if layout.startswith(("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya")):
        yield "its alpha channel is left out"
    if (bits := max(component.bits for component in frame.format.components)) > 8:
        yield f"{bits} bits a channel are read as 8"


def _guessed(frame: Any) -> bool:
    return int(frame.colorspace) == UNSPECIFIED and frame.format.name.startswith(("yuv", "nv", "p0", "p2", "p4"))


def _large(frame: Any) -> bool:
    return bool(frame.height > LARGE[0] or frame.width > LARGE[1])


def _rgb(frame: Any) -> Frame:
    import numpy as np

    if _guessed(frame) and _large(frame):
        frame.colorspace = BT709  # FFmpeg takes BT.601 for what names none
    pixels = frame.to_ndarray(format="rgb24", interpolation=EXACT)
    turns = 0 if frame.rotation % 90 else frame.rotation // 90
    pixels = np.moveaxis(np.rot90(pixels, turns), -1, 0)[None]
    return np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)
