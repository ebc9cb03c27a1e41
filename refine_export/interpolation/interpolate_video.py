"""A video to one with frames put between its own: parts, the other streams, and what goes on after an interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.data.colour import encoding_for
from refine_export.data.picture_sequences import PATTERN, files_of, numbers_of
from refine_export.data.video import PIPE, open_video
from refine_export.errors import RequestError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.copied_streams import CopiedStreams
from refine_export.interpolation.encoders import (
    Settings,
    encoder_for,
    given_options,
    is_video,
    lost_notes,
    settings_for,
)
from refine_export.interpolation.frame_work import FrameWork
from refine_export.interpolation.interpolation_options import EncoderOptions, VideoOptions
from refine_export.interpolation.output_checks import check_output, check_space
from refine_export.interpolation.reader import open_source
from refine_export.interpolation.scene_cuts import cuts_from_file
from refine_export.interpolation.segments import Segments, SegmentWriter
from refine_export.interpolation.writer import frame_writer, joined_video
from refine_export.support.files import user_path
from refine_export.support.manifest import sha256_of_file
from refine_export.support.progress import Progress
from refine_export.support.text import dict_from_result


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
    check_output(output, (path,), force=force)
    cuts = None if options.cuts is None else cuts_from_file(user_path(str(options.cuts)))
    constant = output == PIPE  # which carries no times
    with progress.step(f"interpolate {path.name}") as report, open_source(path, options, constant=constant) as source:
        codec = encoder_for(output, encoder, source.coding.bits)
        encoding = encoding_for(source.first, codec, given_options(encoder).get("pix_fmt"))
        schedule = source.schedule
        settings = settings_for(source, codec, encoding, encoder, schedule.time_base, schedule.rate)
        settings.open()  # refuses options of the encoder
        work = FrameWork(source, backend, encoding, options, cuts, progress)
        check_space(output, settings, source.expected_frames)
        if is_video(output):
            identity = {"source": _hash_of(path), **_identity(options, encoder, backend), "cuts": cuts and sorted(cuts)}
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
        notes=(*source.notes, *encoding.notes, *lost_notes(source.first, codec, output), *work.notes, *notes),
    )


class Interrupted(KeyboardInterrupt):
    """The user ended the work; its message says what is there and how to go on."""


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
    else:
        segments.remove()
    finally:
        segments.release()


def _write_video(work: FrameWork, settings: Settings, output: Path, segments: Segments) -> list[str]:
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
                    f"gives {work.source.written} frames, and {segments.frames} are written: it has changed; give "
                    "--force in place of --resume",
                )
            joined.join(segments)
        return [] if copied is None else copied.notes


def _copied_streams(work: FrameWork, output: Path, stack: ExitStack) -> CopiedStreams | None:
    """Open the source's other streams; None where it has none."""
    source, options = work.source, work.options
    if source.container is None or source.path == PIPE:
        return None
    video = stack.enter_context(open_video(source.path))
    return CopiedStreams(video, output, audio=options.audio, stretch=source.schedule.stretch)


def _leave_part(work: FrameWork, settings: Settings, output: Path, segments: Segments, writer: SegmentWriter) -> str:
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
    advice = (
        f"the same command with --resume keeps the {segments.frames} of them that are in whole parts, and makes the "
    )
    advice += "unfinished part again"
    if work.source.path == PIPE:
        advice = "what is read from a pipe cannot go on: the same command deletes them, and starts again"
    return f"{frames} frames are written: {part} plays them; {advice}"


def _hash_of(path: Path) -> str:
    """Return the hash of a source, over all files of a sequence and their numbers, which are its times."""
    if path == PIPE:
        return "-"
    files = files_of(path) if path.is_dir() or PATTERN.search(path.name) else [path]
    hashes = [f"{number} {sha256_of_file(file)}" for number, file in zip(numbers_of(files), files, strict=True)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _identity(options: VideoOptions, encoder: EncoderOptions, backend: Backend) -> dict[str, Any]:
    """Return the options that decide on the frames of an output, by name."""
    others = ("resume", "allow_missing", "cuts")
    video = {name: value for name, value in dataclasses.asdict(options).items() if name not in others}
    return {**video, **dataclasses.asdict(encoder), **backend.identity}
