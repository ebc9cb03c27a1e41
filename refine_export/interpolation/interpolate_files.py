"""Files to files: the frame between two pictures, or a video with frames put between its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from PIL import Image

from refine_export.data.colour import Encoding, Picture, encoding_for, frame_from_rgb, frame_to_encode
from refine_export.data.images import frame_from_file, size_of_file, uint8_from_frame
from refine_export.errors import RequestError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolation_options import EncoderOptions, VideoOptions
from refine_export.interpolation.interpolator import (
    Interpolator,
    check_same_size,
    check_times,
    check_timestep,
    frames_between,
)
from refine_export.interpolation.reader import Gap, open_source
from refine_export.interpolation.scene_cuts import similarity
from refine_export.interpolation.stream import in_order
from refine_export.interpolation.timing import Division
from refine_export.interpolation.writer import VideoWriter, encoder_for, video_writer
from refine_export.support.files import atomic_path, make_folder, same_file
from refine_export.support.progress import Progress
from refine_export.support.text import dict_from_result

AHEAD, LEAST_WEIGHT = 16, 4
"""Frames that wait for each thread that computes, and how many a pair counts for at least."""
REPORT_S = 0.2
"""Seconds between two reports of progress."""


@dataclass(frozen=True, kw_only=True)
class Interpolated:
    """Result of an interpolation."""

    path: Path
    """The output."""
    computed_by: str
    """Runner, version, device and weights; or the server."""
    frames_read: int = 2
    frames_written: int = 1
    scene_cuts: int = 0
    """Pairs between which the first frame was repeated."""
    still: int = 0
    """Pairs of equal frames, between which nothing was computed."""
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dict_from_result(self)


def interpolate_pictures(
    first: Path, second: Path, output: Path, timestep: float, backend: Backend, *, force: bool, progress: Progress
) -> Interpolated:
    """Write the frame between two pictures as a PNG; see `jobs.interpolate_frames.interpolate`."""
    started = time.perf_counter()
    check_timestep(timestep, takes_timestep=True)
    if output.suffix.lower() != ".png":
        raise RequestError.about(output, "output-suffix", "is the output; expected a .png for two pictures")
    _check_output(output, (first, second), force=force)
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


def interpolate_video(
    path: Path,
    output: Path,
    options: VideoOptions,
    encoder: EncoderOptions,
    backend: Backend,
    *,
    force: bool,
    progress: Progress,
) -> Interpolated:
    """Put frames between those of a video; decoding, computing and encoding overlap.

    N frames become (N - 1) * times + 1: its own, at their own times, and `times` - 1 in each interval, equally spaced.
    Its own are encoded as they were decoded. Nothing is at `output` until all of it is. For arguments and errors see
    `jobs.interpolate_frames.interpolate`.
    """
    started = time.perf_counter()
    codec = encoder_for(output, encoder)
    _check_output(output, (path,), force=force)
    providers: set[str] = set()
    frames_read = frames_written = scene_cuts = still = 0

    @contextmanager
    def opens(stop: Event) -> Iterator[Callable[[Any], list[Picture] | None]]:
        with backend.open(stop) as interpolator:
            check_times(options.times, takes_timestep=interpolator.takes_timestep)
            providers.add(interpolator.provider)
            yield lambda job: _frames_for(job, interpolator, options)

    def weigh(job: Any) -> int:
        return max(options.times, LEAST_WEIGHT) if isinstance(job, Gap) else 1

    with progress.step(f"interpolate {path.name}") as report, open_source(path, audio=options.audio) as source:
        encoding = encoding_for(source.first, codec)
        division = Division(source=source.time_base, times=options.times)
        rate = source.rate * options.times
        meter = _Meter(progress, (source.expected_frames - 1) * options.times + 1)
        with (
            video_writer(
                output, source, encoding, encoder, time_base=division.time_base, rate=rate, audio=options.audio
            ) as writer,
            closing(
                in_order(source.gaps(), opens, threads=backend.threads, ahead=AHEAD * backend.threads, weigh=weigh)
            ) as results,
        ):
            for job, pictures in results:
                if not isinstance(job, Gap):
                    writer.copy_packet(job)
                    continue
                frames_read += 1
                if job.after is not None and pictures is None:
                    still += (is_still := _is_still(job))
                    scene_cuts += not is_still
                frames_written += _write(writer, job, pictures, encoding, division)
                meter.report(frames_written)
                if pictures:
                    pictures.clear()  # the loop variable would hold them while the next ones are waited for
        notes = [*source.notes, *encoding.notes]
        if source.sound and not options.audio:
            notes.append("its sound is left out, as asked for")
        if frames_read == 1:
            notes.append("it has one frame: there is nothing to put between")
        seconds = time.perf_counter() - started
        report(f"{frames_written} frames, {frames_written / seconds:.3g} a second")
    return Interpolated(
        path=output,
        computed_by=", ".join(providers),
        frames_read=frames_read,
        frames_written=frames_written,
        scene_cuts=scene_cuts,
        still=still,
        seconds=seconds,
        notes=tuple(notes),
    )


def _picture_from_file(path: Path, add_note: Callable[[str], None]) -> Picture:
    frame = frame_from_file(path, add_note)
    picture = uint8_from_frame(frame)
    if np.abs(frame[0].transpose(1, 2, 0) * 255 - picture).max() > 1e-3:
        add_note(f"{path.name}: more than 8 bits a channel are rounded to 8.")
    return picture


def _frames_for(job: Any, interpolator: Interpolator, options: VideoOptions) -> list[Picture] | None:
    """Compute the pictures of a gap; None where its first frame is repeated, and for sound."""
    if not isinstance(job, Gap) or job.after is None or _is_still(job):
        return None
    frame0, frame1 = job.before.picture, job.after.picture
    if options.scene_cuts and similarity(frame0, frame1) < options.scene_cut:
        return None
    return frames_between(interpolator, frame0, frame1, options.times)


def _is_still(gap: Gap) -> bool:
    """Return whether two frames are equal, pixel by pixel: so is every frame between them."""
    return gap.after is not None and bool(np.array_equal(gap.before.picture, gap.after.picture))


def _write(
    writer: VideoWriter, gap: Gap, pictures: list[Picture] | None, encoding: Encoding, division: Division
) -> int:
    """Encode a frame and those behind it, and return how many these are."""
    start = gap.before.pts
    own = frame_to_encode(gap.before.frame, gap.before.picture, encoding)
    if gap.after is None:
        first, end = (division.pts(start, start + gap.before.duration, part) for part in (0, division.times))
        writer.write_frame(own, first, end - first)
        return 1
    times = [division.pts(start, gap.after.pts, part) for part in range(division.times + 1)]
    writer.write_frame(own, times[0], times[1] - times[0])
    for number in range(1, division.times):
        frame = own if pictures is None else frame_from_rgb(pictures[number - 1], encoding)
        writer.write_frame(frame, times[number], times[number + 1] - times[number])
    return division.times


def _check_output(output: Path, sources: tuple[Path, ...], *, force: bool) -> None:
    """Refuse to overwrite, before any work is done."""
    if output.is_dir():
        raise RequestError.about(output, "is-directory", "is a directory; give the name of the file to write")
    if any(same_file(source, output) for source in sources):
        raise RequestError.about(output, "output-is-input", "is what is read; give another output")
    if os.path.lexists(output) and not (force and (output.is_file() or output.is_symlink())):
        raise RequestError.about(output, "output-exists", "exists; give another output, or overwrite it with --force")
    make_folder(output.parent)


class _Meter:
    """Reports frames a second and the time that is left, at most every `REPORT_S` seconds.

    Args:
        progress: receives the reports.
        total: frames to write; 0 where it is not known.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = max(0, total)
        self._started = self._last = time.perf_counter()

    def report(self, done: int) -> None:
        now = time.perf_counter()
        if now - self._last < REPORT_S:
            return
        self._last = now
        rate = done / max(now - self._started, 1e-9)
        text = f"{rate:.1f} frames/s"
        if self._total:
            left_s = round(max(0, self._total - done) / rate)
            text += f", {left_s // 60}:{left_s % 60:02} left"
        self._progress.within(text, done, max(done, self._total))
