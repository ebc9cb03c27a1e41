"""Options of interpolation: the time of a frame, the output video, and what computes the frames."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.runners.runtime_names import Runtime
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.signature import LARGEST_SIDE, check_range, check_scale

Codec = Literal[
    "libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "h264_nvenc", "hevc_nvenc", "av1_nvenc"
]

MOST_TIMES = 64
LEAST_FPS, MOST_FPS = 0.01, 1000
MOST_CONCURRENT = 64
LEAST_TILE = 128
RAW = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4}):(\w+):(\d+(?:\.\d+|/[1-9]\d*)?)", re.ASCII)
"""Width, height, pixel format and rate of frames without a header."""

_VIDEO, _COMPUTE = "Video", "What computes: one of three"  # panels of --help


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Options of the frame between two pictures."""

    timestep: float = field(default=0.5, metadata={"flag": "--timestep", "metavar": "0-1"})
    """Time of the frame between two pictures, in (0, 1)."""


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Options of the output video."""

    times: float | None = field(default=None, metadata={"flag": "--times", "panel": _VIDEO})
    """Frames for one of the video, such as 2 or 2.5, at most 64; default: 2, or 1 with --slow. A whole number divides
    every interval, and a rate that varies goes on varying; otherwise, and in a pipe (-), the output's rate is
    constant."""
    fps: float | None = field(default=None, metadata={"flag": "--fps", "panel": _VIDEO})
    """Frames a second of the output, in place of --times: constant, by time of presentation; 59.94 is 60000/1001."""
    slow: float | None = field(default=None, metadata={"flag": "--slow", "panel": _VIDEO})
    """Slow motion: how much longer the output lasts, 1 to 64, at the video's own rate; sound is stretched."""
    source_fps: float | None = field(default=None, metadata={"flag": "--source-fps", "panel": _VIDEO})
    """Frames a second of pictures, which have no times of their own; default: 25."""
    raw_input: str | None = field(
        default=None, metadata={"flag": "--raw-input", "metavar": "WxH:PIX_FMT:FPS", "panel": _VIDEO}
    )
    """Standard input has frames without a header (ffmpeg's rawvideo): width, height, pixel format and frames a second,
    such as 1920x1080:yuv420p:24000/1001."""
    scene_cut: float = field(default=0.2, metadata={"flag": "--scene-cut", "metavar": "0-1", "panel": _VIDEO})
    """Similarity, 0 to 1, under which two frames are of different scenes, and the earlier one is repeated."""
    scene_cuts: bool = field(default=True, metadata={"flag": "--scene-cuts/--no-scene-cuts", "panel": _VIDEO})
    """Look for scene cuts; the default."""
    cuts: Path | None = field(default=None, metadata={"flag": "--cuts", "panel": _VIDEO})
    """A text file with the cuts, in place of looking for them: numbers of the first frames of scenes, counted from
    0, one a line."""
    dedupe: bool = field(default=False, metadata={"flag": "--dedupe/--no-dedupe", "panel": _VIDEO})
    """Leave out frames that repeat the one before, up to 3 in a row, as in animation on twos or 24 frames in 30, and
    put frames between the others."""
    allow_missing: bool = field(default=False, metadata={"flag": "--allow-missing/--no-allow-missing", "panel": _VIDEO})
    """Accept a damaged video, or pictures whose numbers have gaps, and put frames between those that are there."""
    audio: bool = field(default=True, metadata={"flag": "--audio/--no-audio", "panel": _VIDEO})
    """Copy the sound, or stretch it with --slow; the default."""
    resume: bool = field(default=False, metadata={"flag": "--resume/--no-resume", "panel": _VIDEO})
    """Go on with an interrupted output, with the same source and options."""

    def __post_init__(self) -> None:
        if self.times is not None and self.fps is not None:
            raise ValueError("times and fps are given; expected one of them")
        least = 0.999 if self.slow is not None else 1.001  # 1 is nothing to do, unless the video is slowed
        for name, value, lowest, highest in (
            ("times", self.times, least, MOST_TIMES),
            ("slow", self.slow, 1, MOST_TIMES),
            ("fps", self.fps, LEAST_FPS, MOST_FPS),
            ("source_fps", self.source_fps, LEAST_FPS, MOST_FPS),
        ):
            if value is not None and not lowest <= value <= highest:
                raise ValueError(f"{name} is {value:g}; expected {math.floor(lowest) or lowest:g} to {highest}")
        if self.raw_input is not None:
            match = RAW.fullmatch(self.raw_input)
            if match is None or not LEAST_FPS <= Fraction(match[4]) <= MOST_FPS:
                raise ValueError(
                    f"raw_input is {self.raw_input[:80]!r}; expected WIDTHxHEIGHT:PIX_FMT:FPS with {LEAST_FPS} to "
                    f"{MOST_FPS} frames a second, such as 1920x1080:yuv420p:24"
                )
        if not 0 <= self.scene_cut <= 1:
            raise ValueError(f"scene_cut is {self.scene_cut:g}; expected 0 to 1, such as 0.2")
        if self.cuts is not None and not self.scene_cuts:
            raise ValueError("cuts is given with no scene_cuts; leave one of them out")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Options of the encoder."""

    codec: Codec | None = field(default=None, metadata={"flag": "--codec", "panel": _VIDEO})
    """ffv1 is lossless; default: libvpx-vp9 for .webm, libx264 for others, and libx265 for more than 8 bits."""
    crf: int | None = field(default=None, metadata={"flag": "--crf", "panel": _VIDEO})
    """Quality, from 0: lower is better and larger; default: 18 for libx264, 20 for libx265, 24 for libvpx-vp9, 26
    for libsvtav1, 19 for nvenc and 24 for its AV1."""
    encoder_options: tuple[str, ...] = field(
        default=(), metadata={"flag": "--encoder-options", "metavar": "NAME=VALUE", "panel": _VIDEO}
    )
    """Options of the encoder as FFmpeg names them, such as preset=slow; pix_fmt chooses the pixel format."""

    raw_output: bool = field(default=False, metadata={"flag": "--raw-output/--no-raw-output", "panel": _VIDEO})
    """Standard output gets frames without headers (ffmpeg's rawvideo), in the source's pixel format or in that of
    --encoder-options pix_fmt."""

    def __post_init__(self) -> None:
        for option in self.encoder_options:
            if not re.fullmatch(r"[\w-]+=.+", option):
                raise ValueError(f"encoder_options has {option!r}; expected NAME=VALUE, such as preset=slow")


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
    tile: int | None = field(default=None, metadata={"flag": "--tile", "panel": _COMPUTE})
    """Side in pixels of overlapping tiles in which a frame is computed, 128 to 16384: for frames that memory does not
    hold, or for a file of one size."""
    file: Path | None = field(default=None, metadata={"flag": "--file", "panel": _COMPUTE})
    """An ONNX file or an engine of the graph interpolator."""
    runtime: Runtime | None = field(default=None, metadata={"flag": "--runtime", "panel": _COMPUTE})
    """Runtime of an ONNX file; default: by the file's types."""
    server: ServerOptions | None = None
    """A Triton server with the ensemble `interpolate`."""
    concurrency: int | None = field(default=None, metadata={"flag": "--concurrency", "panel": _VIDEO})
    """Pairs of a video to compute at a time, 1 to 64; default: 4 for a server, 1 on a GPU, and on a CPU one for each
    core, 8 at most, as long as they have no more pixels than a frame of 4K."""

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
        check_range("tile", self.tile, LEAST_TILE, LARGEST_SIDE)
        check_range("concurrency", self.concurrency, 1, MOST_CONCURRENT)
