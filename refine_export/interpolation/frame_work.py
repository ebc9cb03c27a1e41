"""Compute and write the frames of an output, and count meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Event
from typing import Any

import numpy as np

from refine_export.data.colour import Encoding, Picture, frame_from_rgb, frame_to_encode
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolation_options import VideoOptions
from refine_export.interpolation.interpolator import Interpolator, check_parts, frames_at
from refine_export.interpolation.reader import Gap, VideoSource
from refine_export.interpolation.scene_cuts import similarity
from refine_export.interpolation.segments import Counts
from refine_export.interpolation.stream import in_order
from refine_export.support.progress import Progress
from refine_export.support.text import listed

AHEAD = 16
"""Frames that are read or computed ahead for each thread that computes."""
LEAST_WEIGHT = 4
"""Frames that a pair counts for at least: it holds its own two as decoded and as RGB."""
REPORT_S = 0.2
"""Seconds between two reports of progress."""


class FrameWork:
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
        gaps = self.source.gaps(self.written)
        with (
            self._backend.share(self.source.size) as threads,
            closing(in_order(gaps, self._opens, threads=threads, ahead=AHEAD * threads, weigh=_weight_of)) as results,
        ):
            for gap, pictures in results:
                if gap.counts and gap.after is not None and pictures is None:
                    self.counts.still += (is_still := _is_still(gap))
                    self.counts.scene_cuts += not is_still
                self._write(writer, gap, pictures)
                self.written += len(gap.shots)
                meter.report(self.written)
                if pictures:
                    pictures.clear()  # the loop variable would hold them while the next ones are waited for
        if beyond := sorted(number for number in self._cuts or () if number >= self.source.read):
            named = listed(map(str, beyond))
            self.notes.add(f"the last frame is number {self.source.read - 1}, so no scene begins at these: {named}")
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


def _weight_of(gap: Gap) -> int:
    return max(len(gap.shots), LEAST_WEIGHT)


def _is_still(gap: Gap) -> bool:
    """Return whether two frames are equal, pixel by pixel: so is every frame between them."""
    return gap.after is not None and bool(np.array_equal(gap.before.picture, gap.after.picture))


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
