"""Options of interpolation: the output, its encoding, and what computes the frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from refine_export.runners.runtime_names import Runtime
from refine_export.runners.triton.connection_options import ServerOptions

Codec = Literal["libx264", "libx265", "libvpx-vp9", "ffv1"]

MOST_TIMES = 64
MOST_CONCURRENT = 64


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Options of the output video."""

    times: int = 2
    """Frames for one of the video, 2 to 64."""
    scene_cut: float = 0.2
    """Similarity, 0 to 1, under which two frames are of different scenes, and the earlier one is repeated."""
    scene_cuts: bool = True
    """Look for scene cuts."""
    audio: bool = True
    """Copy the sound."""

    def __post_init__(self) -> None:
        if not 2 <= self.times <= MOST_TIMES:
            raise ValueError(f"times is {self.times}; expected 2 to {MOST_TIMES}")
        if not 0 <= self.scene_cut <= 1:
            raise ValueError(f"scene_cut is {self.scene_cut:g}; expected 0 to 1, such as 0.2")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Options of the encoder."""

    codec: Codec | None = None
    """libx264, libx265, libvpx-vp9 or ffv1 (lossless); default: libvpx-vp9 for .webm and libx264 for others."""
    crf: int | None = None
    """Quality, from 0: lower is better and larger. Default: 18 for libx264, 20 for libx265, 24 for libvpx-vp9."""

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in get_args(Codec):
            raise ValueError(f"codec is {self.codec!r}; expected {', '.join(get_args(Codec))}")


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """The component that computes the frames: a checkpoint in torch, a file or a server."""

    checkpoint: Path | None = None
    """Weights for torch: .pkl, .pth or .safetensors. Without a checkpoint, a file and a server, the demo weights."""
    device: str | None = None
    """Device that torch computes on, such as cuda:0; default: cpu."""
    file: Path | None = None
    """An ONNX file or an engine of interpolator or interpolator_m."""
    runtime: Runtime | None = None
    """Runtime of an ONNX file; default: by the file's types."""
    allow_host_code: bool = False
    """Run an engine that brings code for this host; trust it first."""
    server: ServerOptions | None = None
    """A Triton server with the ensemble `interpolate`."""
    concurrency: int = 4
    """Most requests to a server at a time, 1 to 64."""

    def __post_init__(self) -> None:
        given = [name for name in ("checkpoint", "file", "server") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} are given; expected one of them, since one alone computes")
        if self.runtime is not None and self.runtime not in get_args(Runtime):
            raise ValueError(f"runtime is {self.runtime!r}; expected one of: {', '.join(get_args(Runtime))}")
        if self.runtime is not None and self.file is None:
            raise ValueError("runtime is given without file; it says what runs an ONNX file")
        if self.device is not None and given not in ([], ["checkpoint"]):
            raise ValueError(f"device is given with {given[0]}; it says where torch computes: leave it out")
        if not 1 <= self.concurrency <= MOST_CONCURRENT:
            raise ValueError(f"concurrency is {self.concurrency}; expected 1 to {MOST_CONCURRENT}")
