"""The changes of a report against a baseline: what is worse, better, new and missing.

An entry is compared with the same feed's, in decibels, for each of four figures: PSNR, largest error, 99.9th percentile
of the error, and flicker. Values of different feeds are never mixed: they lie tens of decibels apart by design.

**Noise.** Running the same files on the same machine again gives bit-identical numbers. Another processor, or another
version of torch or ONNX Runtime, sums in another order. That moves an FP32 file's error, which consists of nothing but
such noise, by up to 1.4 dB of PSNR, 3.6 dB of the largest error and 1.4 dB of the percentile (measured: torch with
and without oneDNN, ONNX Runtime with and without its optimisations, 256x448). The error of an FP16 file is the rounding
that its types ask for, and moves by 0.08, 1.7 and 0.14 dB (measured: inputs changed in their last bit). `FLOORS_DB` is
about 1.4 times this. Where a group has four feeds or more, the spread of the changes between them (three times the
scaled median deviation from the median) is taken where it is larger, up to three times the floor: a change that differs
from feed to feed is noise, one that all feeds share is not, and a larger drop always counts. Errors below two units in
the last place of FP32 never count as a drop.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from refine_export.accuracy.effective_limits import LABELS
from refine_export.errors import RequestError
from refine_export.gate.baseline import Baseline, Entry, baseline_from_decision, stable_names
from refine_export.gate.decision import Decision, Problem
from refine_export.gate.speed import accepted_speeds, speed_problems
from refine_export.support.text import listed

RESOLUTION = 2.0**-22
"""Error in units of the peak below which FP32 figures carry no information."""
ENOUGH_FEEDS = 4
"""Smallest number of changes whose median deviation is used as their noise."""
LARGEST_SPREAD = 3.0
"""Upper bound of the estimated noise, in units of the floor."""

FigureName = Literal["psnr_db", "max_abs", "p999_abs", "flicker"]
FLOORS_DB: Mapping[bool, Mapping[FigureName, float]] = {
    True: {"psnr_db": 2.0, "max_abs": 5.0, "p999_abs": 2.0, "flicker": 2.0},
    False: {"psnr_db": 0.2, "max_abs": 2.5, "p999_abs": 0.4, "flicker": 0.4},
}
"""Changes that are always noise, for FP32 files and for others."""
Key = tuple[str, str, str, str]
"""See `Entry.key`."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of one entry that moved by more than its noise."""

    entry: Entry
    """The entry as measured now."""
    figure: FigureName
    before: float | None
    now: float | None
    drop_db: float
    """Positive where the figure is worse."""
    noise_db: float

    def __str__(self) -> str:
        values = " to ".join(_value_text(self.figure, value) for value in (self.before, self.now))
        by = f" by {abs(self.drop_db):.2f} dB" if math.isfinite(self.drop_db) else ""  # no ratio to or from equality
        side = "worse" if self.drop_db > 0 else "better"
        return f"{LABELS[self.figure]} {values}, {side}{by} (noise {self.noise_db:.2f} dB)"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """A report against a baseline."""

    drops: tuple[Change, ...]
    gains: tuple[Change, ...]
    new: tuple[Entry, ...]
    """Entries that only the report has."""
    missing: tuple[Entry, ...]
    """Entries that only the baseline has, or that were not compared this time."""
    same: int
    """Number of entries within their noise."""
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    faster: int = 0
    """Number of latency ratios that are new or better."""
    accepted: Baseline
    """The baseline that accepting writes."""

    @property
    def offered(self) -> bool:
        """Return whether there is something to accept."""
        return bool(self.gains or self.new or self.faster)

    @property
    def counts(self) -> str:
        """The numbers of entries in a line."""
        worse, better = (len({change.entry for change in changes}) for changes in (self.drops, self.gains))
        return (
            f"{self.same} entries within their noise, {worse} worse, {better} better, {len(self.new)} new, "
            f"{len(self.missing)} missing"
        )

    def to_dict(self) -> dict[str, Any]:
        """The changes as JSON types."""
        drops, gains = (
            [{"what": change.entry.name, "change": str(change)} for change in changes]
            for changes in (self.drops, self.gains)
        )
        return {
            "same": self.same,
            "worse": drops,
            "better": gains,
            "new": [entry.name for entry in self.new],
            "missing": [entry.name for entry in self.missing],
            "notes": list(self.notes),
        }


def compare_with_baseline(decision: Decision, baseline: Baseline, *, speed: bool = False) -> Changes:
    """Find what is worse, better, new and missing; with `speed`, latency ratios too (see `speed`).

    Raises:
        RequestError: `other-baseline`; the baseline is about other weights, frames or files.
    """
    measured = baseline_from_decision(decision, speed=speed)
    _check_comparable(measured, baseline)
    now, before = ({entry.key: entry for entry in one.entries} for one in (measured, baseline))
    changes = list(_changes(now, before))
    drops = tuple(change for change in changes if change.drop_db > 0)
    worse = {change.entry.key for change in drops}
    gains = tuple(change for change in changes if change.drop_db < 0 and change.entry.key not in worse)
    better = {change.entry.key for change in gains}
    missing = tuple(entry for key, entry in before.items() if key not in now)
    new = tuple(entry for key, entry in now.items() if key not in before)
    slower = tuple(speed_problems(baseline.speeds, measured.speeds)) if speed else ()
    speeds = accepted_speeds(baseline.speeds, measured.speeds)
    entries = {**before, **{key: now[key] for key in better}, **{entry.key: entry for entry in new}}
    return Changes(
        drops=drops,
        gains=gains,
        new=new,
        missing=missing,
        same=len(now.keys() & before.keys()) - len(worse | better),
        notes=tuple(_notes(measured, baseline)),
        problems=(*_problems(drops, missing, decision), *slower),
        faster=len({*speeds} - {*baseline.speeds}),
        accepted=dataclasses.replace(measured, entries=tuple(entries.values()), speeds=speeds),
    )


