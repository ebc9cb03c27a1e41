"""Graphs for the tests of `lower`, prepared and calibrated; and how far a lowered one is from FP32."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from refine_export.accuracy.metrics import peak_of
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import Lowered, Prepared, calibrated, lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from tests.support.foreign import IMAGE, OPSETS, OUT, Foreign, foreign_feeds, foreign_model, kernel, model_of

Arrays = dict[str, np.ndarray]
TOLERANCE = 4e-3  # of the largest magnitude; measured: under 2e-3 for the five, under 3e-4 for the foreign ones
FOREIGN = {
    **{f"foreign, opset {opset}": Foreign(opset=opset) for opset in OPSETS},
    "foreign, one input": Foreign(stacked=True),
    "foreign, static": Foreign(size=(64, 96)),
    "foreign, GatherElements": Foreign(warp="gather"),
    "foreign, Gather": Foreign(warp="index"),
    "foreign, computed sizes": Foreign(computed_sizes=True),
    "foreign, nameless": Foreign(nameless=True),
}
FIRST = "foreign, opset 18"
OUT_ANY = 'float["N",3,"h","w"] y'


@dataclass(frozen=True)
class Case:
    """A graph in FP32, ready to be lowered."""

    model: onnx.ModelProto
    prepared: Prepared
    feeds: Callable[[int, int], Arrays]
    dynamic: bool

    def lowered(self, islands: tuple[str, ...] = (), **options: Any) -> Lowered:
        return lower(self.prepared, LowerOptions(**options), islands)


def ready(model: onnx.ModelProto, feeds: Arrays | None, without_warp: bool = True, **options: Any) -> Prepared:
    """Prepared, and calibrated where there are feeds; the model is not modified."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    prepared = prepare_model(ir.from_proto(copy), LowerOptions(**options), without_warp=without_warp)
    return prepared if feeds is None else calibrated(prepared, [("feed", feeds)])


def small(body: str, inputs: str = IMAGE, out: str = OUT, *, scale: float = 1.0, feeds: bool = True, **options: Any):
    """Nodes in ONNX text -> model, prepared; W and V are 3x3 convolutions of three channels."""
    model = model_of(f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)} {body}", inputs, out)
    return model, ready(model, small_feeds(model, scale) if feeds else None, **options)


def small_feeds(model: onnx.ModelProto, scale: float = 1.0, height: int = 16, width: int = 24) -> Arrays:
    """Random values in [0, scale)."""
    sizes = {"N": 1, "H": height, "W": width}
    random = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.input:
        shape = [dim.dim_value or sizes[dim.dim_param] for dim in value.type.tensor_type.shape.dim]
        feeds[value.name] = (random.random(shape) * scale).astype(np.float32)
    return feeds


def small_grid_feeds() -> Arrays:
    random = np.random.default_rng(0)
    image = random.random((1, 3, 16, 24)).astype(np.float32)
    return {"x": image, "g": random.uniform(-1.1, 1.1, (1, 16, 24, 2)).astype(np.float32)}


@functools.cache
def foreign_case(name: str) -> Case:
    """One of FOREIGN, calibrated at 64x96."""
    options = FOREIGN[name]
    model = foreign_model(options)
    prepared = ready(model, foreign_feeds(options, 64, 96), without_warp=False)
    return Case(model, prepared, lambda h, w: foreign_feeds(options, h, w), options.size is None)


def outputs(runner: OrtRunner, feeds: Arrays) -> Arrays:
    return runner.run({info.name: feeds[info.name].astype(info.dtype) for info in runner.inputs})


def psnr(model: onnx.ModelProto, lowered: Lowered, feeds: Arrays) -> float:
    """PSNR of strict FP16 against FP32, the worst output; NaN where a value is not finite."""
    with OrtRunner(model.SerializeToString()) as expected, HalfRunner(lowered.model.SerializeToString()) as actual:
        pairs = zip(outputs(expected, feeds).values(), outputs(actual, feeds).values(), strict=True)
        found = [10 * np.log10(peak_of(one) ** 2 / max(np.mean(np.square(one - other)), 1e-20)) for one, other in pairs]
    return float(np.min(found))


def error(model: onnx.ModelProto, lowered: Lowered, *feeds: Arrays) -> float:
    """Largest difference of strict FP16 from FP32 on any feed, in units of an output's largest magnitude, or of 1."""
    worst = []
    with OrtRunner(model.SerializeToString()) as expected, HalfRunner(lowered.model.SerializeToString()) as actual:
        for feed in feeds:
            pairs = zip(outputs(expected, feed).values(), outputs(actual, feed).values(), strict=True)
            worst += [float(np.abs(one - other).max() / max(1, np.abs(one).max())) for one, other in pairs]
    return float(np.max(worst))  # NaN if any is
