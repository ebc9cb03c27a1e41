"""An encoded video in parts, so that an interrupted job can go on: each part is a GOP of its own encoder.

    OUTPUT.parts/job.json        the source's hash and the options
    OUTPUT.parts/00003.packets   the packets of a part, one behind the other
    OUTPUT.parts/00003.json      their times and sizes, a hash, and what was counted so far; written last
    OUTPUT.parts/part.mp4        what there was when the job was interrupted, to be played

Parts start at every `LENGTH`-th frame of the output, wherever a run was interrupted: the same frames go through the
same encoders, and a resumed output is equal to one that was never interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from refine_export.errors import FrameError, RequestError
from refine_export.interpolation.encoders import Settings
from refine_export.support.files import write_bytes, write_text
from refine_export.support.imports import require

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two processes from one output
    fcntl = None  # type: ignore[assignment]

LENGTH = 240
"""Frames of a part, shorter than the usual distance of key frames, 250."""
LATEST = 2**62  # in units of the time base: FFmpeg counts in 64 bits


@dataclass
class Counts:
    """Counts of a job up to a frame of the output."""

    scene_cuts: int = 0
    still: int = 0


@dataclass(frozen=True)
class Part:
    """A finished part."""

    frames: int
    packets: list[tuple[int, int, int, bool, int]]
    """Time, decoding time, duration, whether it is a key frame, and size of each; read when the parts are joined."""
    end: int
    """Time at which its last frame ends."""
    sha256: str
    counts: Mapping[str, int]


class Segments:
    """The folder of an output's parts.

    Args:
        output: the file that is to be written.
        job: what has to be the same when the job goes on, by name.
        resume: go on with the parts that are there.
        force: delete them.

    Raises:
        RequestError: `output-in-use`, `unfinished-output`, `resume-other-source` or `resume-other-options`.
    """

    def __init__(self, output: Path, job: Mapping[str, Any], *, resume: bool, force: bool) -> None:
        self.folder = output.with_name(f"{output.name}.parts")
        self.parts: list[Part] = []
        self._lock: IO[str] | None = None
        try:
            self._open(job, resume=resume, force=force)
        except BaseException:
            self.release()
            raise

    @property
    def frames(self) -> int:
        """Frames in the finished parts."""
        return sum(part.frames for part in self.parts)

    @property
    def end(self) -> int:
        """Time at which the last frame of the finished parts ends."""
        return self.parts[-1].end if self.parts else 0

    @property
    def counts(self) -> Counts:
        """Counts up to the end of the finished parts."""
        return Counts(**self.parts[-1].counts) if self.parts else Counts()

    def add(self, packets: list[Any], frames: int, end: int, counts: Counts) -> None:
        """Write a finished part: packets of an encoder, in its time base."""
        content = b"".join(map(bytes, packets))
        part = Part(
            frames,
            [(one.pts, one.dts, one.duration, one.is_keyframe, one.size) for one in packets],
            end,
            sha256(content).hexdigest(),
            asdict(counts),
        )
        write_bytes(self._path(len(self.parts), "packets"), content)
        write_text(self._path(len(self.parts), "json"), json.dumps(asdict(part)))
        self.parts.append(replace(part, packets=[]))

    def packets(self, time_base: Fraction) -> Iterator[Any]:
        """Read the packets of all parts.

        The last one lasts so long that decoding times and durations add up to the length, which is what MP4 tells.
        """
        av = require("av", extra="video")
        delay: int | None = None  # from decoding to presentation, in the first packet
        for number in range(len(self.parts)):
            part = self._part(number)
            content, start = self._path(number, "packets").read_bytes(), 0
            for place, (pts, dts, duration, is_key, size) in enumerate(part.packets, 1):
                delay = pts - dts if delay is None else delay
                packet = av.Packet(content[start : start + size])
                start += size
                packet.pts, packet.dts, packet.duration, packet.time_base = pts, dts, duration, time_base
                packet.is_keyframe = is_key
                if number == len(self.parts) - 1 and place == len(part.packets):
                    packet.duration = max(1, part.end - dts - delay)
                yield packet

    def keep(self, count: int) -> None:
        """Delete all parts but the first ones."""
        for number in range(count, len(self.parts)):
            for suffix in ("json", "packets"):
                self._path(number, suffix).unlink(missing_ok=True)
        del self.parts[count:]

    def remove(self) -> None:
        """Delete the folder."""
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def release(self) -> None:
        """Let another process go on with the parts."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open(self, job: Mapping[str, Any], *, resume: bool, force: bool) -> None:
        if os.path.lexists(self.folder) and not self._is_ours():
            problem = "is where the parts of the output go, and is something else; move it, or give another output"
            raise RequestError.about(self.folder, "output-exists", problem)
        self._take()
        if self.folder.exists() and not resume:
            if not force:
                problem = "has the parts of an interrupted job; go on with --resume, or start again with --force"
                raise RequestError.about(self.folder, "unfinished-output", problem)
            self.remove()
        plain = json.loads(json.dumps(job))
        if (self.folder / "job.json").exists():
            self._check_job(plain)
            self._read()
        else:
            try:
                write_text(self.folder / "job.json", json.dumps(plain, indent=1))
            except RequestError:  # a full disk
                self.remove()
                raise
            self._take()

    def _take(self) -> None:
        """Keep other processes from the parts, which two would delete for one another; the system ends it with ours."""
        if fcntl is None or not (self.folder / "job.json").exists():
            return
        self._lock = (self.folder / "job.json").open()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            problem = "is being written by another process; wait for its end, or give another output"
            raise RequestError.about(self.folder, "output-in-use", problem) from error
        except OSError:  # a file system without locks
            self.release()

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:05}.{suffix}"

    def _is_ours(self) -> bool:
        """Return whether the folder is one of parts; a run that is killed at once leaves one with nothing in it."""
        if not self.folder.is_dir() or (self.folder / "job.json").exists():
            return self.folder.is_dir()
        return all(file.name.startswith(".job.json") for file in self.folder.iterdir())

    def _check_job(self, job: dict[str, Any]) -> None:
        known = _content_of(self.folder / "job.json")
        if known.get("source") != job["source"]:
            problem = "is the start of an output of another source; give that one, or --force in place of --resume"
            raise RequestError.about(self.folder, "resume-other-source", problem)
        if differ := sorted(name for name in {*known, *job} if known.get(name) != job.get(name)):
            was = ", ".join(f"{name} was {known.get(name)!r}, not {job.get(name)!r}" for name in differ)
            problem = f"was made with other options: {was}; give those, or --force in place of --resume"
            raise RequestError.about(self.folder, "resume-other-options", problem, options=tuple(differ))

    def _read(self) -> None:
        """Read the parts up to the first that is not whole; an interrupt or the end of a job leaves a shorter one."""
        while self._path(len(self.parts), "json").exists():
            try:
                part = self._part(len(self.parts))
            except TypeError:  # it lacks what every part has: a disk lost it
                break
            content = self._path(len(self.parts), "packets")
            if part.frames != LENGTH or not content.exists() or sha256(content.read_bytes()).hexdigest() != part.sha256:
                break
            self.parts.append(replace(part, packets=[]))

    def _part(self, number: int) -> Part:
        return Part(**_content_of(self._path(number, "json")))


