"""What a report says; `report.json` is this, as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from refine_export.signature import GraphName
from refine_export.validate import Status, Verdict

SCHEMA = 1
"""Raised when a field changes its meaning or goes."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that was made or checked."""

    graph: GraphName
    file: str
    """Name within the folder of the report, or the path that was given."""
    sha256: str
    size_bytes: int
    sizes: str
    """Such as `1x3x256x448`, or `any batch, height and width that are multiples of 32`."""
    opset: int
    nodes: int
    reused: bool
    """It was there already, made from the same inputs."""
    seconds: float | None
    """That the export took, where it was made now."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One artifact in one runtime on one feed."""

    key: str
    """Names its pictures; unique in the report."""
    graph: GraphName
    file: str
    size: tuple[int, int]
    """Height and width in pixels."""
    provider: str
    """What computed the candidate, as the backend reports it."""
    largest_flow_px: float | None
    verdict: Verdict


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
    thresholds: dict[str, float]
    artifacts: tuple[Artifact, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    """What was not compared, and why; what the reader should know of the weights."""
    environment: dict[str, str]
    fingerprint: str
    """Of everything that the verdicts depend on."""
    schema: int = SCHEMA


def json_from_report(report: Report) -> str:
    """The report as JSON, without NaN or infinity."""
    return json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n"
