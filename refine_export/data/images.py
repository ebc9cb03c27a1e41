"""Pictures to arrays and back: loading, padding to the stride, cropping, mirroring to a larger size.

Arrays are FP32 [1, 3, H, W], RGB in [0, 1]. What a picture loses on the way is said, never silent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.errors import FrameError
from refine_export.signature import LARGEST_SIDE, MULTIPLE_OF

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frame = NDArray[np.float32]


Say = Callable[[str], None]
"""Takes one sentence for the notes of a report."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""What is read; some others of Pillow's start other programs."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm")
"""By which the pictures of a folder are known, in lower case."""
LONGEST_LABEL = 48
ORIENTATION = 0x0112  # of EXIF


@dataclass(frozen=True, kw_only=True)
class FramePair:
    """Two consecutive frames of equal size."""

    name: str
    """For messages and the report."""
    img0: Frame
    img1: Frame
    middle: Frame | None = None
    """The true frame between them, where it is known."""

    @cached_property
    def sha256(self) -> tuple[str, str]:
        """Of the pixels of img0 and img1."""
        return _sha256(self.img0), _sha256(self.img1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.img0.shape[2:]
        return int(height), int(width)


def unheard(sentence: str) -> None:
    """Drop a note."""


def labels_of(paths: Sequence[Path]) -> list[str]:
    """A short name for each path, printable, and different from all others."""
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


def pair_from_arrays(name: str, img0: Frame, img1: Frame, middle: Frame | None = None) -> FramePair:
    """A pair of frames [1, 3, H, W]."""
    return FramePair(name=name, img0=img0, img1=img1, middle=middle)


def padded_size(height: int, width: int) -> tuple[int, int]:
    """The next multiples of the stride."""
    return -(-height // MULTIPLE_OF) * MULTIPLE_OF, -(-width // MULTIPLE_OF) * MULTIPLE_OF


def padded(pair: FramePair) -> FramePair:
    """The pair with its last rows and columns repeated up to multiples of the stride; `cropped` undoes it."""
    if padded_size(*pair.size) == pair.size:
        return pair
    return pair_from_arrays(pair.name, _pad(pair.img0), _pad(pair.img1))


def cropped(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The top left `size` of [N, C, H, W], a view."""
    return array[:, :, : size[0], : size[1]]


def at_size(pair: FramePair, size: tuple[int, int]) -> FramePair:
    """The pair cropped, or mirrored at its borders, to another size; resizing would blur or alias its texture."""
    if size == pair.size:
        return pair
    return pair_from_arrays(pair.name, _tiled(pair.img0, size), _tiled(pair.img1, size))


def uint8_from_frame(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """[1, 3, H, W] in [0, 1] to [H, W, 3] in 0 to 255, rounded; NaN is shown as magenta."""
    import numpy as np

    picture = np.moveaxis(frame[0], 0, -1).astype(np.float64)
    bad = ~np.isfinite(picture).all(axis=-1)
    picture = np.rint(np.clip(np.nan_to_num(picture), 0, 1) * 255)
    picture[bad] = (255, 0, 255)
    return np.asarray(picture, dtype=np.uint8)


def frame_from_file(path: Path, say: Say = unheard, label: str = "") -> Frame:
    """One picture: [1, 3, H, W].

    Args:
        path: the file.
        say: told what was converted.
        label: what the notes call the picture, or the folder that it is of.

    Raises:
        FrameError: it is missing, no picture, too large or damaged.
    """
    import numpy as np

    with _opened(path) as picture:
        converted = list(_conversions(picture))
        pixels = _rgb(picture)
    if pixels is None:
        raise FrameError(f"{path} has pixels of 32 bits without a range; expected 8 or 16 bits a channel: convert it")
    if converted:
        say(f"{label or path.name}: {', '.join(converted)}.")
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)[None])


def size_of_file(path: Path) -> tuple[int, int]:
    """Height and width of a picture in pixels, from its header.

    Raises:
        FrameError: as in `frame_from_file`; damage behind the header is not seen.
    """
    with _opened(path) as picture:
        unread = picture.format == "PNG" and not {"exif", "Raw profile type exif"} & set(picture.info)
        turned = not unread and picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)  # for others it decodes a PNG
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture, as Pillow opens it; its pixels are not read yet."""
    from PIL import Image, UnidentifiedImageError

    if path.is_dir():
        raise FrameError(f"{path} is a directory; give a picture file")
    if path.exists() and not path.is_file():
        raise FrameError(f"{path} is no regular file; give a picture file")
    try:
        with Image.open(path, formats=FORMATS) as opened:
            if max(opened.size) > LARGEST_SIDE:
                raise FrameError(
                    f"{path} is {opened.width}x{opened.height}; expected at most {LARGEST_SIDE} pixels a side"
                )
            yield opened
    except FrameError:
        raise
    except FileNotFoundError:
        raise FrameError(f"{path} does not exist; give a picture file, such as a PNG") from None
    except UnidentifiedImageError as error:
        raise FrameError(f"{path} is no picture that can be read; give a PNG, JPEG or WebP file") from error
    except Image.DecompressionBombError as error:
        raise FrameError(f"{path} is refused: {error}") from error
    except Exception as error:  # a damaged picture can raise nearly anything
        raise FrameError(f"{path} can't be read as a picture ({error}); it is damaged or not readable") from error


def _conversions(picture: Any) -> Iterator[str]:
    """What the way to RGB changes; asked before the pixels are read."""
    mode, deep = picture.mode, _deep(picture)
    if getattr(picture, "n_frames", 1) > 1:
        yield f"the first of {picture.n_frames} pictures is read"
    if picture.getexif().get(ORIENTATION, 1) != 1:
        yield "turned as its EXIF orientation says"
    if mode in ("L", "LA", "1", "I", "I;16", "I;16L", "I;16B"):
        yield "grey is given to all three channels"
    elif mode in ("P", "PA"):
        yield "the colours of a palette become RGB"
    elif mode not in ("RGB", "RGBA", "RGBX", "RGBa"):
        yield f"{mode} becomes RGB"
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        yield "its alpha channel is left out"
    if deep and mode[0] != "I":
        yield "16 bits a channel are read as 8"


def _deep(picture: Any) -> bool:
    """Whether the file has more than 8 bits a channel; Pillow keeps them for grey alone."""
    if not picture.tile:
        return False
    codec, _, _, given = picture.tile[0]
    raw_mode, *more = given if isinstance(given, tuple) else (given,)
    return ";16" in str(raw_mode) or (codec.startswith("ppm") and bool(more) and more[0] > 255)


def _rgb(picture: Any) -> NDArray[np.float32] | None:
    """[H, W, 3] in [0, 1]; grey of 16 bits keeps them. None where the range of the values is not known."""
    import numpy as np
    from PIL import ImageOps

    of_sixteen_bits = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM")
    picture = ImageOps.exif_transpose(picture)
    if of_sixteen_bits:
        grey = np.asarray(picture, dtype=np.float32) / np.float32(65535)
        return np.repeat(grey[..., None], 3, axis=-1)
    if picture.mode in ("I", "F"):
        return None
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255)


def _pad(frame: Frame) -> Frame:
    import numpy as np

    height, width = frame.shape[2:]
    bottom, right = (new - old for new, old in zip(padded_size(height, width), (height, width), strict=True))
    return np.pad(frame, ((0, 0), (0, 0), (0, bottom), (0, right)), mode="edge")


def _tiled(frame: Frame, size: tuple[int, int]) -> Frame:
    import numpy as np

    bottom, right = (max(0, new - old) for new, old in zip(size, frame.shape[2:], strict=True))
    grown = np.pad(frame, ((0, 0), (0, 0), (0, bottom), (0, right)), mode="symmetric")
    return np.ascontiguousarray(cropped(grown, size))


def _sha256(frame: Frame) -> str:
    return hashlib.sha256(repr(frame.shape).encode() + frame.tobytes()).hexdigest()
