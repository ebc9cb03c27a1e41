"""Pictures as arrays: reading, padding to the networks' multiple, cropping, mirroring to a larger size.

Arrays are FP32 [1, 3, H, W], RGB in [0, 1]. Whatever a picture loses in the conversion becomes a note.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from refine_export.errors import FrameError
from refine_export.signature import LARGEST_SIDE, padded_size
from refine_export.support.files import check_input_file
from refine_export.support.text import size_text

Frame: TypeAlias = NDArray[np.float32]
AddNote: TypeAlias = Callable[[str], None]
"""Receives one sentence for the notes of a report."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Formats that are read; some others of Pillow's start external programs."""
SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm")
"""Suffixes of the pictures in a folder, in lower case."""
LONGEST_LABEL = 48
ORIENTATION = 0x0112  # tag of EXIF


@dataclass(frozen=True)
class FramePair:
    """Two consecutive frames of equal size, each [1, 3, H, W]."""

    name: str
    """Name in messages and in the report."""
    img0: Frame
    img1: Frame
    middle: Frame | None = None
    """The true frame between them, where it is known."""

    @cached_property
    def sha256(self) -> tuple[str, str]:
        """Hashes of the shape and the pixels of img0 and img1."""
        hash0, hash1 = (
            hashlib.sha256(repr(frame.shape).encode() + frame.tobytes()).hexdigest() for frame in (self.img0, self.img1)
        )
        return hash0, hash1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.img0.shape[2:]
        return int(height), int(width)


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return a short, printable and unique name for each path."""
    labels: list[str] = []
    for path in paths:
        name = "".join(char if char.isprintable() else "?" for char in path.name or str(path))
        if len(name) > LONGEST_LABEL:
            half = LONGEST_LABEL // 2
            name = f"{name[: half - 1]}...{name[-half + 2 :]}"
        label, copy = name, 1
        while label in labels:
            copy += 1
            label = f"{name} ({copy})"
        labels.append(label)
    return labels


def padded(pair: FramePair, multiple_of: int) -> FramePair:
    """Repeat the last rows and columns up to the next multiples; `cropped` undoes it."""
    return _resized(pair, padded_size(*pair.size, multiple_of), "edge")


def at_size(pair: FramePair, size: tuple[int, int]) -> FramePair:
    """Crop a pair, or mirror it at its borders, to another size; resampling would blur or alias its texture."""
    return _resized(pair, size, "symmetric")


def cropped(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return the top left `size` of [N, C, H, W], as a view."""
    return array[:, :, : size[0], : size[1]]


def _resized(pair: FramePair, size: tuple[int, int], mode: Literal["edge", "symmetric"]) -> FramePair:
    if size == pair.size:
        return pair

    def frame(array: Frame) -> Frame:
        bottom, right = (max(0, new - old) for new, old in zip(size, pair.size, strict=True))
        grown = np.pad(array, ((0, 0), (0, 0), (0, bottom), (0, right)), mode=mode)
        return np.ascontiguousarray(cropped(grown, size))

    return FramePair(pair.name, frame(pair.img0), frame(pair.img1))


