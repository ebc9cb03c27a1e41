"""Pictures as a video: a folder, files with numbers such as `frame_%05d.png`, or an animation (GIF, APNG, WebP)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from refine_export.data import images
from refine_export.data.images import (
    AddNote,
    check_sizes,
    frame_from_file,
    is_deep,
    natural_order,
    opened_picture,
    uint8_from_frame,
)
from refine_export.data.video import USUAL_RATE
from refine_export.errors import FrameError
from refine_export.support.imports import require

PATTERN = re.compile(r"%(?:0(\d+))?d")
"""A number in a file's name, as in C: `%d`, `%05d`."""
MILLISECOND = Fraction(1, 1000)
INSTANT_MS, SHOWN_MS = 10, 100
"""Durations of an animation's frame up to the first are shown for the second, as in browsers."""


@dataclass(kw_only=True)
class PictureDecoder:
    """Pictures in place of a decoder of videos; see `VideoDecoder` for its parts."""

    path: Path
    time_base: Fraction
    rate: Fraction
    expected_frames: int
    frames: Iterator[tuple[Any, int, int]]
    """Each picture as uint8 or uint16 [H, W, 3], its time and its duration."""
    notes: list[str]
    container: None = field(default=None, init=False)
    stream: None = field(default=None, init=False)

    def decode(self) -> Iterator[Any]:
        """Decode all pictures as `av.VideoFrame` in RGB.

        Raises:
            FrameError: a picture cannot be read, or has another size than the first.
        """
        av = require("av", extra="video")
        for picture, pts, duration in self.frames:
            layout = "rgb24" if picture.dtype == np.uint8 else "rgb48le"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=layout)
            frame.pts, frame.duration, frame.time_base = pts, duration, self.time_base
            yield frame


def is_sequence(path: Path) -> bool:
    """Return whether a path stands for several pictures by its name, or is an animation."""
    if path.is_dir() or PATTERN.search(path.name):
        return True
    return (
        path.suffix.lower() in images.SUFFIXES and path.is_file() and "animation" in images.picture_or_animation(path)
    )


@contextmanager
def open_pictures(path: Path, rate: float | None = None, *, allow_missing: bool = False) -> Iterator[PictureDecoder]:
    """Open several pictures as a video.

    Args:
        path: a folder, a pattern with a number, or an animation.
        rate: pictures a second where they have no times; default: 25.
        allow_missing: take gaps in the numbers as frames that are missing.

    Raises:
        FrameError: `too-few-frames`, `sizes-differ`, `frame-numbers-missing`; or a picture cannot be read.
    """
    if not path.is_dir() and not PATTERN.search(path.name):
        yield _animation(path)
        return
    files = files_of(path)
    numbers = numbers_of(files)
    notes: list[str] = []
    if missing := missing_numbers(numbers):
        if not allow_missing:
            raise FrameError.about(
                path,
                "frame-numbers-missing",
                f"lacks the pictures with the numbers {missing}; expected one after the other: add them, or put frames "
                "in their places with --allow-missing",
                missing=missing,
            )
        notes.append(f"the pictures with the numbers {missing} are missing: frames between the others are put there")
    if rate is None:
        notes.append(f"pictures have no rate: {USUAL_RATE} a second are taken (--source-fps)")
    check_sizes(files)
    exact = USUAL_RATE if rate is None else Fraction(rate).limit_denominator(1001)

    def frames() -> Iterator[tuple[Any, int, int]]:
        found: dict[str, None] = {}  # each note once
        for file, number in zip(files, numbers, strict=True):
            yield _levels_of(file, found.setdefault, path.name), number - numbers[0], 1
        notes.extend(found)

    expected = numbers[-1] - numbers[0] + 1
    yield PictureDecoder(
        path=path, time_base=1 / exact, rate=exact, expected_frames=expected, frames=frames(), notes=notes
    )


