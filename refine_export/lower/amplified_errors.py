"""Find the nodes that make rounding errors of their inputs larger, by measurement, and keep FP32 what they hang on.

A normalisation of values with a large offset, a quotient, root or logarithm of what comes near zero, the largest of
values that are nearly equal: whatever the operator, its result is off by more, in proportion, than what it reads. On
the calibration feeds every tensor of the lowered graph is compared with that of the FP32 graph. Where the outputs are
further from FP32 than FP16 explains, such nodes become FP32, with what they read up to the convolutions that make it;
and again, one convolution further, as long as the outputs are too far off.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Final

import onnx
import onnx.compose
import onnx_ir as ir
from onnx import TensorProto, helper

from refine_export.errors import RequestError
from refine_export.graph.fp16_emulation import emulation_from_half
from refine_export.graph.model_file import bytes_from_model
from refine_export.graph.operator_types import MOVES, is_op
from refine_export.graph.sampling_coordinates import PATH_STARTS
from refine_export.lower.fp32_islands import Accuracy, Bench, repeatable
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import Lowered, Prepared, lower
from refine_export.runners.base import Arrays
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.support.progress import Progress
from refine_export.support.text import listed

GOOD_DB: Final = {"fp16": 60.0, "bf16": 42.0, "fp32": 0.0}
"""PSNR below which the nodes are looked for; released networks have 69 to 81 in FP16."""
ROUNDING: Final = {"fp16": 2.0**-12, "bf16": 2.0**-9}
"""Error of a rounded tensor in units of its root mean square: half of the last bit, at most."""
LARGER: Final = 4.0
"""A node counts if its result is off by this many times what its inputs are off by,"""
NOTICED: Final = 8.0
"""and by this many roundings."""
_NEARLY_ZERO: Final = 2.0**-8
"""A flat picture leaves less than this of the largest value of a tensor that measures changes, and that is noise."""
MOST_ROUNDS: Final = 6
WORTH_DB: Final = 3.0
"""Least gain of FP32 nodes that do not reach the figure."""


@dataclass(frozen=True)
class Amplifier:
    """A node whose result is further off, in proportion, than its inputs."""

    node: ir.Node
    times: float

    def __str__(self) -> str:
        times = f"{self.times:.3g} times" if math.isfinite(self.times) else "without bound"
        return f"{self.node.op_type} {self.node.name} enlarges rounding errors {times}"


@dataclass(frozen=True)
class Outcome:
    """A lowered graph, and its accuracy on the calibration feeds."""

    lowered: Lowered
    accuracy: Accuracy
    notes: tuple[str, ...] = ()


def lower_measured(prepared: Prepared, options: LowerOptions, bench: Bench, progress: Progress) -> Outcome:
    """Lower a graph, and keep FP32 what makes its outputs worse than FP16 explains.

    Args:
        prepared: calibrated.
        options: of the lowering.
        bench: measures, on the calibration feeds.
        progress: receives each round.

    Returns:
        The first graph that is good enough, else the best; a note says what was kept, or what is lost.

    Raises:
        GraphError: the outputs have other shapes than those of the FP32 graph.
    """
    good = GOOD_DB[options.precision]
    made: list[Outcome] = []
    worst: list[Amplifier] = []
    kept: dict[str, str] = {}
    while True:
        lowered = lower(dataclasses.replace(prepared, amplified=kept), options)
        on_feeds = bench.accuracies(lowered)
        worst_feed = min(range(len(on_feeds)), key=lambda k: on_feeds[k].psnr_db)
        made.append(Outcome(lowered, Accuracy(on_feeds[worst_feed].psnr_db, max(one.max_error for one in on_feeds))))
        if made[-1].accuracy.psnr_db >= good or len(made) > MOST_ROUNDS:
            break
        with progress.step(f"look for what enlarges rounding errors, at {made[-1].accuracy.psnr_db:.1f} dB") as say:
            found = amplifiers(prepared, lowered, options, bench.feeds[worst_feed])
            say(listed(map(str, found), 3) or "no node does")
        worst = worst or found
        more = {name: str(one) for one in reversed(found) for name in _low_upstream(one.node, lowered)}
        if not more.keys() - kept.keys():
            break
        kept = {**more, **kept}
    first, best = made[0], max(made, key=lambda one: one.accuracy.psnr_db)
    if best.accuracy.psnr_db < min(good, first.accuracy.psnr_db + WORTH_DB):
        best = first
    notes = []
    named = listed(map(str, worst), 3)
    if best is not first:
        count = sum(node.rule == "amplified" for node in best.lowered.nodes)
        notes.append(f"{named}: {count} nodes stay FP32 for that, {_decibels(first)} otherwise")
    if best.accuracy.psnr_db < good:
        cause = named if best is first and worst else "errors add up"
        problem = f"{_decibels(best)} from FP32, where {options.precision} usually has {good:.0f} or more ({cause}): "
        notes.append(f"{problem}look for what has to stay FP32 with --target-psnr {good:.0f}, or keep the FP32 file")
    return dataclasses.replace(best, notes=tuple(notes))


def _decibels(outcome: Outcome) -> str:
    psnr = outcome.accuracy.psnr_db
    return f"{psnr:.1f} dB" if math.isfinite(psnr) else "NaN or infinite values"


def amplifiers(prepared: Prepared, lowered: Lowered, options: LowerOptions, feed: Arrays) -> list[Amplifier]:
    """Return the nodes that enlarge errors on a feed, the worst first; none if a tensor has another size than in FP32.

    Args:
        prepared: the FP32 graph.
        lowered: made of it.
        options: of the lowering.
        feed: an array for each input.
    """
    rounding = ROUNDING[options.precision]
    off = _relative_errors(prepared, lowered, feed)
    found = []
    for node in prepared.model.graph:
        made, read = (
            max((off.get(value.name or "", 0.0) for value in values if value is not None), default=0.0)
            for values in (node.outputs, node.inputs)
        )
        times = made / max(read, rounding)
        if made > NOTICED * rounding and times > LARGER and not is_op(node, *MOVES):
            found.append(Amplifier(node, times))
    return sorted(found, key=lambda one: one.times, reverse=True)


def _low_upstream(node: ir.Node, lowered: Lowered) -> set[str]:
    """Return a node and what it reads, as far as it is not FP32: up to the nearest convolutions, those included."""
    low = {one.node for one in lowered.nodes if one.type in ("float16", "bfloat16")}
    found, seen, waiting = set(), set(), [node]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if one.name in low:
            found.add(one.name or "")
            if one is not node and is_op(one, *PATH_STARTS):
                continue
        waiting += (maker for value in one.inputs if value is not None and (maker := value.producer()) is not None)
    return found


def _relative_errors(prepared: Prepared, lowered: Lowered, feed: Arrays) -> dict[str, float]:
    """Return the error of each tensor in units of its root mean square, but not of much less than it has elsewhere."""
    joined, names, prefix = _with_errors(prepared, lowered)
    try:
        with OrtRunner(joined.SerializeToString(), optimize=False) as runner:
            types = {info.name: info.dtype for info in runner.inputs}
            half = {f"{prefix}{name}": array.astype(types[f"{prefix}{name}"]) for name, array in feed.items()}
            sums = [float(value) for value in runner.run({**feed, **half}).values()]
    except RequestError:  # a tensor whose size depends on values has another one in FP16
        return {}
    off = {}
    for name, error, reference in zip(names, sums[::2], sums[1::2], strict=True):
        known = prepared.ranges.get(name)
        least = 0.0 if known is None else (known.largest * _NEARLY_ZERO) ** 2 * math.prod(known.shape)
        if math.isfinite(reference) and (unit := max(reference, least)) > 0:
            off[name] = math.sqrt(error / unit) if math.isfinite(error) else math.inf
    return off


def _with_errors(prepared: Prepared, lowered: Lowered) -> tuple[onnx.ModelProto, list[str], str]:
    """Join the FP32 graph with the strict lowered one.

    Returns:
        A model that puts out two numbers for each tensor, the squares of its error and of itself, summed up; the names
        of the tensors; and the prefix of the second graph's names.
    """
    joined = onnx.ModelProto.FromString(repeatable(bytes_from_model(prepared.model)))
    graph = joined.graph
    taken = {name for node in graph.node for name in (node.name, *node.output)} | {one.name for one in graph.input}
    prefix = next(p for k in itertools.count() if not any(name.startswith(p := f"low{k}/") for name in taken))
    strict = emulation_from_half(
        ir.from_proto(onnx.ModelProto.FromString(repeatable(lowered.model.SerializeToString())))
    )
    other = onnx.compose.add_prefix(ir.to_proto(strict), prefix).graph
    made = {name for node in other.node for name in node.output}
    names = [
        value.name
        for node in prepared.model.graph
        for value in node.outputs
        if value.name and f"{prefix}{value.name}" in made and value.dtype != ir.DataType.STRING
    ]
    measures: list[onnx.NodeProto] = []
    del graph.output[:], graph.value_info[:]
    for name in names:
        one, two, error, *sums = (f"{prefix}{k}/{name}" for k in range(5))
        measures[:0] = [
            helper.make_node("Cast", [name], [one], to=TensorProto.FLOAT),
            helper.make_node("Cast", [f"{prefix}{name}"], [two], to=TensorProto.FLOAT),
            helper.make_node("Sub", [one, two], [error]),
            helper.make_node("ReduceSumSquare", [error], [sums[0]], keepdims=0),
            helper.make_node("ReduceSumSquare", [one], [sums[1]], keepdims=0),
        ]
        graph.output.extend(helper.make_tensor_value_info(value, TensorProto.FLOAT, []) for value in sums)
    graph.input.extend(other.input)
    graph.initializer.extend(other.initializer)
    graph.node.extend([*other.node, *measures])  # the last tensors first, as in `with_ranges`
    return joined, names, prefix
