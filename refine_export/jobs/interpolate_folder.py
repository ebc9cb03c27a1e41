"""`interpolate_folder`: each video of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refine_export.data.video import SUFFIXES
from refine_export.errors import RequestError
from refine_export.interpolation.interpolate_video import Interpolated
from refine_export.interpolation.interpolation_options import ComputeOptions, EncoderOptions, VideoOptions
from refine_export.jobs.interpolate_frames import interpolate
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, path_of
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.progress import Progress, Silent


@takes_options(VideoOptions, EncoderOptions, ComputeOptions)
def interpolate_folder(
    folder: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    checkpoint: AnyPath | None = None,
    file: AnyPath | None = None,
    server: str | ServerOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
    on_wait: Callable[[str], None] | None = None,
    **options: Any,
) -> tuple[Interpolated, ...]:
    """Put frames between those of each video of a folder, into one of the same name in another folder.

    A video that fails does not keep the others from being written.

    Args:
        folder: with videos; other files are passed over.
        output: another folder.
        checkpoint: this and the others are those of `interpolate`; with `resume`, videos that are there already are
            left as they are.
        file: likewise.
        server: likewise.
        force: likewise.
        progress: likewise.
        on_wait: likewise.
        options: likewise.

    Raises:
        RequestError: `not-a-folder` or `no-videos`; or `some-videos-failed`, behind all others, with the errors by
            path as `failed`.
        UnavailableError: a package, a device or the server is missing.
    """
    source, target = path_of(folder), path_of(output)
    if not source.is_dir():
        raise RequestError.about(source, "not-a-folder", "is not a folder; expected a folder of videos")
    videos = sorted(file for file in source.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not videos:
        problem = "has no videos; expected a folder of videos, since a folder is the output: to write pictures, give "
        problem += f"-o {target / 'frame_%05d.png'}"
        raise RequestError.about(source, "no-videos", problem)
    results: list[Interpolated] = []
    failed: dict[Path, RequestError] = {}
    backend: dict[str, Any] = {"checkpoint": checkpoint, "file": file, "server": server, "on_wait": on_wait}
    for video in videos:
        written = target / video.name
        if options.get("resume") is True and written.exists():
            with (progress or Silent()).step(f"interpolate {video.name}") as report:
                report(f"{written} is there already, and left as it is")
            continue
        try:
            results.append(interpolate(video, output=written, force=force, progress=progress, **backend, **options))
        except RequestError as error:
            failed[video] = error
    if failed:
        each = "\n".join(f"  {error} [{error.code}]" for error in failed.values())
        message = f"{len(failed)} of {len(videos)} videos failed; the others are in {target}:\n{each}"
        raise RequestError(message, code="some-videos-failed", failed=failed)
    return tuple(results)
