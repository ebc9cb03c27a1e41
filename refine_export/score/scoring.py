"""Run every candidate on every triplet, and measure its frames against the true ones.

At most two triplets are in memory: while one is run, its frames so far are measured and the next one is read. Each
figure is a line of a JSON Lines file, under a key of what it depends on; a run that was interrupted starts again where
that file ends.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pydantic

from refine_export.data.colour import Picture
from refine_export.data.images import AddNote, frame_from_file, uint8_from_frame
from refine_export.errors import RequestError
from refine_export.interpolation.interpolator import MIDDLE, LocalInterpolator
from refine_export.score.frame_quality import Quality, TrueFrame
from refine_export.score.layouts import Triplet
from refine_export.support.files import cannot_write
from refine_export.support.manifest import sha256_of_file


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A source of frames: torch, or a file in one runtime."""

    file: str
    runtime: str
    interpolator: LocalInterpolator
    fingerprint: str
    """Hash of the file, the weights, the runtime and the code that its figures depend on."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The quality of one contestant's frame of one triplet, or why there is none."""

    contestant: Contestant
    triplet: Triplet
    quality: Quality | None
    seconds: float
    """Time of the run; 0 where an earlier one is used."""
    reason: str = ""


class ScoreLog:
    """Figures by key, in a JSON Lines file that grows by one line for each."""

    def __init__(self, file: TextIO | None = None, known: dict[str, Quality] | None = None) -> None:
        self._file = file
        self._known = known or {}

    def find(self, key: str) -> Quality | None:
        """Return the figures of an earlier run."""
        return self._known.get(key)

    def add(self, key: str, score: Score) -> None:
        """Append the figures of a run."""
        if self._file is None or score.quality is None or key in self._known:
            return
        names = {"split": score.triplet.split, "triplet": score.triplet.name, "file": score.contestant.file}
        names["runtime"] = score.contestant.runtime
        self._file.write(json.dumps({"key": key, **names, **dataclasses.asdict(score.quality)}) + "\n")
        self._file.flush()  # a process that is killed loses no more than the line that it writes


@contextmanager
def score_log(path: Path | None) -> Iterator[ScoreLog]:
    """Open the log of earlier figures, to read it and to append to it.

    Raises:
        RequestError: `cannot-write`.
    """
    if path is None:
        yield ScoreLog()
        return
    try:
        with path.open("a+", encoding="utf-8", errors="replace") as file:
            file.seek(0)
            lines = file.read().split("\n")
            if lines[-1]:  # cut off when the process was killed: the next line must not continue it
                file.write("\n")
            yield ScoreLog(file, dict(_read(lines)))
    except OSError as error:
        raise cannot_write(path, error, "choose another folder with --output") from error


@dataclass(frozen=True, kw_only=True)
class _Line(Quality):
    """Form of a line of the log, as far as it is read."""

    key: str


def _read(lines: Sequence[str]) -> Iterator[tuple[str, Quality]]:
    form, names = pydantic.TypeAdapter(_Line), [field.name for field in dataclasses.fields(Quality)]
    for line in lines:
        with suppress(pydantic.ValidationError):  # a line that was cut off
            found = form.validate_json(line, strict=True)
            yield found.key, Quality(**{name: getattr(found, name) for name in names})


def score_triplets(
    triplets: Sequence[Triplet],
    contestants: Sequence[Contestant],
    log: ScoreLog,
    add_note: AddNote,
    on_triplet: Callable[[int], None],
) -> Iterator[Score]:
    """Score every contestant on every triplet; one that gives no frame is not run on the triplets after it.

    Args:
        triplets: checked by `data_set_from_folder`.
        contestants: all of one padding, so that they compute on the same pixels.
        log: figures of earlier runs.
        add_note: receives what was converted in reading pictures.
        on_triplet: receives the number of triplets that are done.
    """
    failed: set[Contestant] = set()
    with ThreadPoolExecutor(1) as beside:  # frames are read and measured beside the runs
        ahead = beside.submit(_opened, triplets[0], contestants, log, add_note)
        for number in range(len(triplets)):
            on_triplet(number)
            opened = ahead.result()
            if number + 1 < len(triplets):
                ahead = beside.submit(_opened, triplets[number + 1], contestants, log, add_note)
            measured = [opened.run(one, beside.submit) for one in contestants if one not in failed]
            for score in (finish() for finish in measured):
                log.add(opened.keys[score.contestant], score)
                if score.quality is None:
                    failed.add(score.contestant)
                yield score
        on_triplet(len(triplets))


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A triplet in memory, with the keys and the known figures of its contestants."""

    triplet: Triplet
    keys: Mapping[Contestant, str]
    known: Mapping[Contestant, Quality]
    frames: tuple[Picture, Picture] | None
    """The two frames; None where every figure is known."""
    truth: TrueFrame | None

    def run(self, contestant: Contestant, submit: Callable[..., Future[Quality]]) -> Callable[[], Score]:
        """Run a contestant; what is returned waits for the figures of its frame."""
        score = functools.partial(Score, contestant=contestant, triplet=self.triplet)
        if contestant in self.known:
            return functools.partial(score, quality=self.known[contestant], seconds=0.0)
        assert self.frames is not None
        assert self.truth is not None
        started = time.perf_counter()
        try:
            picture = contestant.interpolator.interpolate(*self.frames, MIDDLE)
        except RequestError as error:
            reason = f"{self.triplet.name}: {error}"
            return functools.partial(score, quality=None, seconds=time.perf_counter() - started, reason=reason)
        seconds = time.perf_counter() - started
        quality = submit(self.truth.quality_of, picture)
        return lambda: score(quality=quality.result(), seconds=seconds)


def _opened(triplet: Triplet, contestants: Sequence[Contestant], log: ScoreLog, add_note: AddNote) -> _Opened:
    frames = hashlib.sha256("".join(map(sha256_of_file, triplet.files)).encode()).hexdigest()
    keys = {one: f"{one.fingerprint[:32]}:{frames[:32]}" for one in contestants}
    known = {one: quality for one, key in keys.items() if (quality := log.find(key)) is not None}
    opened = functools.partial(_Opened, triplet=triplet, keys=keys, known=known)
    if len(known) == len(contestants):
        return opened(frames=None, truth=None)
    frame0, truth, frame1 = (_picture(path, add_note) for path in triplet.files)
    return opened(frames=(frame0, frame1), truth=TrueFrame(truth))


def _picture(path: Path, add_note: AddNote) -> Picture:
    # One note for all pictures of a kind: a data set may have tens of thousands.
    return uint8_from_frame(frame_from_file(path, add_note, label="Frames"))
