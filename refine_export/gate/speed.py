"""Latency ratios against those of a baseline.

A ratio is a file's latency over the reference's, measured in turn in one run, so that the speed of the machine cancels.
It still depends on the processor, the number of threads and what else runs; so a baseline holds ratios of one kind of
machine, and they are compared only where that is asked for.

**Noise.** A rise counts beyond three standard errors of the two ratios together, beyond a tenth in any case, and from a
half on whatever the errors are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pydantic import PositiveFloat

from refine_export.gate.decision import Problem
from refine_export.report.report_data import Report
from refine_export.support.text import size_text

FLOOR, CEILING = 0.1, 0.5
"""Bounds of the relative rise that is noise."""


@dataclass(frozen=True, kw_only=True)
class SpeedEntry:
    """Latency ratio of one file in one runtime."""

    file: str
    runtime: str
    size: str
    """Batch, height and width."""
    ratio: PositiveFloat
    ratio_error: float
    """Its relative standard error."""

    @property
    def key(self) -> tuple[str, str, str]:
        """The same in every measurement of the same file."""
        return self.file, self.runtime, self.size

    @property
    def name(self) -> str:
        """The entry in messages."""
        return f"{self.file} in {self.runtime} at {self.size}"


def speeds_from_report(report: Report) -> tuple[SpeedEntry, ...]:
    """Return the ratios that a report holds."""
    return tuple(
        SpeedEntry(
            file=PurePath(one.file).name,
            runtime=one.runtime,
            size=size_text((one.batch, *one.size)),
            ratio=one.ratio,
            ratio_error=one.ratio_error,
        )
        for one in report.latencies
    )


def noise_of(before: SpeedEntry, now: SpeedEntry) -> float:
    """Return the relative change of a ratio that is noise."""
    return min(max(FLOOR, 3 * math.hypot(before.ratio_error, now.ratio_error)), CEILING)


def speed_problems(before: Sequence[SpeedEntry], now: Sequence[SpeedEntry]) -> Iterator[Problem]:
    """Yield a problem for each file that is slower than before, and for each that was not measured."""
    measured = {entry.key: entry for entry in now}
    for entry in before:
        if (new := measured.get(entry.key)) is None:
            reason = "the report has no latency of it: measure it with `validate --latency`"
            yield Problem(rule="baseline-missing", status="not compared", what=entry.name, reason=reason)
        elif new.ratio > entry.ratio * (1 + (noise := noise_of(entry, new))):
            reason = (
                f"its latency was {entry.ratio:.3f} times the reference's and is {new.ratio:.3f} times, "
                f"{new.ratio / entry.ratio - 1:+.0%} (noise {noise:.0%})"
            )
            yield Problem(rule="baseline-slower", status="failed", what=entry.name, reason=reason, file=entry.file)


def accepted_speeds(before: Sequence[SpeedEntry], now: Sequence[SpeedEntry]) -> tuple[SpeedEntry, ...]:
    """Return what accepting writes: what is new, and what is faster beyond its noise."""
    entries = {entry.key: entry for entry in before}
    for new in now:
        old = entries.get(new.key)
        if old is None or new.ratio < old.ratio * (1 - noise_of(old, new)):
            entries[new.key] = new
    return tuple(entries.values())
