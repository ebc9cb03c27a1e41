"""Where the frames come from: two pictures, or a procedural scene; at their own size and at others."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

from refine_export.atomic import user_path
from refine_export.frames import FramePair, at_size, pair_from_arrays, pair_from_files
from refine_export.scenes import Scene, SceneOptions


@dataclass(frozen=True, kw_only=True)
class FramesOptions:
    """Which pictures the graphs are fed with."""

    pair: tuple[str, ...] = ()
    """Two picture files; without them, a procedural scene whose true middle frame is known."""

    def __post_init__(self) -> None:
        if len(self.pair) not in (0, 2):
            raise ValueError(f"pair has {len(self.pair)} files; expected two, or none for the procedural scene")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A pair of frames that is to be had at any size."""

    pair: FramePair
    """At its own size."""
    at: Callable[[tuple[int, int]], FramePair]
    """Height and width to the pair of that size: a scene is drawn again, pictures are cropped or mirrored."""


def source_from_options(frames: FramesOptions, scene: SceneOptions) -> Source:
    """Load the pictures, or draw the scene.

    Raises:
        FrameError: the pictures can't be used.
    """
    if frames.pair:
        first, second = (user_path(name) for name in frames.pair)
        pair = pair_from_files(first, second)
        return Source(pair=pair, at=functools.partial(at_size, pair))
    pair = _drawn(scene)
    return Source(pair=pair, at=functools.cache(functools.partial(_drawn_at, scene)))


def _drawn_at(scene: SceneOptions, size: tuple[int, int]) -> FramePair:
    return _drawn(dataclasses.replace(scene, height=size[0], width=size[1]))


def _drawn(options: SceneOptions) -> FramePair:
    scene = Scene(options)
    return pair_from_arrays(
        f"procedural scene (seed {options.seed}, motion to {options.motion_px:g} px)",
        scene.frame(0.0),
        scene.frame(1.0),
        middle=scene.frame(0.5),
    )
