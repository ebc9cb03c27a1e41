"""Flicker is measured between neighbours of one sequence alone."""

import numpy as np
import pytest

from refine_export.accuracy.flicker import SEQUENCES, ErrorMemory

FRAME = np.full((1, 3, 8, 8), 0.5, np.float32)
KEY = ("file", "runtime", "output")


def test_flicker_is_the_change_of_the_error_within_a_sequence():
    memory = ErrorMemory()
    places = [("clip", 0), ("clip", 1), ("clip", 2), ("other", 3), (None, 0), ("other", 4), ("other", 6)]
    errors = [1e-3 * number**2 for number in range(1, 8)]
    found = [
        memory.flicker(sequence, index, KEY, FRAME, FRAME + np.float32(error))
        for (sequence, index), error in zip(places, errors, strict=True)
    ]
    first, second, third = (pytest.approx(value, rel=1e-4) for value in (3e-3, 5e-3, 20e-3))
    assert found == [None, first, second, None, None, third, None]


def test_other_outputs_sizes_and_forgotten_sequences_have_no_flicker():
    memory = ErrorMemory()
    assert memory.flicker("clip", 0, KEY, FRAME, FRAME) is None
    assert memory.flicker("clip", 1, ("file", "runtime", "other"), FRAME, FRAME) is None
    assert memory.flicker("clip", 1, KEY, FRAME[..., :4], FRAME[..., :4]) is None
    assert memory.flicker("clip", 2, KEY, FRAME[..., :4], FRAME[..., :4]) == 0
    for number in range(SEQUENCES):
        memory.flicker(f"clip {number}", 0, KEY, FRAME, FRAME)
    assert memory.flicker("clip", 3, KEY, FRAME[..., :4], FRAME[..., :4]) is None
