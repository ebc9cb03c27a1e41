"""The two jobs: the frame between two pictures, and a video with frames put between its own.

interpolate_pictures(Path("a.png"), Path("b.png"), Path("middle.png"), compute=ComputeOptions())
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from refine_export.data.images import AddNote, frame_from_file, size_of_file, uint8_from_frame
from refine_export.errors import FrameError, RequestError
from refine_export.interpolation.backends import ComputeOptions
from refine_export.interpolation.colour import Colours, colours_of, frame_from_picture, frame_to_encode
from refine_export.interpolation.interpolator import MIDDLE, check_times, check_timestep, frames_between
from refine_export.interpolation.reader import Gap, Sound, VideoSource, video_source
from refine_export.interpolation.scene_cuts import THRESHOLD, is_cut
from refine_export.interpolation.stream import in_order
from refine_export.interpolation.throughput import Told
from refine_export.interpolation.timing import Division
from refine_export.interpolation.writer import EncoderOptions, VideoWriter, check_encoder, video_writer
from refine_export.support.files import atomic_path, make_folder
from refine_export.support.progress import Progress, Silent

if TYPE_CHECKING:
    from refine_export.interpolation.interpolator import Picture

LARGEST_TIMES = 64
AHEAD, SMALLEST = 16, 4  # frames that wait for each thread that computes, and how many a pair counts for at least


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What is made of a video."""

    times: int = 2
    """How many frames there are for one of the source, 2 to 64."""
    scene_cut: float | None = THRESHOLD
    """Under this similarity two frames are of different scenes, and the first is repeated; None for never."""
    sound: bool = True
    """Copy the sound."""
    encoder: EncoderOptions = field(default_factory=EncoderOptions)

    def __post_init__(self) -> None:
        if not 2 <= self.times <= LARGEST_TIMES:
            raise RequestError(f"--times is {self.times}; expected 2 to {LARGEST_TIMES}")
        if self.scene_cut is not None and not 0 <= self.scene_cut <= 1:
            raise RequestError(f"--scene-cut is {self.scene_cut:g}; expected 0 to 1, such as {THRESHOLD}")


