"""`interpolate`: the frame between two pictures, or a video with frames put between its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from refine_export.data import images, video
from refine_export.errors import RequestError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolate_files import Interpolated, interpolate_pictures, interpolate_video
from refine_export.interpolation.interpolation_options import ComputeOptions, EncoderOptions, VideoOptions
from refine_export.jobs.job_options import options_from_keywords
from refine_export.jobs.load_inputs import AnyPath, path_of
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.progress import Progress, Silent


def interpolate(
    inputs: AnyPath | Sequence[AnyPath],
    *,
    output: str | os.PathLike[str],
    checkpoint: AnyPath | None = None,
    file: AnyPath | None = None,
    server: str | ServerOptions | None = None,
    runtime: str | None = None,
    device: str | None = None,
    allow_host_code: bool = False,
    concurrency: int | None = None,
    timestep: float | None = None,
    times: int | None = None,
    scene_cut: float | None = None,
    scene_cuts: bool | None = None,
    audio: bool | None = None,
    codec: str | None = None,
    crf: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Interpolated:
    """Write the frame between two pictures, or a video with more frames.

    One of `checkpoint`, `file` and `server` computes the frames; without any, torch on the demo weights.

    Args:
        inputs: two pictures of one size, or one video.
        output: a .png for pictures; .mp4, .mov, .mkv or .webm for a video.
        checkpoint: weights for torch.
        file: an ONNX file or an engine that makes frames, or the result of `export`, `lower` or `build`.
        server: HOST:PORT of a Triton server with the ensemble `interpolate`, or its options.
        runtime: runs an ONNX file. Defaults to the one for the file's types.
        device: device that torch computes on, such as `cuda:0`. Defaults to the CPU.
        allow_host_code: run an engine that brings code for this host.
        concurrency: upper bound of the requests to a server at a time.
        timestep: time of the frame between two pictures, in (0, 1); 0.5 by default.
        times: frames for one of the video, 2 to 64; 2 by default.
        scene_cut: similarity, 0 to 1, under which the earlier frame is repeated.
        scene_cuts: look for scene cuts; the default.
        audio: copy the sound; the default.
        codec: of the video; by default by the output's name.
        crf: quality, lower is better.
        force: overwrite `output`.
        progress: receives each step.
        on_wait: called once, from any thread, when a server does not answer and is asked again.

    Raises:
        FrameError: a picture or the video cannot be read or encoded.
        RequestError: options that do not go together, or an output that cannot be written.
        UnavailableError: a package, a device or the server is missing.
    """
    several = inputs if isinstance(inputs, Sequence) and not isinstance(inputs, str) else [inputs]
    paths = [path_of(one) for one in several]
    _check_inputs(paths)
    if server is None and concurrency is not None:
        raise RequestError("concurrency is for a server; give it with one", code="options-do-not-fit")
    given = {
        "checkpoint": None if checkpoint is None else path_of(checkpoint),
        "file": None if file is None else path_of(file),
        "server": options_from_keywords(ServerOptions, {"url": server}) if isinstance(server, str) else server,
        "runtime": runtime,
        "device": device,
        "allow_host_code": allow_host_code,
        "concurrency": concurrency,
    }
    of_videos = {"times": times, "scene_cut": scene_cut, "scene_cuts": scene_cuts, "audio": audio}
    of_encoders = {"codec": codec, "crf": crf}
    unfit = ["timestep"] if len(paths) == 1 and timestep is not None else []
    if len(paths) == 2:
        unfit = [name for name, value in (of_videos | of_encoders).items() if value is not None]
    if unfit:
        given_files = "one video is given; give times" if len(paths) == 1 else "two pictures are given; leave it out"
        raise RequestError(
            f"{', '.join(unfit)} does not apply, since {given_files}", code="options-do-not-fit", options=tuple(unfit)
        )
    backend = Backend(options_from_keywords(ComputeOptions, given), on_wait)
    target, progress = path_of(output), progress or Silent()
    if len(paths) == 2:
        first, second = paths
        at = 0.5 if timestep is None else timestep
        return interpolate_pictures(first, second, target, at, backend, force=force, progress=progress)
    options, encoder = (
        options_from_keywords(VideoOptions, of_videos),
        options_from_keywords(EncoderOptions, of_encoders),
    )
    return interpolate_video(paths[0], target, options, encoder, backend, force=force, progress=progress)


def _check_inputs(paths: Sequence[Path]) -> None:
    """Refuse inputs whose names are neither two pictures nor one video."""
    names = ", ".join(path.name for path in paths)
    one_picture = len(paths) == 1 and paths[0].suffix.lower() in images.SUFFIXES
    two_videos = len(paths) == 2 and any(path.suffix.lower() in video.SUFFIXES for path in paths)
    if not 1 <= len(paths) <= 2 or one_picture or two_videos:
        raise RequestError(
            f"{names or 'nothing'} is given; expected two pictures or one video",
            code="not-pictures-or-video",
            count=len(paths),
        )
