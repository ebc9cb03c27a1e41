"""Find what hangs on bits that FP16 lacks though it fits its range: phases, and values that a result is divided by.

A *phase* is the argument of a function that repeats or grows exponentially, or a large term of a small difference: its
absolute error counts, and in FP16 that is up to 0.25 at 987. A *divisor* is a value of which a quotient, a root or a
logarithm is taken: FP16 ends at 6e-8 and loses bits from 6e-5 downwards, so one that a small constant keeps from zero
(`x / max(norm, 1e-12)`), or that is small on a feed, becomes zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import numpy as np
import onnx_ir as ir

from refine_export.graph.operator_types import MOVES, SUMS, is_op
from refine_export.graph.sampling_coordinates import PATH_STARTS, grids, starts_path, upstream
from refine_export.graph.tensor_ranges import TensorRange

FP16_NORMAL: Final = 2.0**-14
"""The smallest number that FP16 holds with all its bits."""
LARGEST_PHASE: Final = {"float16": 8.0, "bfloat16": 1.0}
"""Beyond this a phase is off by more than 2^-8, sixteen times what a result up to 1 is rounded by in FP16."""

_ROUNDS: Final = ("Floor", "Ceil", "Round")
_PHASES: Final = ("Sin", "Cos", "Tan", "Exp", "Sinh", "Cosh", "Mod", *_ROUNDS)
_DIVISORS: Final = {"Div": 1, "Reciprocal": 0, "Log": 0, "Sqrt": 0, "Pow": 0}
"""Operator -> the input whose smallest values count."""
_KEEPS_SMALL: Final = (
    *MOVES,
    *SUMS,
    *("Abs", "Add", "Cast", "Clip", "Max", "Mul", "Pow", "Sqrt", "Sub", "Sum", "Where"),
)
"""Operators behind which a value that a small constant keeps from zero may still be as small."""


def divisors(graph: ir.Graph) -> dict[ir.Node, ir.Value]:
    """Return the nodes that amplify small values, and the value that counts: a divisor, or what a root is taken of."""
    found = {}
    for node in graph:
        value = node.inputs[_DIVISORS[node.op_type]] if is_op(node, *_DIVISORS) else None
        if value is None or value.dtype != ir.DataType.FLOAT or value.const_value is not None:
            continue
        exponent = node.inputs[1].const_value if is_op(node, "Pow") and node.inputs[1] is not None else None
        if exponent is not None and all(one >= 1 and one == int(one) for one in exponent.numpy().ravel()):
            continue  # x * x makes small values smaller, and amplifies none
        found[node] = value
    return found


def fragile_nodes(graph: ir.Graph, low: str, ranges: Mapping[str, TensorRange]) -> Iterator[tuple[ir.Node, str, str]]:
    """Yield what computes phases and small divisors, the name of the rule, and the reason.

    Args:
        graph: prepared.
        low: the type that would lose the bits.
        ranges: of calibration; without them, small constants alone show what is small.
    """
    # What a convolution reads is a feature, which FP16 may round: every reader then has the same value.
    features = {value for node in graph if is_op(node, *PATH_STARTS) for value in node.inputs if value is not None}
    walks = (upstream(grid) for grid in grids(graph).values())
    # Of weights of positions, logits count like phases, those of a correlation too; elsewhere FP16 is good enough.
    weigh = {value.producer() for walk in walks for value in walk if is_op(value.producer(), "Softmax")}

    def before(value: ir.Value | None, ends: Collection[ir.Value] = features) -> Iterator[ir.Node]:
        for one in upstream(value, ends=ends):
            if (node := one.producer()) is not None and (one is value or one not in ends):
                yield node

    for node in graph:
        if not is_op(node, *_PHASES, "Pow") and node not in weigh:
            continue
        phase = node.inputs[1 if is_op(node, "Pow") else 0]
        known = None if phase is None else ranges.get(phase.name or "")
        if phase is not None and known is not None and known.largest > LARGEST_PHASE[low]:
            reason = f"{node.name} takes {phase.name}, which reaches {known.largest:.4g}: FP16 rounds its fraction"
            # With the convolution that it comes from, whose rounding is beyond what the function can take; of what is
            # rounded to whole numbers, as positions are, the convolution is an estimate.
            kept = (one for one in before(phase) if node.op_type not in _ROUNDS or not starts_path(one))
            yield from ((one, "phase", reason) for one in (node, *kept))
    for node in graph:
        if not is_op(node, "Add", "Sub"):
            continue
        made, *given = (ranges.get(value.name or "") for value in (*node.outputs, *node.inputs) if value is not None)
        terms = max((one.largest for one in given if one is not None), default=0.0)
        if made is not None and terms > LARGEST_PHASE[low] * made.largest:
            reason = f"{node.name} leaves {made.largest:.4g} of terms to {terms:.4g}: what is left is their last bits"
            kept = (one for value in node.inputs for one in before(value) if not starts_path(one))
            yield from ((one, "phase", reason) for one in (node, *kept))
    # What is squared is larger than its square, and what both sides of a quotient come from is rounded for both alike.
    squared = {node.inputs[0] for node in graph if _squares(node) and node.inputs[0] is not None}
    for node, value in divisors(graph).items() if low == "float16" else ():
        known = ranges.get(value.name or "")
        if known is not None and known.smallest < FP16_NORMAL:
            small = f"which is {known.smallest:.2g} on a calibration feed"
        elif (constant := _kept_alive_by(value)) is not None:
            small = f"which {constant} keeps from zero"
        else:
            continue
        reason = f"{node.name} hangs on small values of {value.name}, {small}; FP16 loses bits below 6e-5"
        sides = [set(upstream(given, ends=features)) for given in node.inputs if given is not None]
        ends = features | squared | (set.intersection(*sides) if len(sides) == 2 else set())
        lost = [one for given in node.inputs for one in before(given, ends) if not starts_path(one)]
        if known is not None and known.smallest < FP16_NORMAL and starts_path(_made_by(value)):
            # What makes the divisor itself, from values that may be as small, and what it divides.
            makers = [one for one in map(_made_by, node.inputs) if one is not None and starts_path(one)]
            lost += [other for one in makers for other in (one, *before(one.inputs[0]))]
        yield from ((one, "small", reason) for one in (node, *lost))


def _made_by(value: ir.Value | None) -> ir.Node | None:
    """Return the node that makes a value, before it is moved, its sign changes, or a root is taken."""
    node = None if value is None else value.producer()
    while node is not None and is_op(node, *MOVES, "Abs", "Neg", "Sqrt") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _squares(node: ir.Node) -> bool:
    """Return whether a node squares its first input."""
    if is_op(node, "Pow"):
        exponent = None if node.inputs[1] is None else node.inputs[1].const_value
        return exponent is not None and bool((exponent.numpy() == 2).all())
    return is_op(node, "ReduceL2", "ReduceSumSquare") or (is_op(node, "Mul") and node.inputs[0] is node.inputs[1])


def _kept_alive_by(value: ir.Value) -> str | None:
    """Return the name of a constant below FP16's normal numbers that is added to a value, or bounds it."""
    waiting, seen = [value], set()
    while waiting:
        node = waiting.pop().producer()
        if node is None or node in seen or not is_op(node, *_KEEPS_SMALL):
            continue
        seen.add(node)
        for one in node.inputs:
            if one is None or one.dtype != ir.DataType.FLOAT:
                continue
            if one.const_value is None:
                waiting.append(one)
            elif is_op(node, "Add", "Clip", "Max", "Sum", "Where") and _is_small(one.const_value):
                return one.name
    return None


def _is_small(constant: ir.TensorProtocol) -> bool:
    largest = float(np.abs(constant.numpy()).max(initial=0))
    return 0 < largest < FP16_NORMAL
