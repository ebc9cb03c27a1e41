"""Options of interpolation: the time of a frame, the output video, and what computes the frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.runners.runtime_names import Runtime
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.signature import check_scale

Codec = Literal["libx264", "libx265", "libvpx-vp9", "ffv1"]

MOST_TIMES = 64
MOST_CONCURRENT = 64

_VIDEO, _COMPUTE, _SERVER = "Video", "What computes: one of three", "Server"  # panels of --help


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Options of the frame between two pictures."""

    timestep: float = field(default=0.5, metadata={"flag": "--timestep", "metavar": "0-1"})
    """Time of the frame between two pictures, in (0, 1)."""


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Options of the output video."""

    times: int = field(default=2, metadata={"flag": "--times", "panel": _VIDEO})
    """Frames for one of the video, 2 to 64."""
    scene_cut: float = field(default=0.2, metadata={"flag": "--scene-cut", "metavar": "0-1", "panel": _VIDEO})
    """Similarity, 0 to 1, under which two frames are of different scenes, and the earlier one is repeated."""
    scene_cuts: bool = field(default=True, metadata={"flag": "--scene-cuts/--no-scene-cuts", "panel": _VIDEO})
    """Look for scene cuts; the default."""
    audio: bool = field(default=True, metadata={"flag": "--audio/--no-audio", "panel": _VIDEO})
    """Copy the sound; the default."""

    def __post_init__(self) -> None:
        if not 2 <= self.times <= MOST_TIMES:
            raise ValueError(f"times is {self.times}; expected 2 to {MOST_TIMES}")
        if not 0 <= self.scene_cut <= 1:
            raise ValueError(f"scene_cut is {self.scene_cut:g}; expected 0 to 1, such as 0.2")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Options of the encoder."""

    codec: Codec | None = field(default=None, metadata={"flag": "--codec", "panel": _VIDEO})
    """ffv1 is lossless; default: libvpx-vp9 for .webm and libx264 for others."""
    crf: int | None = field(default=None, metadata={"flag": "--crf", "panel": _VIDEO})
    """Quality, from 0: lower is better and larger; default: 18 for libx264, 20 for libx265, 24 for libvpx-vp9."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(EngineRunOptions):
    """The component that computes the frames: a checkpoint in torch, a file or a server."""

    checkpoint: Path | None = field(default=None, metadata={"flag": "--checkpoint", "panel": _COMPUTE})
    """Weights for torch: a file, rife-4.0 or hdv3; default without a file and a server: released RIFE 4.0."""
    scale: float = field(default=1.0, metadata={"flag": "--scale", "panel": _COMPUTE})
    """0.25, 0.5, 1 or 2, for weights: divides the scales of the motion estimation; below 1 for large frames."""
    refine: bool = field(default=True, metadata={"flag": "--refine/--no-refine", "panel": _COMPUTE})
    """Use the refinement of RIFE 4.0 weights that have one."""
    device: str | None = field(default=None, metadata={"flag": "--device", "panel": _COMPUTE})
    """Device that torch computes on, such as cuda:0; default: cpu."""
    file: Path | None = field(default=None, metadata={"flag": "--file", "panel": _COMPUTE})
    """An ONNX file or an engine of the graph interpolator."""
    runtime: Runtime | None = field(default=None, metadata={"flag": "--runtime", "panel": _COMPUTE})
    """Runtime of an ONNX file; default: by the file's types."""
    server: ServerOptions | None = None
    """A Triton server with the ensemble `interpolate`."""
    concurrency: int = field(default=4, metadata={"flag": "--concurrency", "panel": _SERVER})
    """Most requests to a server at a time, 1 to 64."""

    def __post_init__(self) -> None:
        given = [name for name in ("checkpoint", "file", "server") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} are given; expected one of them, since one alone computes")
        if self.runtime is not None and self.file is None:
            raise ValueError("runtime is given without file; it says what runs an ONNX file")
        if self.device is not None and given not in ([], ["checkpoint"]):
            raise ValueError(f"device is given with {given[0]}; it says where torch computes: leave it out")
        check_scale(self.scale)
        if (self.scale, self.refine) != (1.0, True) and given not in ([], ["checkpoint"]):
            raise ValueError(f"scale or refine is given with {given[0]}; they are for a checkpoint: leave them out")
        if not 1 <= self.concurrency <= MOST_CONCURRENT:
            raise ValueError(f"concurrency is {self.concurrency}; expected 1 to {MOST_CONCURRENT}")
