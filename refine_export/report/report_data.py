"""The content of a report; `report.json` is this as JSON, and `schema.json` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from refine_export.artifacts import Artifact
from refine_export.report.engine_proof import EngineProof
from refine_export.runners.runtime_names import RequiredRuntime
from refine_export.signature import GraphName
from refine_export.support.text import dict_from_result, size_text
from refine_export.validate.comparison import Status, Verdict

SCHEMA = 6
"""Raised when a field changes its meaning or goes."""


class GroupKey(NamedTuple):
    """The comparisons that are judged together: one file in one runtime at one size and batch, over all feeds."""

    graph: GraphName
    file: str
    runtime: str
    size: tuple[int, int]
    batch: int

    def __str__(self) -> str:
        return f"{self.file} in {self.runtime} at {size_text((self.batch, *self.size))}"


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
    """Provider that computed the candidate, as the backend reports it."""
    largest_flow_px: float | None
    verdict: Verdict
    sequence: str | None = None
    """Name of the sequence that its feed belongs to; null for frames by themselves."""
    index: int = 0
    """Place in the sequence."""

    @property
    def group_key(self) -> GroupKey:
        """The group that it belongs to."""
        return GroupKey(self.graph, self.file, self.verdict.runtime, self.size, self.batch)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Verdict of one artifact in one runtime at one size, over its feeds; the verdict of the run follows from these."""

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
    """Why it did not pass, or passed although feeds failed; empty otherwise."""

    @property
    def key(self) -> GroupKey:
        """The identity that its comparisons share."""
        return GroupKey(self.graph, self.file, self.runtime, self.size, self.batch)


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """Something that is missing, or went wrong, beside the comparisons."""

    what: str
    """A runtime, or a file that was to be made."""
    status: Status
    """`failed` or `not compared`."""
    reason: str
    counts: bool = True
    """The verdict of the run depends on it; a runtime that this machine lacks and nobody requires does not count."""
    runtime: RequiredRuntime | None = None
    """The runtime that it is about: the gate counts it where that is required."""


@dataclass(frozen=True, kw_only=True)
class MeasuredLatency:
    """Latency of one artifact in one runtime, measured in turn with the reference."""

    file: str
    runtime: str
    batch: int
    size: tuple[int, int]
    """Height and width in pixels."""
    runs: int
    median_ms: float
    reference_ms: float
    """Median of the reference."""
    ratio: float
    """Median of the ratios to the reference, round by round."""
    ratio_error: float
    """Relative standard error of the ratio."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a run measured, with its verdicts."""

    status: Status
    tool_version: str
    created: str
    """UTC, ISO 8601."""
    seconds: float
    """Duration of the run."""
    pair: dict[str, Any]
    """Name, size and sha256 of the frames."""
    checkpoint: dict[str, Any]
    """Description of the weights, by `checkpoint_description`."""
    reference: str
    """Such as `torch 2.13.0, float32, cpu`."""
    thresholds: dict[str, dict[str, Any]]
    """The fields of `limits.Limits`, by graph and precision of the files, such as `refine_fp16`."""
    share: float = 1.0
    """Share of the feeds of a group that have to pass."""
    may_fail: int | None = None
    """Most feeds of a group that may fail; null: only the share counts."""
    artifacts: tuple[Artifact, ...]
    comparisons: tuple[Comparison, ...]
    groups: tuple[Group, ...]
    shortfalls: tuple[Shortfall, ...]
    engines: tuple[EngineProof, ...] = ()
    """Every engine among the artifacts, executed or not."""
    notes: tuple[str, ...]
    """Remarks on the weights, the frames and the files."""
    environment: dict[str, str]
    fingerprint: str
    """Hash of everything that the verdicts depend on."""
    bisect: tuple[dict[str, Any], ...] = ()
    """Bisection of each file that was searched for its first wrong node."""
    latencies: tuple[MeasuredLatency, ...] = ()
    """Latencies, where they were asked for."""
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types; NaN and infinity, which JSON lacks, become null."""
        return dict_from_result(self)
