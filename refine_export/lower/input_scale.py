"""Recognise an input that takes pixels from 0 to 255, by what a graph does with it first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import onnx_ir as ir

from refine_export.graph.operator_types import MOVES, is_op

_FRACTION: Final = 1.5
"""An input that is fed no more than this was taken for one from 0 to 1."""
_BYTE: Final = 200.0
"""A divisor from here on makes fractions of bytes; so does a subtrahend above 1, the mean of such pixels."""
_SCALES: Final = ("Add", "Sub", "Mul", "Div")


def scale_notes(model: ir.Model, fed: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return a note for each input that was fed 0 to 1 but is scaled as pixels from 0 to 255 are.

    Args:
        model: prepared.
        fed: smallest and largest value of each input on the calibration feeds.
    """
    notes = []
    for value in model.graph.inputs:
        low, high = fed.get(value.name or "", (0.0, np.inf))
        if high <= _FRACTION and (found := next(_scalings(value, set()), None)) is not None:
            notes.append(
                f"input {value.name} was fed {low:.3g} to {high:.3g}, but {found}, as pixels from 0 to 255 are: if it "
                "takes those, calibrate with them (--calibrate FILE.npz), or what overflows is not seen"
            )
    return notes


def _scalings(value: ir.Value, seen: set[ir.Node]) -> Iterator[str]:
    """Yield each step from an input to the first node that does more than scale, if it is one for bytes."""
    for node, index in value.uses():
        if node in seen or not is_op(node, *MOVES, "Cast", "Clip", *_SCALES):
            continue
        seen.add(node)
        other = node.inputs[1 - index] if is_op(node, *_SCALES) else None
        constant = None if other is None else other.const_value
        if other is not None and constant is None:
            continue  # a sum of two tensors is not a picture
        largest = 0.0 if constant is None else float(np.abs(constant.numpy()).max(initial=0))
        if largest and node.op_type in ("Mul", "Div"):
            divisor = largest if node.op_type == "Div" else 1 / largest
            if index == 0 or node.op_type == "Mul":
                yield from [f"{node.name} divides it by {divisor:.4g}"] if divisor >= _BYTE else []
        elif largest > 1 and node.op_type in ("Add", "Sub"):
            yield f"{node.name} moves it by {largest:.4g}"
        yield from _scalings(node.outputs[0], seen)
