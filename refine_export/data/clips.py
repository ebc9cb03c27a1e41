"""Pairs of consecutive frames from files, folders and videos, one pair at a time.

A clip of frames 0 to N - 1 has the pairs (i, i + 1). Frames are decoded when a pair is asked for; two are in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from refine_export.data import video
from refine_export.data.images import (
    AddNote,
    Frame,
    FramePair,
    check_sizes,
    frame_from_file,
    labels_of,
    picture_or_animation,
)
from refine_export.data.picture_sequences import files_of, missing_numbers, numbers_of
from refine_export.errors import FrameError
from refine_export.support.files import check_input_file


class PairOfClip(NamedTuple):
    """A pair, and where it comes from."""

    pair: FramePair
    sequence: str | None
    """Label of the clip; None for two pictures without a sequence."""
    number: int
    """Number of the pair in the clip, from 0."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames in order, of one size."""

    label: str
    """Short and unique."""
    frames: Callable[[], Iterator[Callable[[], Frame]]]
    """Opens the clip at its start; a frame is decoded when it is called."""
    files: tuple[Path, ...] = ()
    """Files that the frames are read from, in order."""
    is_sequence: bool = True
    """False for two pictures."""


def clips_of(paths: Sequence[Path], add_note: AddNote, *, pictures: int) -> list[Clip]:
    """Open pictures two by two, folders of pictures, and videos, in the order given.

    Args:
        paths: pictures, folders and videos.
        add_note: receives what is converted or left out, now and while frames are decoded.
        pictures: how many paths at the start are pictures, whatever they are called.

    Raises:
        FrameError: `single-picture`, `too-few-frames` or `sizes-differ`; or a file cannot be read.
    """
    clips: list[Clip] = []
    first: tuple[Path, str] | None = None  # a picture that waits for its second
    for number, (path, label) in enumerate(zip(paths, labels_of(paths), strict=True)):
        if not path.is_dir():
            check_input_file(path, FrameError, "give two pictures, a folder of frames or a video")
        if number < pictures or not (path.is_dir() or path.suffix.lower() in video.SUFFIXES):
            if first is None:
                first = (path, label)
            else:
                clips.append(_two_pictures(first, (path, label), add_note))
                first = None
        elif first is not None:
            break
        elif path.is_dir():
            clips.append(_folder(path, label, add_note))
        else:
            frames = functools.partial(video.frames_of_video, path, add_note, label)
            clips.append(Clip(label=label, frames=frames, files=(path,)))
    if first is not None:
        found = picture_or_animation(first[0])
        problem = f"is {found}; give two consecutive pictures, a folder of frames or a video"
        raise FrameError.about(first[0], "single-picture", problem)
    return clips


def pairs_of(clip: Clip, *, every: int = 1, at_most: int | None = None) -> Iterator[PairOfClip]:
    """Yield every `every`-th pair of a clip, from the first; frames of no pair are not decoded.

    Raises:
        FrameError: `too-few-frames` or `sizes-differ`; or a frame cannot be read.
    """
    previous: Callable[[], Frame] | None = None
    taken = 0
    for number, decode in enumerate(clip.frames()):
        frame = functools.cache(decode)
        if previous is not None and (number - 1) % every == 0:
            name = f"{clip.label} frames {number - 1}-{number}" if clip.is_sequence else clip.label
            pair = FramePair(name, previous(), frame())
            if pair.img0.shape != pair.img1.shape:  # a file changed meanwhile, or EXIF behind its pixels rotates it
                raise FrameError(
                    f"the frames of {name} differ in size; expected one size: write them again", code="sizes-differ"
                )
            yield PairOfClip(pair, clip.label if clip.is_sequence else None, number - 1)
            taken += 1
            if taken == at_most:
                return
        previous = frame
    if not taken:
        raise FrameError(
            f"{clip.label} has {'one frame' if previous else 'no frames'}; expected two or more", code="too-few-frames"
        )


def _two_pictures(first: tuple[Path, str], second: tuple[Path, str], add_note: AddNote) -> Clip:
    files = (first[0], second[0])
    check_sizes(files)
    frames = [functools.partial(frame_from_file, path, add_note, label) for path, label in (first, second)]
    label = f"{first[1]} and {second[1]}"
    return Clip(label=label, frames=lambda: iter(frames), files=files, is_sequence=False)


def _folder(folder: Path, label: str, add_note: AddNote) -> Clip:
    files = files_of(folder)
    entries = sum(not path.name.startswith(".") for path in folder.iterdir())
    if others := entries - len(files):
        add_note(f"{label}: {others} of its {entries} entries are not pictures by their names, and are left out.")
    if missing := missing_numbers(numbers_of(files)):
        add_note(f"{label}: pictures with the numbers {missing} are missing; those around them make a pair.")
    check_sizes(files)
    frames = [functools.partial(frame_from_file, path, add_note, label) for path in files]
    return Clip(label=label, frames=lambda: iter(frames), files=tuple(files))
