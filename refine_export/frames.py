"""Pictures to arrays and back: loading, padding to the stride, cropping, mirroring to a larger size.

Arrays are FP32 [1, 3, H, W], RGB in [0, 1].
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.errors import FrameError
from refine_export.signature import LARGEST_SIDE, MULTIPLE_OF

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frame = NDArray[np.float32]


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""What is read; some others of Pillow's start other programs."""


@dataclass(frozen=True, kw_only=True)
class FramePair:
    """Two consecutive frames of equal size."""

    name: str
    """For messages and the report."""
    img0: Frame
    img1: Frame
    middle: Frame | None = None
    """The true frame between them, where it is known."""
    sha256: tuple[str, str]
    """Of the pixels of img0 and img1."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.img0.shape[2:]
        return int(height), int(width)


def pair_from_files(first: Path, second: Path) -> FramePair:
    """Load two pictures of one size, in any format that Pillow reads.

    Raises:
        FrameError: a file is missing or no picture, or the sizes differ.
    """
    img0, img1 = _load(first), _load(second)
    if img0.shape != img1.shape:
        sizes = [f"{path.name} is {image.shape[3]}x{image.shape[2]}" for path, image in ((first, img0), (second, img1))]
        raise FrameError(f"the two frames differ in size: {', '.join(sizes)}; give two frames of one video")
    return pair_from_arrays(f"{first.name} and {second.name}", img0, img1)


def pair_from_arrays(name: str, img0: Frame, img1: Frame, middle: Frame | None = None) -> FramePair:
    """A pair with its hashes."""
    hashes = (_sha256(img0), _sha256(img1))
    return FramePair(name=name, img0=img0, img1=img1, middle=middle, sha256=hashes)


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


def _load(path: Path) -> Frame:
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

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
            pixels = _rgb(ImageOps.exif_transpose(opened))
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
    if pixels is None:
        raise FrameError(f"{path} has pixels of 32 bits without a range; expected 8 or 16 bits a channel: convert it")
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)[None])


def _rgb(picture: Any) -> NDArray[np.float32] | None:
    """[H, W, 3] in [0, 1]; grey of 16 bits keeps them. None where the range of the values is not known."""
    import numpy as np

    if picture.mode.startswith("I;16"):
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
