"""Frames to compare on: pictures, folders, videos, or a procedural scene; at their own size and at others.

sources = sources_from_options(recipe.frames, recipe.scene)
sources.first                                       # one pair, at any size: for calibration, engines and pictures
for pair, sequence, index in sources.pairs():       # all pairs at their own size, two frames in memory
    feeds = feeds_for(network, signature, padded(pair, 32), label=pair.name, sequence=sequence, index=index)
feeds_of_arrays(sources.arrays, signature)          # the user's own arrays: `npz_feeds`
sources.notes, sources.sha256
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from refine_export.data.clips import Clip, PairOfClip, clips_of, pairs_of
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.images import FramePair, at_size
from refine_export.data.npz_feeds import signature_of_npz
from refine_export.data.sample_scene import Scene
from refine_export.data.street_frames import street_frames
from refine_export.errors import FrameError
from refine_export.support.files import user_path
from refine_export.support.manifest import sha256_of_file
from refine_export.support.progress import Progress
from refine_export.support.text import size_text


@dataclass(frozen=True, kw_only=True)
class Source:
    """A pair of frames that is available at any size."""

    pair: FramePair
    """The pair at its own size."""
    at: Callable[[tuple[int, int]], FramePair]
    """Takes height and width: a scene is drawn again, pictures are cropped or mirrored; beyond the default pictures,
    the scene is drawn."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """All frames and arrays that are compared on."""

    first: Source
    """The first of `pairs`; the sample where only arrays are given."""
    single_pairs: tuple[FramePair, ...]
    """Pairs without a sequence that are in memory: the two ends of the scene."""
    clips: tuple[Clip, ...]
    arrays: tuple[Path, ...]
    """.npz files, each with the inputs of one of the four graphs."""
    options: FramesOptions
    found_notes: dict[str, None]
    """The notes so far, each once, in order; decoding adds to them."""

    def pairs(self) -> Iterator[PairOfClip]:
        """Yield every pair at its own size.

        Frames are decoded on the way, from the start at every call. Pairs of a sequence whose indices differ by one
        are consecutive in time.

        Raises:
            FrameError: a frame cannot be read, or differs in size from those before.
            UnavailableError: PyAV is missing, for a video.
        """
        for pair in self.single_pairs:
            yield PairOfClip(pair, None, 0)
        for clip in self.clips:
            every, most = (self.options.every, self.options.max_pairs) if clip.files else (1, None)
            yield from pairs_of(clip, every=every, at_most=most)

    @property
    def drawn(self) -> bool:
        """True where all frames are a procedural scene, whose last bits depend on the processor."""
        return not self.arrays and not any(clip.files for clip in self.clips)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what has been converted, padded, assumed or left out so far."""
        return tuple(self.found_notes)

    @cached_property
    def sha256(self) -> str:
        """Hash of all files, their names and the options: of all that `pairs` and `arrays` give.

        Raises:
            FrameError: `cannot-read`.
        """
        digest = hashlib.sha256(repr((self.options, [(pair.name, pair.sha256) for pair in self.single_pairs])).encode())
        for path in (*(path for clip in self.clips for path in clip.files), *self.arrays):
            try:
                digest.update(repr((path.name, sha256_of_file(path))).encode())
            except OSError as error:
                raise FrameError.about(path, "cannot-read", f"cannot be read: {error.strerror}") from error
        return digest.hexdigest()

    def note_padding(self, pair: FramePair, fed: FramePair) -> None:
        """Note that frames are fed at another size than their own, if they are."""
        if pair.size != fed.size:
            sizes = f"frames of {size_text(pair.size)} are padded to {size_text(fed.size)}"
            self.found_notes[f"The {sizes} for the networks; positions count from the top left."] = None


def sources_from_options(frames: FramesOptions, scene: SceneOptions, progress: Progress | None = None) -> Sources:
    """Look at the files and read the first pair, or the sample.

    Args:
        frames: files, or the choice of the sample.
        scene: the procedural scene; other values than the defaults ask for it.
        progress: receives the download of the default pictures.

    Raises:
        FrameError: the pictures cannot be used.
        RequestError: an .npz does not have the names of a graph; or as in `street_frames`.
        UnavailableError: PyAV is missing, for a video; or as in `street_frames`.
    """
    inputs = [user_path(name) for name in frames.inputs]
    arrays = tuple(dict.fromkeys(path for path in inputs if path.suffix.lower() == ".npz" and not path.is_dir()))
    for path in arrays:
        signature_of_npz(path)
    notes: dict[str, None] = {}
    pair_files = [*map(user_path, frames.pair)]
    paths = [*pair_files, *(path for path in inputs if path not in arrays)]
    if default := not paths and frames.sample == "street" and scene == SceneOptions():
        paths = pair_files = [*street_frames(progress)]
    clips = tuple(clips_of(paths, notes.setdefault, pictures=len(pair_files)))
    single_pairs: tuple[FramePair, ...] = ()
    if clips:
        pair = next(pairs_of(clips[0])).pair
        first = _sample_source(pair, scene) if default else Source(pair=pair, at=functools.partial(at_size, pair))
        clips = () if default and arrays else clips
    else:
        first, scene_clip = _scene_source(scene, frames.scene_frames)
        if not arrays:
            single_pairs = (first.pair,)
            clips = (scene_clip,) if frames.scene_frames > 2 else ()
    return Sources(
        first=first, single_pairs=single_pairs, clips=clips, arrays=arrays, options=frames, found_notes=notes
    )


def source_from_options(frames: FramesOptions, scene: SceneOptions) -> Source:
    """Read or draw only the first pair of frames; errors as in `sources_from_options`."""
    return sources_from_options(frames, scene).first


def _sample_source(pair: FramePair, scene: SceneOptions) -> Source:
    """Make a source that crops the pair, and draws the scene beyond it: mirrored pictures do not move as one does."""
    drawn = _scene_at(scene)

    def at(size: tuple[int, int]) -> FramePair:
        return at_size(pair, size) if size[0] <= pair.size[0] and size[1] <= pair.size[1] else drawn(size)

    return Source(pair=pair, at=at)


def _scene_source(options: SceneOptions, count: int) -> tuple[Source, Clip]:
    """Draw the two ends of the scene with their middle, and prepare a clip of `count` frames."""
    at = _scene_at(options)
    scene = Scene(options)
    frames = [functools.partial(scene.frame, k / (count - 1)) for k in range(count)]
    return Source(pair=at((options.height, options.width)), at=at), Clip(label="scene", frames=lambda: iter(frames))


def _scene_at(options: SceneOptions) -> Callable[[tuple[int, int]], FramePair]:
    """Return a function that draws the two ends of the scene at a size, and their middle at its own; each size once."""
    own = options.height, options.width
    name = f"procedural scene (seed {options.seed}, motion to {options.motion_px:g} px)"

    @functools.cache
    def at(size: tuple[int, int]) -> FramePair:
        scene = Scene(dataclasses.replace(options, height=size[0], width=size[1]))
        return FramePair(name, scene.frame(0.0), scene.frame(1.0), scene.frame(0.5) if size == own else None)

    return at
