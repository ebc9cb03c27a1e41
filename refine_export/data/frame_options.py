"""Options of the frames that graphs are compared on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refine_export.signature import LARGEST_SIDE, check_range

FlowKind = Literal["network", "subpixel", "large", "outside", "discontinuous", "zero"]
FLOW_KINDS: tuple[FlowKind, ...] = ("network", "subpixel", "large", "outside", "discontinuous", "zero")

LARGEST_SCENE_FRAMES = 64
SMALLEST_SCENE_SIDE = 16
LARGEST_MOTION_PX = 64.0


@dataclass(frozen=True, kw_only=True)
class FramesOptions:
    """Frames that the graphs are compared on."""

    pair: tuple[str, ...] = field(default=(), metadata={"flag": "--frames", "metavar": "A B", "keyword": "frames"})
    """Two picture files; without them and without inputs, the sample."""
    inputs: tuple[str, ...] = field(default=(), metadata={"flag": "--input", "metavar": "PATH"})
    """More to compare on: folders of frames, videos, pictures in pairs, and .npz files with an array for each input of
    a graph. Consecutive frames of a folder or a video are compared as a sequence."""
    max_pairs: int | None = field(default=None, metadata={"flag": "--max-pairs"})
    """Upper bound of the pairs from each folder or video, from its start; default: all."""
    sample: Literal["street", "scene"] = field(default="street", metadata={"flag": "--sample"})
    """Default frames: street, two real frames (448x256, fetched once), and the procedural scene at larger sizes; or
    scene, whose motion and true middle frame are known. Another height, width, motion_px or seed asks for the scene."""
    every: int = 1
    """Take every n-th pair of a folder or video; above 1, none follow one another, and flicker is not measured."""
    scene_frames: int = 4
    """Frames of the procedural scene, from its start to its end, that are compared as a sequence; 2 for only its two
    ends."""

    def __post_init__(self) -> None:
        if len(self.pair) not in (0, 2):
            raise ValueError(f"pair has {len(self.pair)} files; expected two, or none for the sample")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise ValueError(f"max_pairs is {self.max_pairs}; expected 1 or more, or nothing for all pairs")
        if self.every < 1:
            raise ValueError(f"every is {self.every}; expected 1 or more")
        check_range("scene_frames", self.scene_frames, 2, LARGEST_SCENE_FRAMES)


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """The procedural scene: a beach whose layers move by known amounts."""

    height: int = 256
    """H, pixels; at least 16."""
    width: int = 448
    """W, pixels; at least 16."""
    motion_px: float = 12.0
    """Largest displacement of any layer between t=0 and t=1, pixels; 0 to 64. Above a quarter of the shorter
    side, the layer that moves so far may be outside the frame."""
    seed: int = field(default=0, metadata={"keyword": "scene_seed"})
    """Chooses the textures and varies the directions of motion; 0 or more."""

    def __post_init__(self) -> None:
        check_range("height", self.height, SMALLEST_SCENE_SIDE, LARGEST_SIDE)
        check_range("width", self.width, SMALLEST_SCENE_SIDE, LARGEST_SIDE)
        check_range("motion_px", self.motion_px, 0, LARGEST_MOTION_PX)
        check_range("seed", self.seed, 0, 2**63)