@dataclass(kw_only=True)
class Interpolated:
    """What became of pictures or a video."""

    output: str
    computed_by: str = ""
    """Runner, version, device and weights; or the server."""
    frames_read: int = 2
    frames_written: int = 1
    scene_cuts: int = 0
    """Pairs between which the first frame was repeated."""
    still: int = 0
    """Pairs of equal frames, between which nothing was computed."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return dataclasses.asdict(self)

    def described(self) -> dict[str, Any]:
        """For a person to read."""
        described = {name.replace("_", " "): value for name, value in self.to_dict().items() if value not in (0, [])}
        notes = described.pop("notes", [])
        return {**described, **{f"note {number}": note for number, note in enumerate(notes, 1)}}


def interpolate_pictures(
    first: Path,
    second: Path,
    output: Path,
    *,
    compute: ComputeOptions,
    timestep: float = MIDDLE,
    force: bool = False,
    progress: Progress | None = None,
) -> Interpolated:
    """Write the frame between two pictures as a PNG.

    Args:
        first: shown at time 0.
        second: shown at time 1, of the same size.
        output: a .png.
        compute: what computes it.
        timestep: its time, in (0, 1).
        force: overwrite `output`.
        progress: told of the steps.

    Raises:
        FrameError: a picture can't be read, or their sizes differ.
        RequestError: a time that can't be had, or an output that can't be written.
        UnavailableError: what computes is missing, or the server stays away.
    """
    from PIL import Image

    progress = progress or Silent()
    started = time.perf_counter()
    check_timestep(timestep, any_time=True)
    if output.suffix.lower() != ".png":
        raise RequestError(f"the output is {output.name!r}; expected a .png for two pictures")
    _check_output(output, (first, second), force=force)
    sizes = [size_of_file(path) for path in (first, second)]
    if sizes[0] != sizes[1]:
        both = ", ".join(
            f"{path.name} is {width}x{height}" for path, (height, width) in zip((first, second), sizes, strict=True)
        )
        raise FrameError(f"the two frames differ in size: {both}; give two frames of one video")
    result = Interpolated(output=str(output), notes=[*compute.notes])
    pictures = [_picture_from_file(path, result.notes.append) for path in (first, second)]
    with progress.step("compute the frame") as say, compute.open() as interpolator:
        say(interpolator.provider)
        result.computed_by = interpolator.provider
        picture = interpolator.between(pictures[0], pictures[1], timestep)
    with atomic_path(output) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    result.seconds = time.perf_counter() - started
    return result


def interpolate_video(
    source: Path,
    output: Path,
    options: VideoOptions,
    *,
    compute: ComputeOptions,
    force: bool = False,
    progress: Progress | None = None,
) -> Interpolated:
    """Put frames between those of a video; decoding, computing and encoding overlap.

    N frames become (N - 1) * times + 1: its own, at their own times, and `times` - 1 in each interval, equally spaced.
    Its own are encoded as they were decoded. Nothing is at `output` until all of it is.

    Args:
        source: the video.
        output: .mp4, .mov, .mkv or .webm.
        options: what is made.
        compute: what computes the frames between.
        force: overwrite `output`.
        progress: told how far it is.

    Raises:
        FrameError: the video can't be read, is truncated, or its frames can't be encoded.
        RequestError: a number of times that can't be had, sound that the output can't hold, or a disk that is full.
        UnavailableError: PyAV or what computes is missing, or the server stays away.
    """
    progress = progress or Silent()
    started = time.perf_counter()
    codec = options.encoder.of(output)
    check_encoder(codec)
    _check_output(output, (source,), force=force)
    result = Interpolated(output=str(output), frames_read=0, frames_written=0, notes=[*compute.notes])
    with progress.step(f"interpolate {source.name}") as say, video_source(source) as opened:
        colours = colours_of(opened.first, codec)
        division = Division(source=opened.time_base, times=options.times)
        with video_writer(
            output,
            opened,
            colours,
            options.encoder,
            time_base=division.time_base,
            rate=opened.rate * options.times,
            sound=options.sound,
        ) as writer:
            told = Told(progress, (opened.expected_frames - 1) * options.times + 1)
            _stream(opened, writer, colours, division, options, compute, result, told.tell)
        result.notes += [*opened.notes, *colours.notes]
        if opened.sound and not options.sound:
            result.notes.append("its sound is left out, as asked for")
        if result.frames_read == 1:
            result.notes.append("it has one frame: there is nothing to put between")
        result.seconds = time.perf_counter() - started
        say(f"{result.frames_written} frames, {result.frames_written / result.seconds:.3g} a second")
    return result


def _picture_from_file(path: Path, say: AddNote) -> Picture:
    import numpy as np

    frame = frame_from_file(path, say)
    picture = uint8_from_frame(frame)
    if np.abs(frame[0].transpose(1, 2, 0) * 255 - picture).max() > 1e-3:
        say(f"{path.name}: more than 8 bits a channel are rounded to 8.")
    return picture


def _stream(
    source: VideoSource,
    writer: VideoWriter,
    colours: Colours,
    division: Division,
    options: VideoOptions,
    compute: ComputeOptions,
    result: Interpolated,
    tell: Callable[[int], None],
) -> None:
    """Read in one thread, compute in others, encode here."""

    @contextmanager
    def opens(stop: Event) -> Iterator[Callable[[Gap | Sound], list[Picture] | None]]:
        with compute.open(stop) as interpolator:
            check_times(options.times, any_time=interpolator.any_time)
            result.computed_by = interpolator.provider
            yield lambda job: _between(job, interpolator, options)

    def weigh(job: Gap | Sound) -> int:
        return max(options.times, SMALLEST) if isinstance(job, Gap) else 1

    threads = compute.threads
    jobs = source.gaps(colours, sound=options.sound)
    with closing(in_order(jobs, opens, threads=threads, ahead=AHEAD * threads, weigh=weigh)) as results:
        for job, pictures in results:
            if isinstance(job, Sound):
                writer.packets(job.packets)
                continue
            result.frames_read += 1
            if job.after is not None and pictures is None:
                result.scene_cuts += not _still(job)
                result.still += _still(job)
            result.frames_written += _write(writer, job, pictures, colours, division)
            tell(result.frames_written)
            if pictures:
                pictures.clear()  # while the next ones are waited for, nobody needs them


def _between(job: Gap | Sound, interpolator: Any, options: VideoOptions) -> list[Picture] | None:
    """The pictures of a gap; None where its first frame is repeated."""
    if isinstance(job, Sound) or job.after is None or _still(job):
        return None
    frame0, frame1 = job.before.picture, job.after.picture
    if is_cut(frame0, frame1, options.scene_cut):
        return None
    return frames_between(interpolator, frame0, frame1, options.times)


def _still(gap: Gap) -> bool:
    """Two frames that are equal, pixel by pixel: so is every frame between them."""
    import numpy as np

    return gap.after is not None and bool(np.array_equal(gap.before.picture, gap.after.picture))


def _write(writer: VideoWriter, gap: Gap, pictures: list[Picture] | None, colours: Colours, division: Division) -> int:
    """Encode a frame and those behind it; how many these are."""
    start = gap.before.pts
    own = frame_to_encode(gap.before.frame, gap.before.picture, colours)
    if gap.after is None:
        end = division.pts(start, start + gap.before.duration, division.times)
        writer.frame(own, division.pts(start, start, 0), end - division.pts(start, start, 0))
        return 1
    times = [division.pts(start, gap.after.pts, part) for part in range(division.times + 1)]
    writer.frame(own, times[0], times[1] - times[0])
    for number in range(1, division.times):
        frame = own if pictures is None else frame_from_picture(pictures[number - 1], colours)
        writer.frame(frame, times[number], times[number + 1] - times[number])
    return division.times


def _check_output(output: Path, sources: tuple[Path, ...], *, force: bool) -> None:
    """Refuse to overwrite, before any work is done."""
    if output.is_dir() or not output.name:
        raise RequestError(f"output is {str(output)!r}, which is a folder; expected the name of the file to write")
    for source in sources:
        if source.exists() and output.exists() and source.samefile(output):
            raise RequestError(f"{output} is what is read; give another name with --output")
    if output.exists() and not output.is_file():
        raise RequestError(f"{output} is no regular file; choose another name with --output")
    if os.path.lexists(output) and not force:
        raise RequestError(f"{output} is there already; choose another name, or overwrite it with --force")
    make_folder(output.parent)
