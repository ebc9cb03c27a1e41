"""What a report says; `report.json` is this, as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from refine_export.artifacts import Artifact
from refine_export.signature import GraphName
from refine_export.validate.comparison import OutputVerdict, Status, Verdict

SCHEMA = 4
"""Raised when a field changes its meaning or goes."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One artifact in one runtime on one feed."""

    key: str
    """Names its pictures; unique in the report."""
    graph: GraphName
    file: str
    size: tuple[int, int]
    """Height and width in pixels."""
    batch: int = 1
    """Frame pairs in one run."""
    provider: str
    """What computed the candidate, as the backend reports it."""
    largest_flow_px: float | None
    verdict: Verdict
    sequence: str | None = None
    """What its feed is one of, run after run; None for frames by themselves."""
    index: int = 0
    """Which of the sequence."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One artifact in one runtime at one size, over its feeds: what the verdict of the run is made of."""

    key: str
    """Unique in the report."""
    graph: GraphName
    file: str
    runtime: str
    size: tuple[int, int]
    """Height and width in pixels."""
    batch: int
    status: Status
    passed: int
    """Feeds that passed."""
    failed: int
    missing: int
    """Feeds that were not compared."""
    reason: str
    """Why it did not pass, or passed though feeds failed; empty where there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """What is missing, or went wrong, beside the comparisons."""

    what: str
    """A runtime, or a file that was to be made."""
    status: Status
    """`failed` or `not compared`."""
    reason: str
    counts: bool = True
    """The verdict of the run depends on it; a runtime that this machine lacks and nobody requires does not count."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One output of one comparison, against the limits that it has to keep."""

    comparison: Comparison
    output: OutputVerdict

    @property
    def of_limit(self) -> float:
        """The largest error in units of its limit; infinite where nothing finite can be compared."""
        return self.output.metrics.max_of_peak / self.comparison.verdict.limits.max_abs

    @property
    def above_limit(self) -> float:
        """Decibels of the PSNR above its limit, negative below it; infinite where there is no PSNR."""
        psnr = self.output.metrics.psnr_db
        return math.inf if psnr is None else psnr - self.comparison.verdict.limits.psnr_db


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a run found out."""

    status: Status
    tool_version: str
    created: str
    """UTC, ISO 8601."""
    seconds: float
    """That the run took."""
    pair: dict[str, Any]
    """Of the frames: name, size, sha256."""
    checkpoint: dict[str, Any]
    """What `checkpoint.describe` says."""
    reference: str
    """What the reference is, such as `torch 2.13.0, float32, cpu`."""
    thresholds: dict[str, dict[str, Any]]
    """What passes: the fields of `limits.Limits`, by graph and precision of the files, such as `refine_fp16`."""
    artifacts: tuple[Artifact, ...]
    comparisons: tuple[Comparison, ...]
    groups: tuple[Group, ...]
    shortfalls: tuple[Shortfall, ...]
    notes: tuple[str, ...]
    """What the reader should know of the weights, the frames and the files."""
    environment: dict[str, str]
    fingerprint: str
    """Of everything that the verdicts depend on."""
    bisect: tuple[dict[str, Any], ...] = ()
    """Where files went wrong: what `Bisected.as_json` gives, of each that was searched."""
    schema: int = SCHEMA

    def measured(self) -> list[Measured]:
        """Every output of every comparison."""
        return [
            Measured(comparison=comparison, output=output)
            for comparison in self.comparisons
            for output in comparison.verdict.outputs
        ]

    def as_json(self) -> dict[str, Any]:
        """The report as JSON types; NaN and infinity, which JSON lacks, become null."""
        content: dict[str, Any] = _as_json(dataclasses.asdict(self))
        return content


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_from_report(report: Report) -> str:
    """The report as JSON text, without NaN or infinity."""
    return json.dumps(report.as_json(), indent=2, allow_nan=False) + "\n"


__all__ = ["Artifact", "Comparison", "Measured", "Report", "json_from_report"]
