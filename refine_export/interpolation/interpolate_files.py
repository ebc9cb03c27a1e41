"""Files to files: the frame between two pictures, or a video with frames put between its own."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from PIL import Image

from refine_export.data.colour import Encoding, Picture, encoding_for, frame_from_rgb, frame_to_encode
from refine_export.data.images import frame_from_file, size_of_file, uint8_from_frame
from refine_export.data.picture_sequences import PATTERN, files_of
from refine_export.data.video import PIPE, open_video
from refine_export.errors import RequestError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.copied_streams import CopiedStreams
from refine_export.interpolation.encoders import (
    Settings,
    encoder_for,
    given_options,
    is_video,
    settings_for,
)
from refine_export.interpolation.interpolation_options import EncoderOptions, VideoOptions
from refine_export.interpolation.interpolator import (
    Interpolator,
    check_parts,
    check_same_size,
    check_timestep,
    frames_at,
)
from refine_export.interpolation.reader import Gap, VideoSource, open_source
from refine_export.interpolation.scene_cuts import cuts_from_file, similarity
from refine_export.interpolation.segments import Counts, Segments, SegmentWriter
from refine_export.interpolation.stream import in_order
from refine_export.interpolation.writer import frame_writer, joined_video
from refine_export.support.files import atomic_path, make_folder, same_file
from refine_export.support.manifest import sha256_of_file
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
    repeated: int = 0
    """Frames of the video that were left out, since they repeat the one before."""
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

    The output lasts as long as the video, or `slow` times as long; its last frames hold the video's last one. The
    video's own frames are encoded as they were decoded. Nothing is at `output` until all of it is. For arguments and
    errors see `jobs.interpolate_frames.interpolate`.
    """
    started = time.perf_counter()
    encoder_for(output, encoder)  # refuses names and options before anything is read
    if options.resume and (path == PIPE or not is_video(output)):
        problem = f"resume is given for {path} to {output}; expected a file, and a video file as the output"
        raise RequestError(problem, code="options-do-not-fit", option="resume")
    _check_output(output, (path,), force=force)
    cuts = None if options.cuts is None else cuts_from_file(options.cuts)
    with progress.step(f"interpolate {path.name}") as report, open_source(path, options) as source:
        codec = encoder_for(output, encoder, source.coding.bits)
        encoding = encoding_for(source.first, codec, given_options(encoder).get("pix_fmt"))
        schedule = source.schedule
        settings = settings_for(source, codec, encoding, encoder, schedule.time_base, schedule.rate)
        settings.open()  # refuses options of the encoder
        work = _Work(source, backend, encoding, options, cuts, progress)
        if is_video(output):
            _check_space(output, settings, source.expected_frames)
            identity = {"source": _hash_of(path), **_identity(options, encoder, backend)}
            with _segments(output, identity, resume=options.resume, force=force or path == PIPE) as segments:
                notes = _write_video(work, settings, output, segments)
        else:
            notes = []
            with frame_writer(output, settings) as pictures:
                work.write_to(pictures)
        seconds = time.perf_counter() - started
        report(f"{work.written} frames, {work.written / seconds:.3g} a second")
    return Interpolated(
        path=output,
        computed_by=", ".join(work.providers),
        frames_read=source.read,
        frames_written=work.written,
        scene_cuts=work.counts.scene_cuts,
        still=work.counts.still,
        repeated=source.repeated,
        seconds=seconds,
        notes=(*source.notes, *encoding.notes, *work.notes, *notes),
    )


class Interrupted(KeyboardInterrupt):
    """The user ended the work; its message says what is there and how to go on."""


