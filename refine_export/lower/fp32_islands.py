"""Search for the cheapest FP32 regions with which a lowered graph is accurate enough, measured with strict FP16.

A *region* is a convolution (all nodes that share its weights) with the pointwise operators behind it and the movers in
front of it. Each region is measured alone in FP32; then they are added in the order of error removed by cost, each
measured again, until the target is met; at last, those that are not needed after all are taken out. Cost is the share
of multiply-adds plus the share of bytes moved that leave FP16. Where the target has to hold at several sizes, the
search is made at the smallest that misses it, and larger ones take more regions in the same order. Every measurement is
kept in a file, so that an interrupted search continues where it stopped, and another target needs few new ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from refine_export.accuracy.metrics import distance, peak_of, psnr_from_mse
from refine_export.data.npz_feeds import NamedFeed
from refine_export.errors import GraphError
from refine_export.graph.cost import bytes_moved, multiply_adds
from refine_export.graph.model_file import bytes_from_model
from refine_export.graph.operator_types import MOVES, RANDOM, is_op
from refine_export.graph.sampling_coordinates import PATH_STARTS
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import Lowered, Prepared, lower
from refine_export.runners.base import Arrays
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.support.files import write_text
from refine_export.support.progress import Progress

Measure = Callable[..., "Accuracy"]
"""Takes regions, and a size where it is not that of the calibration; returns the accuracy with them in FP32."""


@dataclass(frozen=True)
class Region:
    """Nodes that change their type together."""

    name: str
    nodes: tuple[str, ...]
    macs_share: float
    """Share of the multiply-adds that are FP16 by the rule."""
    bytes_share: float
    """Share of the bytes that the FP16 nodes read and write."""

    @property
    def cost(self) -> float:
        """Cost of the region in FP32."""
        return self.macs_share + self.bytes_share


@dataclass(frozen=True)
class Accuracy:
    """The worst of all feeds and outputs."""

    psnr_db: float
    """PSNR against FP32; infinite where nothing differs, minus infinity where a value is not finite."""
    max_error: float
    """Largest error in units of the peak."""

    @property
    def squared(self) -> float:
        """Mean squared error in units of the peak."""
        return float(10 ** (-self.psnr_db / 10))


@dataclass(frozen=True)
class Step:
    """A region that stays FP32."""

    region: str
    alone_db: float
    """PSNR that it gains when it is the only one."""
    psnr_db: float
    """PSNR with all regions down to this one."""
    max_error: float
    macs_share: float
    bytes_share: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """The result of a search."""

    reached: bool
    start: Accuracy
    """Accuracy with the rule and without islands."""
    bound: Accuracy
    """Upper bound, with every region in FP32; where the rule is enough, it is `start`."""
    final: Accuracy
    steps: tuple[Step, ...] = ()
    islands: tuple[str, ...] = ()
    """Names of the nodes that stay FP32; without `reached`, those of every region."""
    size: str = ""
    """Size that all of this was measured at; empty for that of the calibration."""
    at_sizes: Mapping[str, Accuracy] = field(default_factory=dict)
    """Accuracy with the islands at each further size where the target has to hold."""


def search_from_json(content: Mapping[str, Any]) -> Search:
    """Read the search of a manifest: without an error the PSNR is infinite, with an infinite one minus infinity."""

    def finite(values: Mapping[str, Any]) -> dict[str, Any]:
        endless = {"max_error": math.inf, "psnr_db": -math.inf} if values["max_error"] is None else {}
        return {name: math.inf if value is None else value for name, value in (dict(values) | endless).items()}

    return Search(
        reached=content["reached"],
        **{name: Accuracy(**finite(content[name])) for name in ("start", "bound", "final")},
        steps=tuple(Step(**finite(step)) for step in content["steps"]),
        islands=tuple(content["islands"]),
        size=content["size"],
        at_sizes={size: Accuracy(**finite(values)) for size, values in content["at_sizes"].items()},
    )


_Fed = tuple[Arrays, Arrays, dict[str, float]]
"""A feed, the outputs of the FP32 graph, and the peak that errors of each are measured in."""


class Bench:
    """Measure lowered graphs against FP32 ONNX Runtime on the same feeds, each set of regions once.

    Args:
        prepared: calibrated.
        options: of the lowering.
        feeds: those of the calibration, and where they are made for other sizes, by size. Those of the last size used
            are kept in memory with their reference outputs.
        flats: feeds of flat pictures, whose errors are measured in units of the first feed's peak.
        memory: file of earlier measurements, created if it is missing.
        key: fingerprint of everything that a measurement depends on; measurements under another key are dropped.
    """

    def __init__(
        self,
        prepared: Prepared,
        options: LowerOptions,
        feeds: Iterable[NamedFeed],
        feeds_at: Callable[[str], Iterable[NamedFeed]] | None = None,
        *,
        flats: Iterable[NamedFeed] = (),
        memory: Path | None = None,
        key: str = "",
    ) -> None:
        self._prepared, self._options, self._memory, self._key = prepared, options, memory, key
        self._known = _remembered(memory, key)
        self.measured = 0
        self._feeds_at = feeds_at
        self._calibration = self._with_outputs(feeds, flats)
        self._larger: tuple[str, list[_Fed]] = "", []

    def _with_outputs(self, feeds: Iterable[NamedFeed], flats: Iterable[NamedFeed] = ()) -> list[_Fed]:
        content = bytes_from_model(self._prepared.model)
        seeded = repeatable(content)
        # Another layout of a tensor, as optimizing gives it, would give its elements other random numbers.
        with OrtRunner(seeded, optimize=seeded is content) as runner:
            found: list[_Fed] = [(arrays, outputs := runner.run(arrays), _peaks(outputs)) for _, arrays in feeds]
            for _, arrays in flats:
                outputs = runner.run(arrays)
                peaks = {name: max(peak, found[0][2][name]) for name, peak in _peaks(outputs).items()}
                found.append((arrays, outputs, peaks))
        return found

    @property
    def feeds(self) -> list[Arrays]:
        """The arrays of the calibration."""
        return [arrays for arrays, _, _ in self._calibration]

    def _fed(self, size: str) -> list[_Fed]:
        """Return the feeds of a size, each with the outputs of the FP32 graph and their peaks."""
        if not size or self._feeds_at is None:
            return self._calibration
        if self._larger[0] != size:
            self._larger = "", []  # released first: frames of 2176x3840 do not fit into memory many times
            self._larger = size, self._with_outputs(self._feeds_at(size))
        return self._larger[1]

    def measure(self, regions: Sequence[Region], size: str = "") -> Accuracy:
        """Return the accuracy with these regions in FP32, on the feeds of calibration or of another size."""
        name = f"{size}: " * bool(size) + " + ".join(sorted(region.name for region in regions))
        if name not in self._known:
            self._known[name] = self.accuracy(lower(self._prepared, self._options, _nodes(regions)), size)
            self.measured += 1
            if self._memory is not None:
                content = {"key": self._key, "measured": {k: [a.psnr_db, a.max_error] for k, a in self._known.items()}}
                write_text(self._memory, json.dumps(content, indent=1) + "\n")
        return self._known[name]

    def accuracy(self, lowered: Lowered, size: str = "") -> Accuracy:
        """Return the accuracy of a lowered graph, the worst of all feeds; errors as of `accuracies`."""
        found = self.accuracies(lowered, size)
        return Accuracy(min(one.psnr_db for one in found), max(one.max_error for one in found))

    def accuracies(self, lowered: Lowered, size: str = "") -> list[Accuracy]:
        """Return the accuracy of a lowered graph on each feed.

        Raises:
            GraphError: its outputs have other shapes than those of the FP32 graph.
        """
        found = []
        with HalfRunner(repeatable(lowered.model.SerializeToString())) as runner:
            types = {info.name: info.dtype for info in runner.inputs}
            for arrays, expected, peaks in self._fed(size):
                actual = runner.run({name: array.astype(types[name]) for name, array in arrays.items()})
                squared = largest = 0.0
                for name, reference in expected.items():
                    if actual[name].shape != reference.shape:
                        raise GraphError(
                            f"in {self._options.precision} the output {name} is {list(actual[name].shape)}, in FP32 "
                            f"{list(reference.shape)}: a size is computed from values that lose precision; expected a "
                            "graph that computes sizes from sizes",
                            code="inexact-size",
                            output=name,
                        )
                    one, other = distance(reference, actual[name], peaks[name])
                    squared, largest = max(squared, one), max(largest, other)
                found.append(Accuracy(psnr_from_mse(squared), largest))
        return found


@dataclass(frozen=True)
class _Trials:
    """Measures sets of regions, reports each, and holds it against the target."""

    measure: Measure
    options: LowerOptions
    progress: Progress

    def of(self, regions: Sequence[Region], size: str, label: str = "") -> Accuracy:
        label = label or f"with {len(regions)} regions in FP32"
        with self.progress.step(f"at {size}, {label}" if size else label) as say:
            accuracy = self.measure(regions, size)
            say(f"{accuracy.psnr_db:.2f} dB, largest error {accuracy.max_error:.2g}")
        return accuracy

    def good(self, accuracy: Accuracy) -> bool:
        psnr, error = self.options.target_psnr_db, self.options.max_error
        return (psnr is None or accuracy.psnr_db >= psnr) and (error is None or accuracy.max_error <= error)

    def error_of(self, accuracy: Accuracy) -> float:
        """Return the error that the target limits."""
        return accuracy.squared if self.options.target_psnr_db is not None else accuracy.max_error


def search(
    regions: Sequence[Region], measure: Measure, options: LowerOptions, progress: Progress, sizes: Sequence[str] = ()
) -> Search:
    """Find the regions that stay FP32.

    Args:
        regions: the candidates.
        measure: `Bench.measure`, or anything else that measures.
        options: with the target.
        progress: receives each measurement.
        sizes: where the target has to hold beside the size of the calibration, smallest first.
    """
    trials = _Trials(measure, options, progress)
    by_rule = "strict FP16, by the rule alone"
    size, start = "", trials.of((), "", by_rule)
    for larger in sizes:
        if trials.good(start):
            size, start = larger, trials.of((), larger, by_rule)
    if trials.good(start):
        everywhere = {one: trials.of((), one) for one in sizes}
        return Search(reached=True, start=start, bound=start, final=start, size=size, at_sizes=everywhere)
    bound = trials.of(regions, size, "strict FP16, every region in FP32")
    if not trials.good(bound):
        return Search(reached=False, start=start, bound=bound, final=bound, islands=_nodes(regions), size=size)
    alone = {
        region.name: trials.of((region,), size, f"region {number} of {len(regions)} in FP32: {region.name}")
        for number, region in enumerate(regions, 1)
    }
    removed = {name: trials.error_of(start) - trials.error_of(accuracy) for name, accuracy in alone.items()}
    ranked = sorted(regions, key=lambda region: removed[region.name] / max(region.cost, 1e-9), reverse=True)
    chosen = _added(ranked, start, size, trials) or list(regions)
    chosen = _without_spare(chosen, size, trials)
    for larger in sizes[sizes.index(size) + 1 if size else 0 :]:
        chosen = _grown(chosen, ranked, larger, trials)
    steps = []
    for number, region in enumerate(chosen, 1):
        accuracy = measure(chosen[:number], size)
        steps.append(
            Step(
                region=region.name,
                alone_db=alone[region.name].psnr_db - start.psnr_db,
                psnr_db=accuracy.psnr_db,
                max_error=accuracy.max_error,
                macs_share=region.macs_share,
                bytes_share=region.bytes_share,
            )
        )
    final, everywhere = measure(chosen, size), {one: trials.of(chosen, one) for one in sizes}
    return Search(
        reached=all(map(trials.good, (final, measure(chosen, ""), *everywhere.values()))),
        start=start,
        bound=bound,
        final=final,
        steps=tuple(steps),
        islands=_nodes(chosen),
        size=size,
        at_sizes=everywhere,
    )


def _added(ranked: Sequence[Region], start: Accuracy, size: str, trials: _Trials) -> list[Region]:
    """Take the regions that help, in their order, until the target is met; none where some help only together."""
    chosen: list[Region] = []
    reached = start
    for region in ranked:
        label = f"with {len(chosen) + 1} regions in FP32, the last {region.name}"
        accuracy = trials.of((*chosen, region), size, label)
        if trials.error_of(accuracy) < trials.error_of(reached):
            chosen, reached = [*chosen, region], accuracy
        if trials.good(reached):
            return chosen
    return []


def _without_spare(chosen: list[Region], size: str, trials: _Trials) -> list[Region]:
    """Take out the regions without which the target is still met, the most expensive first."""
    for region in sorted(chosen, key=lambda region: region.cost, reverse=True):
        rest = [other for other in chosen if other is not region]
        if trials.good(trials.of(rest, size, f"without {region.name}")):
            chosen = rest
    return chosen


def _grown(chosen: list[Region], ranked: Sequence[Region], size: str, trials: _Trials) -> list[Region]:
    """Add regions until the target is met at a larger size."""
    rest, more = [region for region in ranked if region not in chosen], 1
    while not trials.good(trials.of(chosen, size)) and rest:
        chosen, rest, more = [*chosen, *rest[:more]], rest[more:], 2 * more  # one measurement there takes minutes
    return chosen


def regions_of(prepared: Prepared, options: LowerOptions) -> list[Region]:
    """Return the regions of the nodes that are FP16 by the rule, in the order of the graph."""
    low = {node.node for node in lower(prepared, options).nodes if node.type not in ("none", "float32")}
    nodes = [node for node in prepared.model.graph if node.name in low]
    region_of: dict[str, str] = {}
    # Downwards: a pointwise operator belongs to the convolution in front of it.
    for node in nodes:
        if is_op(node, *PATH_STARTS):
            region_of[node.name or ""] = _region_name(node)
        elif not is_op(node, *MOVES, "Resize"):
            makers = [value.producer() for value in node.inputs if value is not None]
            known = [region_of[maker.name] for maker in makers if maker is not None and maker.name in region_of]
            if known:
                region_of[node.name or ""] = known[-1]
    # Upwards: a mover belongs to what reads it; a node that neither has is a region of its own.
    for node in reversed(nodes):
        if node.name not in region_of:
            readers = [reader.name for value in node.outputs for reader, _ in value.uses()]
            known = [region_of[reader] for reader in readers if reader in region_of]
            region_of[node.name or ""] = known[0] if known else node.name or ""
    members: dict[str, list[str]] = {}
    for node in nodes:
        members.setdefault(region_of[node.name or ""], []).append(node.name or "")
    macs, moved = (count(prepared.model.graph, prepared.ranges) for count in (multiply_adds, bytes_moved))
    total_macs, total_bytes = (sum(of.get(name, 0) for name in low) or 1 for of in (macs, moved))
    return [
        Region(
            name=name,
            nodes=tuple(names),
            macs_share=sum(macs.get(node, 0) for node in names) / total_macs,
            bytes_share=sum(moved[node] for node in names) / total_bytes,
        )
        for name, names in members.items()
    ]


def _peaks(outputs: Arrays) -> dict[str, float]:
    return {name: peak_of(array) for name, array in outputs.items()}


def repeatable(content: bytes) -> bytes:
    """Return a model with seeds at its random nodes: both sides of a comparison then draw the same numbers."""
    model = onnx.ModelProto.FromString(content)
    drawing = [node for node in model.graph.node if node.op_type in RANDOM]
    for node in drawing:
        if all(attribute.name != "seed" for attribute in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("seed", 1 if node.op_type == "Dropout" else 1.0))
    return model.SerializeToString() if drawing else content


def _region_name(node: ir.Node) -> str:
    """Return the name of the weights, which the calls of one module share."""
    weight = node.inputs[1]
    name = weight.name if weight is not None and weight.const_value is not None else node.name
    return (name or "").removesuffix(".weight")


def _nodes(regions: Iterable[Region]) -> tuple[str, ...]:
    return tuple(node for region in regions for node in region.nodes)


def _remembered(memory: Path | None, key: str) -> dict[str, Accuracy]:
    """Return earlier measurements under the same key; a damaged or another file counts as none."""
    try:
        content: Any = json.loads(memory.read_text(encoding="utf-8")) if memory is not None else {}
        known = content["measured"] if content.get("key") == key else {}
        return {name: Accuracy(*map(float, values)) for name, values in known.items()}
    except (OSError, RecursionError, ValueError, TypeError, KeyError, AttributeError):
        return {}