def _check_comparable(measured: Baseline, baseline: Baseline) -> None:
    differences = []
    for what, ours, theirs in (
        ("weights", measured.checkpoint, baseline.checkpoint),
        ("frames", measured.pair, baseline.pair),
    ):
        if not _same(ours, theirs):
            differences.append(f"its {what} are {_described(theirs)}, the report's are {_described(ours)}")
    keys = {entry.key for entry in measured.entries}
    if keys and keys.isdisjoint(entry.key for entry in baseline.entries):
        before, now = (listed([entry.name for entry in one.entries], 1) for one in (baseline, measured))
        differences.append(f"it has {before}, the report has {now}")
    if differences:
        raise RequestError(
            f"the baseline is about something else: {'; '.join(differences)}. Give the baseline of these files, or "
            "delete it and write a new one with --accept",
            code="other-baseline",
            differences=differences,
        )


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return whether two descriptions of weights or frames are about the same ones."""
    # The last bits of a drawn scene depend on the processor; its name says how it was drawn.
    drawn = str(ours.get("name", "")).startswith("procedural scene")
    return all(
        ours.get(name) == theirs.get(name) for name in (("name", "size") if drawn else ("sha256", "inputs_sha256"))
    )


def _described(what: Mapping[str, Any]) -> str:
    hashes = what.get("sha256") or ""
    short = ", ".join(str(part)[:12] for part in (hashes if isinstance(hashes, list) else [hashes]))
    return f"{what.get('source') or what.get('name')} (sha256 {short})"


def _changes(now: Mapping[Key, Entry], before: Mapping[Key, Entry]) -> Iterator[Change]:
    """The changes beyond noise, which is estimated over the feeds of one output of one file in one runtime."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for key, entry in now.items():
        if key in before:
            groups.setdefault((entry.file, entry.runtime, entry.output), []).append(entry)
    for entries in groups.values():
        floors = FLOORS_DB[entries[0].precision == "fp32"]
        for figure, floor in floors.items():
            drops = {entry: _drop_db(figure, before[entry.key], entry) for entry in entries}
            noise = _noise_db([drop for drop in drops.values() if drop is not None and math.isfinite(drop)], floor)
            for entry, drop in drops.items():
                if drop is None or abs(drop) <= noise or (drop > 0 and entry.max_abs <= RESOLUTION):
                    continue
                old, new = getattr(before[entry.key], figure), getattr(entry, figure)
                yield Change(entry=entry, figure=figure, before=old, now=new, drop_db=drop, noise_db=noise)


def _drop_db(figure: FigureName, before: Entry, now: Entry) -> float | None:
    """Decibels by which a figure is worse; infinite from or to equality, None where it was not measured twice."""
    old, new = getattr(before, figure), getattr(now, figure)
    if old == new:
        return None if old is None and figure != "psnr_db" else 0.0
    if figure == "psnr_db":  # None: identical
        return math.inf if old is None else -math.inf if new is None else old - new
    if old is None or new is None:
        return None
    return math.inf if not old else -math.inf if not new else 20 * math.log10(new / old)


def _noise_db(changes: Sequence[float], floor: float) -> float:
    if len(changes) < ENOUGH_FEEDS:
        return floor
    middle = statistics.median(changes)
    # 1.4826 scales the median deviation to the standard deviation of normally distributed values.
    spread = 3 * 1.4826 * statistics.median(abs(change - middle) for change in changes)
    return min(max(floor, spread), LARGEST_SPREAD * floor)


def _problems(drops: Sequence[Change], missing: Sequence[Entry], decision: Decision) -> Iterator[Problem]:
    names = stable_names([one.file for one in decision.report.artifacts])
    files = {name: file for file, name in names.items()}
    for entry in dict.fromkeys(change.entry for change in drops):
        reason = "; ".join(str(change) for change in drops if change.entry == entry)
        yield Problem(rule="baseline-drop", status="failed", what=entry.name, reason=reason, file=files.get(entry.file))
    verdicts = {
        (names[one.file], one.verdict.runtime, one.verdict.feed): one.verdict
        for group in decision.groups
        for one in group.comparisons
    }
    for entry in missing:
        verdict = verdicts.get((entry.file, entry.runtime, entry.feed))
        if verdict is None:
            reason = "the report has no such comparison"
        else:
            reason = f"it was not measured: {'; '.join(verdict.reasons) or 'the output is missing'}"
        yield Problem(
            rule="baseline-missing",
            status="not compared" if verdict and verdict.status == "not compared" else "failed",
            what=entry.name,
            reason=reason,
            file=files.get(entry.file),
        )


def _notes(measured: Baseline, baseline: Baseline) -> Iterator[str]:
    ours, theirs = ({**one.environment, "reference": one.reference} for one in (measured, baseline))
    different = [
        f"{name} {theirs.get(name, 'none')}, now {ours.get(name, 'none')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if different:
        yield f"The baseline was measured with {'; '.join(different)}: changes may come from that."


def _value_text(figure: FigureName, value: float | None) -> str:
    if figure == "psnr_db":
        return "identical" if value is None else f"{value:.2f} dB"
    return "n/a" if value is None else f"{value:.3g}"
