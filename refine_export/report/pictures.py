"""Pictures of one comparison as `data:` URIs: the reference, the candidate, and where they differ.

Photographs are WebP, lossy unless a value is not finite; differences and enlarged regions are PNG, so that each of
their pixels is exact.

Shape legend: N batch, C channels, H and W of the output in pixels; error [H, W], the largest over the channels.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from refine_export.data.images import cropped, uint8_from_frame
from refine_export.signature import Signature, TensorSpec
from refine_export.validate.comparison import Compared

Error = NDArray[np.float64]  # [H, W]; NaN where the candidate is not finite
Pixels = NDArray[np.uint8]  # [H, W, 3]

LARGEST_SIDE = 960  # pixels of a picture on the page
REGION = 32  # pixels a side around the worst pixel
ENLARGEMENT = 8
BAD = (255, 0, 255)
LEVELS = 64  # of the difference: a PNG of fewer bytes than with 256, and no visible steps

COLOUR_STOPS = ("#000004", "#280b54", "#65156e", "#9f2a63", "#d44842", "#f57d15", "#fac127", "#ffffff")
"""Colours at equal steps from no error to the top of the scale: Inferno (matplotlib, CC0), with its end made white."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The first output of one comparison; every picture is a `data:` URI."""

    reference: str
    candidate: str
    difference: str
    """Absolute error, the largest over the channels, times `difference_scale`."""
    difference_scale: float
    """1, 2 or 5 times a power of ten; an error of 1 / difference_scale is white."""
    worst_reference: str
    """32x32 pixels around the worst pixel, which is framed, 8 times enlarged."""
    worst_candidate: str
    worst_difference: str
    worst_at: tuple[float, float] | None
    """x and y of the worst pixel's middle, from 0 to 1; None where it lies in the padding that was cropped."""
    caption: str
    """Name of the output that is shown, such as `residual`, or `f1: mean of the channels, scaled to its range`."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all pictures on the page."""
        return sum(len(value) for value in vars(self).values() if isinstance(value, str))


@dataclass(frozen=True, kw_only=True)
class FramePictures:
    """The frames at the head of the page as `data:` URIs, see `data_uri_from_frame`."""

    img0: str
    img1: str
    middle: str | None
    """The true frame between them, where it is known."""
    interpolated: str | None
    """The frame between them as a candidate interpolated it; None where there was none."""
    interpolated_caption: str
    """File, feed and runtime of that candidate."""


def pictures_from_compared(
    compared: Compared, signature: Signature, *, crop: tuple[int, int] | None = None
) -> Pictures | None:
    """Draw the first output, or return None if the candidate returned nothing that can be compared.

    Args:
        compared: one candidate on one feed.
        signature: signature of the graph.
        crop: height and width of the frames before they were padded; outputs of full size are cropped to it.
    """
    if not compared.verdict.outputs:
        return None
    spec = signature.outputs[0]
    worst = compared.verdict.outputs[0].metrics.worst
    batch, y, x = (worst.batch, worst.y, worst.x) if worst else (0, 0, 0)
    reference, candidate = (arrays[spec.name][batch : batch + 1] for arrays in (compared.expected, compared.actual))
    error = np.abs(candidate.astype(np.float64) - reference).max(axis=(0, 1))
    error[~np.isfinite(error)] = np.nan
    # The scale comes from the whole output, padding included, because the numbers beside it do too.
    scale = amplification(float(np.nanmax(error)) if np.isfinite(error).any() else 0.0)
    frames, caption = _frames(reference, candidate, spec)
    region, marked = _region(error.shape, y, x)
    near_reference, near_candidate = (uint8_from_frame(frame[(..., *region)]) for frame in frames)
    near_error = _palette()[_levels(error[region], scale)]
    if crop is not None and spec.shape[2:] == ("H", "W"):
        frames = [cropped(frame, crop) for frame in frames]
        error = error[: crop[0], : crop[1]]
    height, width = error.shape
    return Pictures(
        reference=data_uri_from_frame(frames[0]),
        candidate=data_uri_from_frame(frames[1]),
        difference=_uri(difference_picture(error, scale), "PNG"),
        difference_scale=scale,
        worst_reference=_uri(_enlarged(near_reference, marked), "PNG"),
        worst_candidate=_uri(_enlarged(near_candidate, marked), "PNG"),
        worst_difference=_uri(_enlarged(near_error, marked), "PNG"),
        worst_at=((x + 0.5) / width, (y + 0.5) / height) if worst and x < width and y < height else None,
        caption=caption,
    )


