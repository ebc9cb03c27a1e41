"""Where the frames come from: pictures, folders, videos, or a procedural scene; at their own size and at others.

sources = sources_from_options(recipe.frames, recipe.scene)
sources.first                                       # one pair, at any size: for calibration, engines and pictures
for pair, sequence, index in sources.pairs():       # all pairs at their own size, two frames in memory
    feeds = feeds_for(network, graph, padded(pair), label=pair.name, sequence=sequence, index=index)
feeds_of_arrays(sources.arrays, graph)              # the user's own arrays, of `npz_feeds`
sources.notes, sources.sha256
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from refine_export.data.clips import Clip, PairOf, clips_of, pairs_of
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.images import FramePair, at_size, padded_size, pair_from_arrays
from refine_export.data.npz_feeds import graph_of_npz
from refine_export.data.sample_scene import Scene
from refine_export.errors import FrameError
from refine_export.support.files import user_path
from refine_export.support.text import size_text


@dataclass(frozen=True, kw_only=True)
class Source:
    """A pair of frames that is to be had at any size."""

    pair: FramePair
    """At its own size."""
    at: Callable[[tuple[int, int]], FramePair]
    """Height and width to the pair of that size: a scene is drawn again, pictures are cropped or mirrored."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """All that is compared on."""

    first: Source
    """The first of `pairs`; the procedural scene where arrays are all that is given."""
    alone: tuple[FramePair, ...]
    clips: tuple[Clip, ...]
    arrays: tuple[Path, ...]
    """.npz files, each with the inputs of one of the five graphs."""
    options: FramesOptions
    said: dict[str, None] = field(default_factory=dict)

    def pairs(self) -> Iterator[PairOf]:
        """Every pair at its own size, with the name of its sequence, or None, and its number there.

        Frames are decoded on the way, from the start at every call. Pairs of a sequence whose numbers differ by one
        follow one another in time.

        Raises:
            FrameError: a frame can't be read, or differs in size from those before.
            UnavailableError: PyAV is missing, for a video.
        """
        for pair in self.alone:
            self._say_padding(pair)
            yield pair, None, 0
        for clip in self.clips:
            every, most = (self.options.every, self.options.max_pairs) if clip.files else (1, None)
            for pair, sequence, index in pairs_of(clip, every=every, at_most=most):
                self._say_padding(pair)
                yield pair, sequence, index

    @property
    def drawn(self) -> bool:
        """All frames are a procedural scene, whose last bits depend on the processor."""
        return not self.arrays and not any(clip.files for clip in self.clips)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was converted, padded, guessed or left out so far: a few sentences for each input."""
        return tuple(self.said)

    @cached_property
    def sha256(self) -> str:
        """Of all files, their names and the options: of what `pairs` and `arrays` give.

        Raises:
            FrameError: a file can't be read.
        """
        digest = hashlib.sha256(repr((self.options, [(pair.name, pair.sha256) for pair in self.alone])).encode())
        for path in (*(path for clip in self.clips for path in clip.files), *self.arrays):
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise FrameError(f"can't read {path}: {error.strerror}; check the file") from error
            digest.update(repr((path.name, content)).encode())
        return digest.hexdigest()

    def _say_padding(self, pair: FramePair) -> None:
        if pair.size != (fed := padded_size(*pair.size)):
            sizes = [size_text(size) for size in (pair.size, fed)]
            self.said[
                f"The frames of {sizes[0]} are padded to {sizes[1]} for the networks; places count from the top left."
            ] = None


def sources_from_options(frames: FramesOptions, scene: SceneOptions) -> Sources:
    """Look at the files and read the first pair, or draw the scene.

    Raises:
        FrameError: the pictures can't be used.
        RequestError: an .npz has not the names of a graph.
        UnavailableError: PyAV is missing, for a video, or torch, for the scene.
    """
    inputs = [user_path(name) for name in frames.inputs]
    arrays = tuple(dict.fromkeys(path for path in inputs if path.suffix.lower() == ".npz" and not path.is_dir()))
    for path in arrays:
        graph_of_npz(path)
    said: dict[str, None] = {}
    given = [*map(user_path, frames.pair), *(path for path in inputs if path not in arrays)]
    clips = tuple(clips_of(given, said.setdefault, pictures=len(frames.pair)))
    alone: tuple[FramePair, ...] = ()
    if clips:
        pair, _, _ = next(pairs_of(clips[0]))
        first = Source(pair=pair, at=functools.partial(at_size, pair))
    else:
        drawn = Scene(scene)
        first = Source(pair=_ends(drawn), at=functools.cache(functools.partial(_drawn_at, scene)))
        if not arrays:
            alone = (first.pair,)
            clips = (_clip_of_scene(drawn, frames.scene_frames),) if frames.scene_frames > 2 else ()
    return Sources(first=first, alone=alone, clips=clips, arrays=arrays, options=frames, said=said)


def source_from_options(frames: FramesOptions, scene: SceneOptions) -> Source:
    """The first pair of frames alone; errors as in `sources_from_options`."""
    return sources_from_options(frames, scene).first


def _drawn_at(scene: SceneOptions, size: tuple[int, int]) -> FramePair:
    return _ends(Scene(dataclasses.replace(scene, height=size[0], width=size[1])))


def _ends(scene: Scene) -> FramePair:
    options = scene.options
    return pair_from_arrays(
        f"procedural scene (seed {options.seed}, motion to {options.motion_px:g} px)",
        scene.frame(0.0),
        scene.frame(1.0),
        middle=scene.frame(0.5),
    )


def _clip_of_scene(scene: Scene, count: int) -> Clip:
    times = [k / (count - 1) for k in range(count)]
    return Clip(label="scene", frames=lambda: (functools.partial(scene.frame, t) for t in times))
