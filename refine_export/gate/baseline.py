"""The accuracy that a set of artifacts had, kept in a file: an entry for each output of each comparison.

**Ratchet.** Accepting writes what is better and what is new. A value within its noise keeps its entry, so that small
drops cannot add up; what is worse or missing cannot be accepted: delete the file, and accept again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pydantic import NonNegativeFloat

from refine_export import __version__
from refine_export.errors import RequestError
from refine_export.gate.decision import Decision
from refine_export.gate.speed import SpeedEntry, speeds_from_report
from refine_export.report.report_files import read_json
from refine_export.signature import FilePrecision
from refine_export.support.files import write_text
from refine_export.support.text import json_text

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One output of one comparison; errors in units of the peak."""

    file: str
    """Its name; the path that was given, where two files of a report share a name."""
    precision: FilePrecision
    runtime: str
    feed: str
    output: str
    psnr_db: float | None
    """None where the output equals the reference's."""
    max_abs: NonNegativeFloat
    p999_abs: NonNegativeFloat
    flicker: NonNegativeFloat | None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The same in every measurement of the same comparison."""
        return self.file, self.runtime, self.feed, self.output

    @property
    def name(self) -> str:
        """The entry in messages."""
        return f"{self.file} in {self.runtime}: {self.feed}, {self.output}"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Entries, and what they were measured on."""

    schema: int
    tool_version: str
    checkpoint: dict[str, Any]
    """`source` and `sha256` of the weights."""
    pair: dict[str, Any]
    """Name, size and hashes of the frames."""
    reference: str
    environment: dict[str, str]
    """Versions and machine of the run that was accepted last."""
    entries: tuple[Entry, ...]
    speeds: tuple[SpeedEntry, ...] = ()
    """Latency ratios, where they are held."""


def baseline_from_file(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        RequestError: the file cannot be read (see `read_json`), has no entries or has one twice.
    """
    what = "a baseline that `refine-export gate REPORT --baseline FILE --accept` writes"
    baseline = read_json(path, Baseline, schema=SCHEMA, what=what)
    keys = {entry.key for entry in baseline.entries}
    if len(keys) != len(baseline.entries) or not keys:
        problem = "an entry twice" if keys else "no entries"
        raise RequestError.about(path, "schema-violation", f"has {problem}; give {what}", problems=[problem])
    return baseline


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline; entries are sorted, so that a diff shows what changed."""
    ordered = dataclasses.replace(baseline, entries=tuple(sorted(baseline.entries, key=lambda entry: entry.key)))
    write_text(path, json_text(dataclasses.asdict(ordered)))


def baseline_from_decision(decision: Decision, *, speed: bool = False) -> Baseline:
    """The baseline that the report gives by itself, with its latency ratios where `speed` is held."""
    report = decision.report
    return Baseline(
        schema=SCHEMA,
        tool_version=__version__,
        checkpoint={name: report.checkpoint.get(name) for name in ("source", "sha256")},
        pair=report.pair,
        reference=report.reference,
        environment=report.environment,
        entries=tuple(_entries(decision)),
        speeds=speeds_from_report(report) if speed else (),
    )


def _entries(decision: Decision) -> Iterator[Entry]:
    precisions = {(one.graph, one.file): one.precision for one in decision.report.artifacts}
    names = stable_names([one.file for one in decision.report.artifacts])
    for comparison in (one for group in decision.groups for one in group.comparisons):
        for output in comparison.verdict.outputs:
            metrics = output.metrics
            if metrics.max_abs is None or metrics.p999_abs is None:
                continue  # not finite: the limits have failed it already
            yield Entry(
                file=names[comparison.file],
                precision=precisions[comparison.graph, comparison.file],
                runtime=comparison.verdict.runtime,
                feed=comparison.verdict.feed,
                output=output.output,
                psnr_db=metrics.psnr_db,
                max_abs=metrics.max_abs / metrics.peak,
                p999_abs=metrics.p999_abs / metrics.peak,
                flicker=None if metrics.flicker is None else metrics.flicker / metrics.peak,
            )


def stable_names(files: Sequence[str]) -> dict[str, str]:
    """Each file's name, which stays the same in another folder; its path, where two files share a name."""
    names = [PurePath(file).name for file in files]
    return {file: file if names.count(name) > 1 else name for file, name in zip(files, names, strict=True)}
