"""The errors of the last frame of each sequence, so that flicker can be measured while frames stream by."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refine_export.accuracy.metrics import flicker

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEQUENCES = 16
"""That are remembered: one for each kind of flow or timestep of a clip."""


@dataclass
class _Last:
    index: int
    errors: dict[tuple[str, str, str], NDArray[Any]] = field(default_factory=dict)


class ErrorMemory:
    """Signed errors by sequence, and in it by file, runtime and output; of one frame each."""

    def __init__(self) -> None:
        self._sequences: OrderedDict[str, tuple[_Last, _Last]] = OrderedDict()

    def begin(self, sequence: str | None, index: int) -> None:
        """To be called once for each feed, before its errors come."""
        if sequence is None:
            return
        before = self._sequences.pop(sequence, None)
        follows = before is not None and before[1].index == index - 1
        last = before[1] if before is not None and follows else _Last(index=index - 1)
        self._sequences[sequence] = (last, _Last(index=index))
        while len(self._sequences) > SEQUENCES:
            self._sequences.popitem(last=False)

    def flicker(
        self, sequence: str | None, key: tuple[str, str, str], expected: NDArray[Any], actual: NDArray[Any]
    ) -> float | None:
        """Remember the error of an output, finite and of the reference's shape; its flicker, if a frame went before.

        Args:
            sequence: that `begin` was told of.
            key: file, runtime and output.
            expected: what the reference gave.
            actual: what the candidate gave.
        """
        if sequence is None:
            return None
        last, now = self._sequences[sequence]
        now.errors[key] = error = actual - expected
        before = last.errors.pop(key, None)
        return None if before is None or before.shape != error.shape else flicker(before, error)