def _content_of(path: Path) -> dict[str, Any]:
    """Read an object; one that is empty in place of a damaged file."""
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


class SegmentWriter:
    """Encodes frames into parts.

    Args:
        segments: where they are kept.
        settings: of the encoder.
        unit: of the times in the output's container, in seconds.
        counts: what is counted meanwhile.
    """

    def __init__(self, segments: Segments, settings: Settings, unit: Fraction, counts: Counts) -> None:
        self._segments, self._settings, self._unit, self._counts = segments, settings, unit, counts
        self._encoder: Any = None
        self._packets: list[Any] = []
        self._durations: dict[int, int] = {}  # of frames inside the encoder, by time
        self._frames = self._end = 0
        self._last_shown: int | None = None  # in the container's unit

    def write_frame(self, frame: Any, pts: int, duration: int) -> None:
        """Encode a frame in the output's pixel format; its time and kind are overwritten.

        Raises:
            FrameError: its time is that of the frame before, in the unit that the container counts in, or too late for
                any.
        """
        time_base = self._settings.time_base
        end_s = (pts + duration) * time_base
        if abs(end_s) >= LATEST * min(time_base, self._unit):  # the frames' unit or the container's
            message = f"a frame is shown at {float(end_s):.3g} s, too late for this output: write times from 0"
            raise FrameError(message, code="frame-too-late")
        shown = round(pts * time_base / self._unit)
        if self._last_shown is not None and shown <= self._last_shown:
            raise FrameError(
                f"the frames are {float(duration * time_base) * 1e3:.3g} ms apart, and this output counts in "
                f"{float(self._unit) * 1e3:.3g} ms: write .mp4, or give fewer --times",
                code="frames-too-close",
            )
        self._last_shown = shown
        if self._encoder is None:
            self._encoder = self._settings.open()
        frame.pts, frame.time_base = pts, time_base
        frame.pict_type = 0  # as decoded it would decide how x264 codes it
        self._durations[pts], self._end = duration, pts + duration
        self._packets.extend(self._encoder.encode_lazy(frame))  # in C as a whole: an interrupt loses no packet
        self._frames += 1
        if self._frames == LENGTH:
            self.finish()

    def finish(self) -> None:
        """End the part; nothing happens where none is open, as when an interrupt came in here before."""
        if self._encoder is None:
            return
        encoder, self._encoder = self._encoder, None
        self._packets.extend(encoder.encode_lazy(None))
        for packet in self._packets:
            packet.duration = self._durations.get(packet.pts, packet.duration)
        self._segments.add(self._packets, self._frames, self._end, self._counts)
        self._packets, self._durations, self._frames = [], {}, 0