def uint8_from_frame(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert [1, 3, H, W] in [0, 1] to [H, W, 3] in 0 to 255, rounded; pixels that are not finite become magenta."""
    planes = frame[0].astype(np.float32)  # as FP16, 255 times a value would be rounded
    bad = ~np.isfinite(planes).all(axis=0)
    planes[:, bad] = 0
    picture = np.ascontiguousarray(np.moveaxis(np.rint(planes.clip(0, 1) * 255).astype(np.uint8), 0, -1))
    picture[bad] = (255, 0, 255)
    return picture


def frame_from_file(
    path: Path, add_note: AddNote | None = None, label: str = "", read_deep: Callable[[Path], Frame] | None = None
) -> Frame:
    """Read a picture as [1, 3, H, W].

    Args:
        path: the file.
        add_note: receives what was converted.
        label: name of the picture, or of its folder, in the notes.
        read_deep: reads colours of 16 bits as [H, W, 3] in [0, 1]; they are read as 8 bits without it.

    Raises:
        FrameError: `unreadable-picture`, `too-large` or `unknown-range`; or the path is not a file.
    """
    with opened_picture(path) as picture:
        if picture.format == "PNG":
            picture.verify()  # decoding skips the checksums, and does not miss an end that was cut off
    with opened_picture(path) as picture:
        reads_deep = read_deep is not None and is_deep(picture) and picture.getexif().get(ORIENTATION, 1) == 1
        conversions = list(_conversions(picture, reads_deep=reads_deep))
        pixels = read_deep(path) if read_deep is not None and reads_deep and picture.mode[0] != "I" else _rgb(picture)
    if pixels is None:
        problem = "has pixels of 32 bits without a range; expected 8 or 16 bits a channel: convert it"
        raise FrameError.about(path, "unknown-range", problem)
    if conversions and add_note is not None:
        add_note(f"{label or path.name}: {', '.join(conversions)}.")
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)[None])


def size_of_file(path: Path) -> tuple[int, int]:
    """Read height and width of a picture in pixels from its header; damage behind the header does not show.

    Raises:
        FrameError: as in `frame_from_file`.
    """
    with opened_picture(path) as picture:
        # Pillow decodes a whole PNG to look for EXIF behind the pixels; only what stands before them counts here.
        unread = picture.format == "PNG" and not {"exif", "Raw profile type exif"} & set(picture.info)
        turned = not unread and picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


def check_sizes(files: Sequence[Path]) -> None:
    """Refuse pictures of several sizes, by their headers.

    Raises:
        FrameError: `sizes-differ`; or as in `frame_from_file`.
    """
    expected = size_of_file(files[0])
    for path in files[1:]:
        if (size := size_of_file(path)) != expected:
            problem = f"is {size_text(size)}, {files[0].name} is {size_text(expected)}; give frames of one size"
            raise FrameError.about(path, "sizes-differ", problem)


def natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort numbers by their value, frame2 before frame10; the name decides between 2 and 02."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts], path.name


def picture_or_animation(path: Path) -> str:
    """Return what a file is, for messages: `one picture` or `an animation of 4 frames`.

    Raises:
        FrameError: as in `frame_from_file`.
    """
    with opened_picture(path) as picture:
        frames = getattr(picture, "n_frames", 1)
    return "one picture" if frames == 1 else f"an animation of {frames} frames"


@contextmanager
def opened_picture(path: Path) -> Iterator[Any]:
    """Open a picture with Pillow and translate its errors; the pixels are not read yet."""
    check_input_file(path, FrameError, "give a picture file, such as a PNG")
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if max(picture.size) > LARGEST_SIDE:
                size = size_text(picture.size)
                raise FrameError.about(path, "too-large", f"is {size}; expected at most {LARGEST_SIDE} pixels a side")
            yield picture
    except FrameError:
        raise
    except Exception as error:  # another format, a decompression bomb; a damaged picture can raise nearly anything
        problem = f"cannot be read as a picture ({error}); give a complete PNG, JPEG or WebP file"
        raise FrameError.about(path, "unreadable-picture", problem) from error


def _conversions(picture: Any, *, reads_deep: bool) -> Iterator[str]:
    """Describe what the conversion to RGB changes; to be called before the pixels are read."""
    mode, deep = picture.mode, is_deep(picture)  # first: reading EXIF may decode the picture
    if getattr(picture, "n_frames", 1) > 1:
        yield f"the first of {picture.n_frames} pictures is read"
    if picture.getexif().get(ORIENTATION, 1) != 1:
        yield "rotated by its EXIF orientation"
    if mode in ("L", "LA", "1", "I", "I;16", "I;16L", "I;16B"):
        yield "grey is copied to all three channels"
    elif mode in ("P", "PA"):
        yield "the colours of a palette become RGB"
    elif mode not in ("RGB", "RGBA", "RGBX", "RGBa"):
        yield f"{mode} becomes RGB"
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        yield "its alpha channel is left out"
    if deep and mode[0] != "I" and not reads_deep:
        yield "16 bits a channel are read as 8"


def is_deep(picture: Any) -> bool:
    """Return whether a picture that is not read yet has more than 8 bits a channel; Pillow keeps them only for grey."""
    if not picture.tile:
        return False
    codec, _, _, arguments = picture.tile[0]
    raw_mode, *more = arguments if isinstance(arguments, tuple) else (arguments,)
    return ";16" in str(raw_mode) or (codec.startswith("ppm") and bool(more) and more[0] > 255)


def _rgb(picture: Any) -> Frame | None:
    """Read the pixels as [H, W, 3] in [0, 1]; None where the range of the values is not known."""
    # Grey of 16 bits keeps its depth; Pillow reads a PGM of 16 bits in the mode of 32.
    deep_grey = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM")
    picture = ImageOps.exif_transpose(picture)
    if deep_grey:
        grey = np.asarray(picture, dtype=np.float32) / np.float32(65535)
        return np.repeat(grey[..., None], 3, axis=-1)
    if picture.mode in ("I", "F"):
        return None
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255)
