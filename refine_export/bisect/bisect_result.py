"""Results of a bisection: the error of each tensor that two graphs share, and the nodes that introduce errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from refine_export.support.text import dict_from_result


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """Errors of a tensor that both graphs have: the largest over all feeds, in units of the reference's peak."""

    tensor: str
    """Name of the tensor in the reference."""
    node: str
    """Node of the reference that computes it."""
    operator: str
    type: str
    """Type of the candidate's tensor."""
    shape: tuple[int, ...]
    matched_by: Literal["name", "place"]
    peak: float
    before: float
    """Largest error of the tensors that it is computed from."""
    after: float
    """Error of the tensor."""
    own: float
    """Error introduced by this node."""
    allowed: float
    """Error that rounding to its type explains."""
    feed: str
    """Feed with the largest `own`."""

    @property
    def excess(self) -> float:
        """Ratio of `own` to `allowed`: a jump where above 1."""
        return self.own / self.allowed


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A node that introduces a larger error than rounding to its type explains."""

    layer: LayerError
    candidate: tuple[str, ...]
    """Names of the candidate's nodes between this tensor and the nearest matched ones before it, nearest first."""
    reasons: tuple[str, ...]
    """Differences between the two files there; empty where the files agree and only the runtimes differ."""


@dataclass(frozen=True, kw_only=True)
class Bisected:
    """The first node at which two graphs differ."""

    reference: str
    candidate: str
    first: Jump | None
    jumps: tuple[Jump, ...] = field(repr=False)
    """All jumps, in topological order."""
    layers: tuple[LayerError, ...] = field(repr=False)
    """All tensors that were compared, in topological order."""
    outputs: tuple[LayerError, ...] = field(repr=False)
    not_compared: int
    """Float tensors of the reference that the candidate lacks."""
    feeds: tuple[str, ...]
    reference_error: float | None = None
    """Largest error of the reference against torch, in units of the peak, where it was exported for this bisection."""

    @property
    def passed(self) -> bool:
        """Whether no node introduces an error that its type does not explain."""
        return self.first is None

    @property
    def notes(self) -> tuple[str, ...]:
        """Limits of the result, one sentence each."""
        notes = []
        if by_place := sum(layer.matched_by == "place" for layer in self.layers):
            notes.append(f"{by_place} tensors have other names in the file and were matched by their place")
        if self.reference_error is not None:
            notes.append(f"the reference itself differs from torch by {self.reference_error:.2g} of the peak")
        if self.not_compared:
            notes.append(f"{self.not_compared} tensors of the reference are not in the file and were not compared")
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; None where an error is not finite."""
        return dict_from_result(self)
