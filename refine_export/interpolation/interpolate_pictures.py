"""The frame between two pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from refine_export.data.colour import Picture
from refine_export.data.images import frame_from_file, size_of_file, uint8_from_frame
from refine_export.errors import RequestError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolate_video import Interpolated
from refine_export.interpolation.interpolator import check_same_size, check_timestep
from refine_export.interpolation.output_checks import check_output
from refine_export.support.files import atomic_path
from refine_export.support.progress import Progress


def interpolate_pictures(
    first: Path, second: Path, output: Path, timestep: float, backend: Backend, *, force: bool, progress: Progress
) -> Interpolated:
    """Write the frame between two pictures as a PNG; see `jobs.interpolate_frames.interpolate`."""
    started = time.perf_counter()
    check_timestep(timestep, takes_timestep=True)
    if output.suffix.lower() != ".png":
        raise RequestError.about(output, "output-suffix", "is the output; expected a .png for two pictures")
    check_output(output, (first, second), force=force)
    check_same_size(size_of_file(first), size_of_file(second))  # by the headers, before anything is decoded
    notes: list[str] = []
    pictures = [_picture_from_file(path, notes.append) for path in (first, second)]
    with progress.step("compute the frame") as report, backend.open() as interpolator:
        report(interpolator.provider)
        picture = interpolator.interpolate(pictures[0], pictures[1], timestep)
    with atomic_path(output) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    seconds = time.perf_counter() - started
    return Interpolated(path=output, computed_by=interpolator.provider, seconds=seconds, notes=tuple(notes))


def _picture_from_file(path: Path, add_note: Callable[[str], None]) -> Picture:
    frame = frame_from_file(path, add_note)
    picture = uint8_from_frame(frame)
    if np.abs(frame[0].transpose(1, 2, 0) * 255 - picture).max() > 1e-3:
        add_note(f"{path.name}: more than 8 bits a channel are rounded to 8.")
    return picture
