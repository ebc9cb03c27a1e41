"""What a bisection finds: the error of each tensor that two graphs share, and the nodes that make errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from refine_export.support.text import dict_from_result


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """A tensor that both graphs have; errors are the worst of all feeds, in units of the reference's peak."""

    tensor: str
    """Its name in the reference."""
    node: str
    """The reference's node that makes it."""
    operator: str
    type: str
    """Of the candidate's."""
    shape: tuple[int, ...]
    matched_by: Literal["name", "place"]
    peak: float
    before: float
    """The worst of what it is computed from."""
    after: float
    own: float
    """That is made here."""
    allowed: float
    """Of its own, by its type."""
    feed: str
    """On which `own` is worst."""

    @property
    def excess(self) -> float:
        """Own error in units of what is allowed: above 1 is a jump."""
        return self.own / self.allowed


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A node whose own error its type does not explain."""

    layer: LayerError
    candidate: tuple[str, ...]
    """Names of the candidate's nodes between this tensor and the nearest known ones before it, nearest first."""
    reasons: tuple[str, ...]
    """What is written differently there; empty where nothing is, and the runtime computes something else."""


@dataclass(frozen=True, kw_only=True)
class Bisected:
    """Where two graphs part."""

    reference: str
    candidate: str
    first: Jump | None
    jumps: tuple[Jump, ...]
    """All of them, in topological order."""
    layers: tuple[LayerError, ...]
    """All tensors that were compared, likewise."""
    outputs: tuple[LayerError, ...]
    not_compared: int
    """Float tensors of the reference that the candidate has not."""
    feeds: tuple[str, ...]
    reference_error: float | None = None
    """Of a reference that was exported for this: its largest error against torch, in units of the peak."""

    def as_json(self) -> dict[str, Any]:
        """Plain data; None where an error is not finite."""
        return dict_from_result(self)