class _Work:
    """Computes the frames of an output and writes them, and counts meanwhile."""

    def __init__(
        self,
        source: VideoSource,
        backend: Backend,
        encoding: Encoding,
        options: VideoOptions,
        cuts: frozenset[int] | None,
        progress: Progress,
    ) -> None:
        self.source, self.options = source, options
        self._backend, self._encoding, self._cuts, self._progress = backend, encoding, cuts, progress
        self.providers: set[str] = set()
        self.notes: set[str] = set()
        self.counts = Counts()
        self.written = 0
        """Frames in the output, those of earlier runs included."""

    def write_to(self, writer: Any) -> None:
        """Compute and write all frames behind those that are written."""
        meter = _Meter(self._progress, self.written, self.source.expected_frames)
        threads = self._backend.threads
        gaps = self.source.gaps(self.written)
        with closing(in_order(gaps, self._opens, threads=threads, ahead=AHEAD * threads, weigh=_weight_of)) as results:
            for gap, pictures in results:
                if gap.counts and gap.after is not None and pictures is None:
                    self.counts.still += (is_still := _is_still(gap))
                    self.counts.scene_cuts += not is_still
                self._write(writer, gap, pictures)
                self.written += len(gap.shots)
                meter.report(self.written)
                if pictures:
                    pictures.clear()  # the loop variable would hold them while the next ones are waited for
        writer.finish()

    @contextmanager
    def _opens(self, stop: Event) -> Iterator[Callable[[Gap], list[Picture] | None]]:
        with self._backend.open(stop) as interpolator:
            check_parts(self.source.schedule.parts, takes_timestep=interpolator.takes_timestep)
            self.providers.add(interpolator.provider)
            if self.source.coding.bits > 8 and not interpolator.keeps_depth:
                self.notes.add("the server computes 8 bits a channel: the frames between have no more")
            yield lambda gap: self._pictures(gap, interpolator)

    def _pictures(self, gap: Gap, interpolator: Interpolator) -> list[Picture] | None:
        """Compute the pictures of a gap; None where its first frame is repeated."""
        timesteps = [shot.timestep for shot in gap.shots if shot.timestep]
        if gap.after is None or _is_still(gap):
            return None
        if not timesteps:
            return []
        frame0, frame1 = gap.before.picture, gap.after.picture
        if self._cuts is not None:
            is_cut = any(number in self._cuts for number in range(gap.before.number + 1, gap.after.number + 1))
        else:
            is_cut = self.options.scene_cuts and similarity(frame0, frame1) < self.options.scene_cut
        return None if is_cut else frames_at(interpolator, frame0, frame1, timesteps)

    def _write(self, writer: Any, gap: Gap, pictures: list[Picture] | None) -> None:
        """Encode the frames of a gap."""
        own, made = None, iter(pictures or ())
        for shot in gap.shots:
            if shot.timestep and pictures is not None:
                frame = frame_from_rgb(next(made), self._encoding)
            else:
                frame = own = own or frame_to_encode(gap.before.frame, gap.before.picture, self._encoding)
            writer.write_frame(frame, shot.pts, shot.duration)


@contextmanager
def _segments(output: Path, job: dict[str, Any], *, resume: bool, force: bool) -> Iterator[Segments]:
    """Open the folder of an output's parts; it stays only where the same command can go on with them."""
    segments = Segments(output, job, resume=resume, force=force)
    try:
        yield segments
    except BaseException as error:
        hopeless = isinstance(error, RequestError) and error.code != "cannot-write"  # but a full disk can be mended
        if hopeless or not (segments.parts or any(segments.folder.glob("part.*"))):
            segments.remove()
        raise
    segments.remove()


def _write_video(work: _Work, settings: Settings, output: Path, segments: Segments) -> list[str]:
    """Compute the parts that are missing and join all; return what is left out."""
    with ExitStack() as stack:
        copied = _copied_streams(work, output, stack)
        with joined_video(output, work.source, settings, copied) as joined:
            work.counts, work.written = segments.counts, segments.frames
            writer = SegmentWriter(segments, settings, joined.unit, work.counts)
            try:
                work.write_to(writer)
            except KeyboardInterrupt as error:
                raise Interrupted(_leave_part(work, settings, output, segments, writer)) from error
            if work.source.written != segments.frames:
                raise RequestError.about(
                    work.source.path,
                    "resume-other-source",
                    f"gives {work.source.written} frames, and {segments.frames} are written: it has changed; start "
                    "again with --force",
                )
            joined.join(segments)
        return [] if copied is None else copied.notes


def _copied_streams(work: _Work, output: Path, stack: ExitStack) -> CopiedStreams | None:
    """Open the source's other streams; None where it has none."""
    source, options = work.source, work.options
    if source.container is None or source.path == PIPE:
        return None
    video = stack.enter_context(open_video(source.path))
    return CopiedStreams(video, output, audio=options.audio, stretch=source.schedule.stretch)