def data_uri_from_frame(frame: NDArray[Any]) -> str:
    """Encode a frame `[1, 3, H, W]` in [0, 1] as a photograph, shrunk so that it fits; NaN is magenta."""
    image = Image.fromarray(uint8_from_frame(frame))
    bad = ~np.isfinite(frame[0]).all(axis=0)
    size = _fitting(image.height, image.width)
    if size != bad.shape:
        bad = _shrunk(bad, size)
        pixels = np.array(image.resize(size[::-1], Image.Resampling.LANCZOS))
        pixels[bad] = BAD  # averaging has mixed a single bad pixel with its neighbours
        image = Image.fromarray(pixels)
    return _uri(image, "WEBP", lossless=bool(bad.any()))  # lossy compression would wash a bad pixel out


def difference_picture(error: Error, scale: float) -> Image.Image:
    """Colour the error times `scale`; NaN is magenta.

    It is shrunk by the maximum of the pixels that fall into one, not by their mean, so that a single bad pixel keeps
    its full strength.
    """
    levels = _levels(_shrunk(error, _fitting(*error.shape)), scale)
    image = Image.frombytes("P", (levels.shape[1], levels.shape[0]), levels.tobytes())
    image.putpalette(_palette().tobytes())
    return image


def amplification(largest: float) -> float:
    """Return the step of 1, 2, 5, 10 ... that brings an error to between 0.4 and 1."""
    if not largest:
        return 1.0
    power = math.floor(-math.log10(largest))
    steps = [step * 10.0**exponent for exponent in (power - 1, power, power + 1) for step in (1, 2, 5)]
    return max(step for step in steps if step * largest <= 1 + 1e-9)


def _frames(
    reference: NDArray[Any], candidate: NDArray[Any], spec: TensorSpec
) -> tuple[list[NDArray[np.float64]], str]:
    """Both outputs as `[1, 3, H, W]` in [0, 1], and a caption."""
    if spec.quantity in ("image", "residual"):
        return [reference, candidate], spec.name
    # Features have no colours: the channels are averaged, and the reference's range becomes the range of the greys.
    means = [array.mean(axis=1, keepdims=True, dtype=np.float64) for array in (reference, candidate)]
    low, high = float(means[0].min()), float(means[0].max())
    grey = [np.repeat((mean - low) / (high - low or 1.0), 3, axis=1) for mean in means]
    return grey, f"{spec.name}: mean of the channels, scaled to its range"


def _fitting(height: int, width: int) -> tuple[int, int]:
    ratio = min(1.0, LARGEST_SIDE / max(height, width))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def _shrunk(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Take the maximum of each cell of a grid; every pixel is in one cell, and NaN stays NaN."""
    for axis in (0, 1):
        starts = np.arange(size[axis]) * plane.shape[axis] // size[axis]
        plane = np.maximum.reduceat(plane, starts, axis=axis)
    return plane


def _levels(error: Error, scale: float) -> NDArray[np.uint8]:
    """Index into the palette: 0 to LEVELS - 1, then one for NaN."""
    levels = np.rint(np.clip(np.nan_to_num(error) * scale, 0, 1) * (LEVELS - 1))
    levels[np.isnan(error)] = LEVELS
    return levels.astype(np.uint8)


def _palette() -> Pixels:
    """The colours of all levels and of NaN, `[LEVELS + 1, 3]`."""
    stops = np.array([ImageColor.getrgb(stop) for stop in COLOUR_STOPS], np.float64)
    positions = np.linspace(0, len(stops) - 1, LEVELS)
    ramp = np.stack([np.interp(positions, range(len(stops)), stops[:, channel]) for channel in range(3)], axis=-1)
    return np.concatenate((np.rint(ramp), [BAD])).astype(np.uint8)


def _region(shape: tuple[int, ...], y: int, x: int) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """Rows and columns around a pixel, moved into the picture, and the pixel's place in them."""
    starts = [max(0, min(at - REGION // 2, side - REGION)) for at, side in zip((y, x), shape, strict=True)]
    return (slice(starts[0], starts[0] + REGION), slice(starts[1], starts[1] + REGION)), (y - starts[0], x - starts[1])


def _enlarged(pixels: Pixels, marked: tuple[int, int]) -> Image.Image:
    """Enlarge each pixel to a square, and frame the marked one with two lines, visible on dark and light."""
    image = Image.fromarray(pixels.repeat(ENLARGEMENT, axis=0).repeat(ENLARGEMENT, axis=1))
    top, left = (at * ENLARGEMENT for at in marked)
    draw = ImageDraw.Draw(image)
    for away, colour in ((1, "white"), (2, "black")):
        last = ENLARGEMENT - 1 + away
        draw.rectangle((left - away, top - away, left + last, top + last), outline=colour)
    return image


def _uri(image: Image.Image, kind: Literal["PNG", "WEBP"], *, lossless: bool = False) -> str:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"optimize": True} if kind == "PNG" else {"quality": 90, "lossless": lossless}
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
