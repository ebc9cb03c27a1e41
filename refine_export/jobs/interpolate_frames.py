"""`interpolate`: the frame between two pictures, or a video with frames put between its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refine_export.data import images, video
from refine_export.data.picture_sequences import is_sequence
from refine_export.errors import RequestError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolate_pictures import interpolate_pictures
from refine_export.interpolation.interpolate_video import Interpolated, interpolate_video
from refine_export.interpolation.interpolation_options import (
    ComputeOptions,
    EncoderOptions,
    PictureOptions,
    VideoOptions,
)
from refine_export.jobs.job_options import options_from_keywords, part_of, takes_options
from refine_export.jobs.load_inputs import AnyPath, any_paths_of, path_of
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.progress import Progress, Silent
from refine_export.support.text import listed


@takes_options(PictureOptions, VideoOptions, EncoderOptions, ComputeOptions)
def interpolate(
    inputs: AnyPath | Sequence[AnyPath],
    *,
    output: str | os.PathLike[str],
    checkpoint: AnyPath | None = None,
    file: AnyPath | None = None,
    server: str | ServerOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
    on_wait: Callable[[str], None] | None = None,
    **options: Any,
) -> Interpolated:
    """Write the frame between two pictures, or a video with more frames.

    One of `checkpoint`, `file` and `server` computes the frames; without any, torch on released RIFE 4.0.

    Args:
        inputs: two pictures of one size; or one video: a file, an animation, a folder of frames, a pattern such as
            `frame_%05d.png`, or `-` for standard input.
        output: a .png for pictures; for a video .mp4, .mov, .mkv or .webm, pictures as `frame_%05d.png`, .apng or
            .gif, or `-` for standard output.
        checkpoint: weights for torch.
        file: an ONNX file or an engine that makes frames, or the result of `export`, `lower` or `build`.
        server: HOST:PORT of a Triton server with the ensemble `interpolate`, or its options.
        force: overwrite `output`.
        progress: receives each step.
        on_wait: called once, from any thread, when a server does not answer and is asked again.
        options: `timestep` for pictures; those of `VideoOptions` and `EncoderOptions` for a video; `device`, `runtime`,
            `tile`, `concurrency` and those of `EngineRunOptions` for what computes.

    Raises:
        FrameError: a picture or the video cannot be read or encoded.
        RequestError: options that do not go together, or an output that cannot be written.
        UnavailableError: a package, a device or the server is missing.
    """
    paths = any_paths_of(inputs)
    _check_inputs(paths)
    compute = compute_options(options, checkpoint, file, server)
    of_picture, of_video, of_encoder = (part_of(options, one) for one in (PictureOptions, VideoOptions, EncoderOptions))
    of_pairs = {"concurrency"} & options.keys()
    unfit = tuple(of_picture if len(paths) == 1 else (*of_video, *of_encoder, *of_pairs))
    if unfit:
        given_files = "one video is given; give times" if len(paths) == 1 else "two pictures are given; leave it out"
        raise RequestError(
            f"{', '.join(unfit)} does not apply, since {given_files}", code="options-do-not-fit", options=unfit
        )
    backend = Backend(compute, on_wait)
    target, progress = path_of(output, read=False), progress or Silent()
    if len(paths) == 2:
        timestep = options_from_keywords(PictureOptions, of_picture).timestep
        return interpolate_pictures(paths[0], paths[1], target, timestep, backend, force=force, progress=progress)
    video_options = options_from_keywords(VideoOptions, of_video)
    encoder = options_from_keywords(EncoderOptions, of_encoder)
    return interpolate_video(paths[0], target, video_options, encoder, backend, force=force, progress=progress)


def compute_options(
    options: Mapping[str, Any], checkpoint: AnyPath | None, file: AnyPath | None, server: str | ServerOptions | None
) -> ComputeOptions:
    """Make the options of what computes from keywords.

    Raises:
        RequestError: options that do not go together.
    """
    compute = part_of(options, ComputeOptions)
    compute |= {
        "checkpoint": None if checkpoint is None else path_of(checkpoint),
        "file": None if file is None else path_of(file),
        "server": options_from_keywords(ServerOptions, {"url": server}) if isinstance(server, str) else server,
    }
    return options_from_keywords(ComputeOptions, compute)


def _check_inputs(paths: Sequence[Path]) -> None:
    """Refuse inputs that are neither two pictures nor one video."""
    two_videos = len(paths) == 2 and any(path.suffix.lower() in video.SUFFIXES or path.is_dir() for path in paths)
    if len(paths) == 1 and paths[0].suffix.lower() in images.SUFFIXES and not is_sequence(paths[0]):
        found = f"one picture, {paths[0]}," if paths[0].exists() else f"{paths[0]}, which does not exist,"
    elif not 1 <= len(paths) <= 2 or two_videos:
        found = listed([str(path) for path in paths]) or "nothing"
    else:
        return
    message = f"{found} is given; expected two pictures, or one video: a file, a folder of frames, frame_%05d.png, or -"
    raise RequestError(message, code="not-pictures-or-video", count=len(paths))
