"""Results of a bisection: the error of each tensor that two graphs share, and the nodes that make errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from refine_export.support.text import dict_from_result


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """A tensor that both graphs have; errors are the worst of all feeds, in units of the reference's peak."""

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
    """Error that is made here."""
    allowed: float
    """Own error that the type explains."""
    feed: str
    """Feed on which `own` is worst."""

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
    """Differences in what is written there; empty where there are none, and the runtime computes something else."""


@dataclass(frozen=True, kw_only=True)
class Bisected:
    """The place where two graphs part."""

    reference: str
    candidate: str
    first: Jump | None
    jumps: tuple[Jump, ...]
    """All jumps, in topological order."""
    layers: tuple[LayerError, ...]
    """All tensors that were compared, in topological order."""
    outputs: tuple[LayerError, ...]
    not_compared: int
    """Float tensors of the reference that the candidate lacks."""
    feeds: tuple[str, ...]
    reference_error: float | None = None
    """Largest error against torch, in units of the peak, of a reference that was exported for this."""

    @property
    def passed(self) -> bool:
        """No node makes an error that its type does not explain."""
        return self.first is None

    @property
    def notes(self) -> tuple[str, ...]:
        """Limits of the result, a sentence each."""
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
