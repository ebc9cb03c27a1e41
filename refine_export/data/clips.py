"""Files, folders and videos to pairs of consecutive frames, one pair at a time.

A clip of frames 0 to N - 1 gives the pairs (i, i + 1). Frames are decoded when a pair is asked for, and two are held.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.data import images as frames
from refine_export.data import video
from refine_export.data.images import FramePair, Say, frame_from_file, labels_of, pair_from_arrays, size_of_file
from refine_export.errors import FrameError

if TYPE_CHECKING:
    from refine_export.data.images import Frame

PairOf = tuple[FramePair, str | None, int]
"""The pair, the clip that it is of (None for two pictures by themselves), and which of its pairs it is, from 0."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames in order, of one size."""

    label: str
    """Short, and different from that of any other clip."""
    frames: Callable[[], Iterator[Callable[[], Frame]]]
    """Opens the clip at its start; a frame is decoded when it is called."""
    files: tuple[Path, ...] = ()
    """What it is read from, in order."""
    alone: bool = False
    """Two pictures, no sequence."""


def clips_of(paths: Sequence[Path], say: Say, *, pictures: int = 0) -> list[Clip]:
    """Pictures by twos, folders of pictures, and videos, in the order given.

    Args:
        paths: of each.
        say: told of what is converted or left out, now and while frames are decoded.
        pictures: how many at the start are pictures, whatever they are called.

    Raises:
        FrameError: nothing is there, a picture has no second one, or a folder is no clip.
    """
    clips: list[Clip] = []
    first: tuple[Path, str] | None = None
    for number, (path, label) in enumerate(zip(paths, labels_of(paths), strict=True)):
        is_picture = number < pictures or not (path.is_dir() or path.suffix.lower() in video.SUFFIXES)
        if first is not None and is_picture:
            clips.append(_pair(first, (path, label), say))
            first = None
        elif first is not None:
            break
        elif is_picture:
            first = (path, label)
        else:
            clips.append(_folder(path, label, say) if path.is_dir() else _video(path, label, say))
    if first is not None:
        raise FrameError(f"{first[0]} is one picture; give two that follow one another, a folder of frames or a video")
    return clips


def pairs_of(clip: Clip, *, every: int = 1, at_most: int | None = None) -> Iterator[PairOf]:
    """Every `every`-th pair of a clip, from the first.

    Raises:
        FrameError: a frame can't be read, or there is but one.
    """
    before: Callable[[], Frame] | None = None
    taken = 0
    for number, decode in enumerate(clip.frames()):
        frame = functools.cache(decode)
        if before is not None and (number - 1) % every == 0:
            name = clip.label if clip.alone else f"{clip.label} frames {number - 1}-{number}"
            pair = pair_from_arrays(name, before(), frame())
            if pair.img0.shape != pair.img1.shape:  # a file has changed since, or is turned by what stands at its end
                raise FrameError(f"the frames of {name} differ in size; expected one size: write them again")
            yield pair, None if clip.alone else clip.label, number - 1
            taken += 1
            if taken == at_most:
                return
        before = frame
    if not taken:
        raise FrameError(f"{clip.label} has {'one frame' if before else 'no frames'}; expected two or more")


def _pair(first: tuple[Path, str], second: tuple[Path, str], say: Say) -> Clip:
    files = (first[0], second[0])
    sizes = [size_of_file(path) for path in files]
    if sizes[0] != sizes[1]:
        both = ", ".join(f"{path.name} is {width}x{height}" for path, (height, width) in zip(files, sizes, strict=True))
        raise FrameError(f"the two frames differ in size: {both}; give two frames of one video")
    pictures = [functools.partial(frame_from_file, path, say, label) for path, label in (first, second)]
    return Clip(label=f"{first[1]} and {second[1]}", frames=lambda: iter(pictures), files=files, alone=True)


def _video(path: Path, label: str, say: Say) -> Clip:
    return Clip(label=label, frames=functools.partial(video.frames_of_video, path, say, label), files=(path,))


def _folder(folder: Path, label: str, say: Say) -> Clip:
    try:
        there = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise FrameError(f"can't read the folder {folder}: {error.strerror}; check its permissions") from error
    files = sorted((path for path in there if path.suffix.lower() in frames.SUFFIXES and path.is_file()), key=_natural)
    if len(files) < 2:
        found = f"one picture, {files[0].name}" if files else "no pictures"
        raise FrameError(f"{folder} has {found}; expected two frames or more, as {', '.join(frames.SUFFIXES)}")
    if others := len(there) - len(files):
        say(f"{label}: {others} of its {len(there)} entries are no pictures by their names, and are left out.")
    expected = size_of_file(files[0])
    for path in files:
        if (size := size_of_file(path)) != expected:
            raise FrameError(
                f"the frames of {folder} differ in size: {files[0].name} is {expected[1]}x{expected[0]}, {path.name} "
                f"is {size[1]}x{size[0]}; keep those of one size"
            )
    return Clip(
        label=label,
        frames=lambda: (functools.partial(frame_from_file, path, say, label) for path in files),
        files=tuple(files),
    )


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbers by their value: frame2 before frame10; the name decides between 2 and 02."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts], path.name
