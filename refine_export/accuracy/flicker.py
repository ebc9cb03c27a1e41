"""Flicker: how much an error changes from one frame of a sequence to the next, measured while frames stream by."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEQUENCES = 16
"""Sequences that are remembered: one for each kind of flow or timestep of a clip. Errors are as large as outputs, so
those of clips that have ended must not stay."""

Key = tuple[str, str, str]
"""File, runtime and output."""


class ErrorMemory:
    """The last signed error of each output in each sequence."""

    def __init__(self) -> None:
        self._sequences: OrderedDict[str, dict[Key, tuple[int, NDArray[Any]]]] = OrderedDict()

    def flicker(
        self, sequence: str | None, index: int, key: Key, expected: NDArray[Any], actual: NDArray[Any]
    ) -> float | None:
        """Remember the error of an output and return how much it differs from that of the frame before.

        The result is the root mean square of the difference of the two signed errors: 0 for an error that stands still,
        and 1.4 times the size of noise that is new in each frame.

        Args:
            sequence: the clip that the frame is of; None for frames by themselves, which have no flicker.
            index: number of the frame in it.
            key: file, runtime and output.
            expected: output of the reference, of the shape of `actual`.
            actual: output of the candidate, finite.

        Returns:
            None where the frame before was not measured, or had another size.
        """
        if sequence is None:
            return None
        errors = self._sequences.setdefault(sequence, {})
        self._sequences.move_to_end(sequence)
        while len(self._sequences) > SEQUENCES:
            self._sequences.popitem(last=False)
        error = actual - expected
        before_index, before = errors.get(key, (None, error))
        errors[key] = index, error
        if before_index != index - 1 or before.shape != error.shape:
            return None
        return float(np.sqrt(np.mean(np.square(error - before), dtype=np.float64)))