def _levels_of(file: Path, add_note: AddNote, label: str) -> NDArray[Any]:
    """Read a picture as uint8 [H, W, 3], or as uint16 where it has more than 8 bits a channel."""
    with opened_picture(file) as picture:
        deep = is_deep(picture)
    frame = frame_from_file(file, add_note, label, _deep_pixels)
    return np.rint(np.moveaxis(frame[0], 0, -1) * 65535).astype(np.uint16) if deep else uint8_from_frame(frame)


def _deep_pixels(file: Path) -> NDArray[np.float32]:
    """Read colours of 16 bits with FFmpeg."""
    av = require("av", extra="video")
    options = {"format_whitelist": "png_pipe,tiff_pipe,ppm_pipe,image2", "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{file.resolve()}", options=options | {"pattern_type": "none"}) as container:
            picture = next(container.decode(video=0))
    except av.FFmpegError as error:
        problem = f"cannot be read as a picture ({error.strerror}); give a complete PNG or TIFF file"
        raise FrameError.about(file, "unreadable-picture", problem) from error
    return np.asarray(picture.to_ndarray(format="rgb48le") / np.float32(65535), np.float32)


def numbers_of(files: Sequence[Path]) -> list[int]:
    """Return the last number in each name; the places in the row where names have none, or one twice."""
    found = [re.findall(r"\d+", file.stem) for file in files]
    numbers = [int(one[-1]) for one in found if one]
    grow = all(a < b for a, b in itertools.pairwise(numbers))
    return numbers if grow and len(numbers) == len(files) else list(range(len(files)))


def missing_numbers(numbers: Sequence[int]) -> str:
    """Return what is missing between numbers that grow, such as `3-4, 6-9`."""
    gaps = [(a + 1, b - 1) for a, b in itertools.pairwise(numbers) if b > a + 1]
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in gaps[:5]]
    return ", ".join([*shown, "..."] if len(gaps) > 5 else shown)


def files_of(path: Path, *, least: int = 2) -> list[Path]:
    """Return the pictures of a folder or a pattern, in the order of their numbers.

    Raises:
        FrameError: `too-few-frames`, or the folder cannot be read.
    """
    folder, wanted = (path, None) if path.is_dir() else (path.parent, path.name)
    if wanted is None:
        pattern = re.compile("|".join(rf".*\{suffix}" for suffix in images.SUFFIXES), re.IGNORECASE)
    else:
        parts = PATTERN.split(wanted, maxsplit=1)
        digits = f"[0-9]{{{parts[1]},}}" if parts[1] else "[0-9]+"
        pattern = re.compile(re.escape(parts[0]) + digits + re.escape(parts[2]))
    try:
        names = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise FrameError.about(folder, "cannot-read", f"cannot be read: {error.strerror}") from error
    files = sorted((file for file in names if pattern.fullmatch(file.name) and file.is_file()), key=natural_order)
    if len(files) < least:
        found = f"one picture, {files[0].name}" if files else "no pictures"
        problem = f"has {found}; expected two frames or more, as {', '.join(images.SUFFIXES)}"
        raise FrameError.about(path, "too-few-frames", problem)
    return files


def _animation(path: Path) -> PictureDecoder:
    """Return the frames of an animation at their times, as a browser shows them."""
    durations = []
    with opened_picture(path) as picture:
        for frame in ImageSequence.Iterator(picture):
            frame.load()  # WebP knows the duration only now
            given = round(frame.info.get("duration", 0))
            durations.append(given if given > INSTANT_MS else SHOWN_MS)
    count = len(durations)

    def frames() -> Iterator[tuple[Any, int, int]]:
        start = 0
        with opened_picture(path) as picture:
            for frame, duration in zip(ImageSequence.Iterator(picture), durations, strict=True):
                shown = Image.new("RGBA", picture.size, "white")
                shown.alpha_composite(frame.convert("RGBA"))
                yield np.asarray(shown.convert("RGB")), start, duration
                start += duration

    rate = Fraction(1000 * count, sum(durations))
    return PictureDecoder(path=path, time_base=MILLISECOND, rate=rate, expected_frames=count, frames=frames(), notes=[])