def _leave_part(work: _Work, settings: Settings, output: Path, segments: Segments, writer: SegmentWriter) -> str:
    """Write what there is of an interrupted output into the folder of its parts, and return what to say."""
    whole = len(segments.parts)
    writer.finish()  # the part that is open: it is played, and made again later
    frames = segments.frames
    if not frames:
        return "no frame was written"
    part = segments.folder / f"part{output.suffix.lower()}"
    with ExitStack() as stack:
        copied = _copied_streams(work, output, stack)
        with joined_video(part, work.source, settings, copied) as joined:
            joined.join(segments, whole=False)
    segments.keep(whole)
    return (
        f"{frames} frames are written: {part} has them; the same command with --resume goes on behind frame "
        f"{segments.frames}"
    )


def _weight_of(gap: Gap) -> int:
    return max(len(gap.shots), LEAST_WEIGHT)


def _is_still(gap: Gap) -> bool:
    """Return whether two frames are equal, pixel by pixel: so is every frame between them."""
    return gap.after is not None and bool(np.array_equal(gap.before.picture, gap.after.picture))


def _hash_of(path: Path) -> str:
    """Return the hash of a source, over all files of a sequence."""
    if path == PIPE:
        return "-"
    files = files_of(path) if path.is_dir() or PATTERN.search(path.name) else [path]
    return hashlib.sha256("".join(map(sha256_of_file, files)).encode()).hexdigest()


def _identity(options: VideoOptions, encoder: EncoderOptions, backend: Backend) -> dict[str, Any]:
    """Return the options that decide on the frames of an output, by name."""
    others = ("resume", "allow_missing")
    video = {name: value for name, value in dataclasses.asdict(options).items() if name not in others}
    return {**video, **dataclasses.asdict(encoder), **backend.identity} | {"cuts": str(options.cuts)}


def _check_space(output: Path, settings: Settings, frames: int) -> None:
    """Refuse an output that the disk cannot hold, with its parts."""
    needed = 2 * settings.least_bytes(frames)
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise RequestError.about(
            output,
            "no-space",
            f"takes {needed / 1e9:.1f} GB or more with its parts, and {free / 1e9:.1f} GB are free; free some space, "
            "or choose another folder",
            needed=needed,
            free=free,
        )


def _picture_from_file(path: Path, add_note: Callable[[str], None]) -> Picture:
    frame = frame_from_file(path, add_note)
    picture = uint8_from_frame(frame)
    if np.abs(frame[0].transpose(1, 2, 0) * 255 - picture).max() > 1e-3:
        add_note(f"{path.name}: more than 8 bits a channel are rounded to 8.")
    return picture


def _check_output(output: Path, sources: tuple[Path, ...], *, force: bool) -> None:
    """Refuse to overwrite, before any work is done."""
    if output == PIPE:
        return
    if output.is_dir():
        raise RequestError.about(output, "is-directory", "is a directory; give the name of the file to write")
    if any(same_file(source, output) for source in sources):
        raise RequestError.about(output, "output-is-input", "is what is read; give another output")
    if PATTERN.search(output.name):
        found = files_of(output, least=0) if output.parent.is_dir() else []
        exists, replaceable = bool(found), not any(same_file(one, found[0].parent) for one in sources if found)
    else:
        exists, replaceable = os.path.lexists(output), output.is_file() or output.is_symlink()
    if exists and not (force and replaceable):
        raise RequestError.about(output, "output-exists", "exists; give another output, or overwrite it with --force")
    make_folder(output.parent)


class _Meter:
    """Reports frames a second and the time that is left, at most every `REPORT_S` seconds.

    Args:
        progress: receives the reports.
        done: frames that are written already.
        total: frames to write; 0 where it is not known.
    """

    def __init__(self, progress: Progress, done: int, total: int) -> None:
        self._progress = progress
        self._done = done
        self._total = max(0, total)
        self._started = self._last = time.perf_counter()

    def report(self, done: int) -> None:
        now = time.perf_counter()
        if now - self._last < REPORT_S:
            return
        self._last = now
        rate = (done - self._done) / max(now - self._started, 1e-9)
        text = f"{rate:.1f} frames/s"
        if self._total and rate:
            left_s = round(max(0, self._total - done) / rate)
            text += f", {left_s // 60}:{left_s % 60:02} left"
        self._progress.within(text, done, max(done, self._total))
