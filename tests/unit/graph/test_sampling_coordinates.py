"""Positions are the coordinates of every sampler, computed indices and weighted sums of positions; nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from refine_export.graph.linter import lint_model
from refine_export.graph.sampling_coordinates import grids
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import lower
from tests.support.foreign import CONV, SAMPLE, kernel, model_of
from tests.support.lowering_cases import psnr, ready, small_feeds
from tests.support.lowering_checks import decided

H, W = 5, 240
KEPT = ("float32", "coordinates")
RANDOM = np.random.default_rng(0)
PIXELS = np.stack(np.meshgrid(np.arange(W), np.arange(H)), -1).reshape(1, H * W, 2).astype(np.float32)
LINE = np.arange(64, dtype=np.float32)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RANDOM.standard_normal(shape) * scale).astype(np.float32)


def matching(after: str, grid: np.ndarray | None = PIXELS, softmax: str = "p = Softmax <axis = -1> (k)"):
    """Softmax of a correlation of features times the grid of all pixels, as networks of global matching have it."""
    body = (
        "f = Conv <pads = [1,1,1,1]> (x, big) wide = Constant <value_ints = [1,16,1200]> () a = Reshape (f, wide) "
        f"b = Transpose <perm = [0,2,1]> (a) [correlation] c = MatMul (b, a) k = Mul (c, scale) {softmax} "
        f"[mean] m = MatMul (p, grid) {after}"
    )
    constants = {"big": normal(16, 3, 3, 3, scale=0.8), "scale": np.float32([0.05]), "axis": np.int64([-1])}
    grids = {} if grid is None else {"grid": grid}
    shapes = {"span": np.float32([2 / (W - 1), 2 / (H - 1)]), "one": np.float32([1]), "plane": np.int64([1, H, W, 2])}
    return model_of(body, f"float[1,3,{H},{W}] x", f"float[1,3,{H},{W}] y", **constants, **grids, **shapes)


WARP = f"r = Reshape (m, plane) u = Mul (r, span) g = Sub (u, one) y = {SAMPLE} (x, g)"


@pytest.mark.parametrize(
    "softmax",
    [
        "[weights] p = Softmax <axis = -1> (k)",
        "h = ReduceMax (k, axis) j = Sub (k, h) e = Exp (j) t = ReduceSum (e, axis) [weights] p = Div (e, t)",
    ],
)
def test_a_mean_of_positions_is_a_position(softmax):
    """The product with the pixels' places, its weights and their logits are FP32: 42 dB became 60."""
    model = matching(WARP, softmax=softmax)
    feeds = small_feeds(model)
    prepared = ready(model, feeds)
    found = decided(prepared)
    assert (found["mean"], found["weights"]) == (KEPT, KEPT)
    assert psnr(model, lower(prepared, LowerOptions()), feeds) > 55


def test_a_mean_of_flows_that_is_warped_by_is_a_position():
    """A flow that attention averages stays a position: the product does not begin a coordinate path."""
    flow = "n = Conv <pads = [1,1,1,1]> (x, two) tall = Constant <value_ints = [1,2,1200]> () o = Reshape (n, tall)"
    model = matching(WARP, None)
    body = model_of(f"{flow} grid = Transpose <perm = [0,2,1]> (o)", f"float[1,3,{H},{W}] x", "float[1,1200,2] grid")
    model.graph.node.reverse()
    model.graph.node.extend(reversed(body.graph.node))
    model.graph.node.reverse()
    model.graph.initializer.extend(model_of("", two=normal(2, 3, 3, 3)).graph.initializer)
    assert decided(ready(model, None))["mean"] == KEPT


POSITION_SUMS = {
    "MatMul": "y = MatMul (line, q)",
    "Mul and ReduceSum": "m = Mul (q, column) y = ReduceSum <keepdims = 0> (m, axis)",
    "Mul, moved, and ReduceMean": "m = Mul (column, q) s = Squeeze (m) y = ReduceMean <keepdims = 0> (s, zero)",
    "Einsum": 'l = Squeeze (line) y = Einsum <equation = "dw,d->w"> (q, l)',
    "Conv": "u = Unsqueeze (q, zero) k = Unsqueeze (line, last) y = Conv (u, k)",
    "Gather": "i = ArgMax <axis = 0, keepdims = 0> (q) l = Squeeze (line) y = Gather (l, i)",
}


@pytest.mark.parametrize("name", POSITION_SUMS)
@pytest.mark.parametrize("counted", [False, True])
def test_weighted_sums_of_positions(name, counted):
    """Whatever operator sums: positions that are a constant, or counted from sizes. No sampler is needed."""
    line = "line = Identity (numbers)"
    if counted:
        line = (
            "e = Shape (x) t = Constant <value_int = 0> () d = Gather (e, t) f = Cast <to = 1> (d) n = Constant "
            "<value_float = 0.0> () o = Constant <value_float = 1.0> () r = Range (n, f, o) line = Unsqueeze (r, zero)"
        )
    body = f"v = MatMul (w, x) q = Softmax <axis = 0> (v) {line} column = Transpose <perm = [1, 0]> (line)"
    constants = {"w": normal(64, 64), "axis": np.int64([0]), "zero": np.int64([0]), "last": np.int64([-1])}
    if not counted:
        constants["numbers"] = LINE[None]
    model = model_of(
        f"{body} {POSITION_SUMS[name]} z = MatMul (x, w)", "float[64,96] x", "float y, float z", **constants
    )
    found = grids(ready(model, None).model.graph)
    assert [node.op_type for node in found] == [name.rsplit(maxsplit=1)[-1]]


@pytest.mark.parametrize("values", [normal(64), np.full(64, 0.25, np.float32), np.float32([1, 2, 1] * 21 + [1])])
def test_learned_weights_are_no_positions(values):
    """A line of weights, one of equal numbers, and a kernel that repeats are not steps of one size."""
    model = model_of("y = MatMul (line, x)", "float[64,96] x", "float[1,96] y", line=values[None])
    assert not grids(ready(model, None).model.graph)


def test_attention_stays_fp16():
    """A mean of values that a projection made is a feature, as long as it becomes no coordinate."""
    body = (
        "q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv) t = Transpose <perm = [1, 0]> (k) "
        "[logits] l = MatMul (q, t) [weights] p = Softmax <axis = -1> (l) [mean] m = MatMul (p, v) y = MatMul (m, wo)"
    )
    weights = {name: normal(32, 32, scale=0.2) for name in ("wq", "wk", "wv", "wo")}
    model = model_of(body, "float[64,32] x", "float[64,32] y", **weights)
    found = decided(ready(model, {"x": normal(64, 32)}))
    assert {found[name] for name in ("logits", "weights", "mean")} == {("float16", "default")}


IMAGE = "float[1,3,64,96] x"
OFFSETS = f"DeformConv <pads = [1,1,1,1]> (f, {{}}, o) y = {CONV} (s, v)"
SAMPLERS = {
    "DeformConv": (f"[move] o = Add (at, k) [sampler] s = {OFFSETS.format('w')}", "float[1,18,64,96] at", "1,3,64,96"),
    "RoiAlign": ("[move] o = Mul (at, k) [sampler] y = RoiAlign (f, o, n)", "float[8,4] at", "8,3,1,1"),
    "MaxRoiPool": (
        "[move] o = Mul (at, k) [sampler] y = MaxRoiPool <pooled_shape = [2,2]> (f, o)",
        "float[8,5] at",
        "8,3,2,2",
    ),
    "MaxUnpool": (
        "[move] o = Add (at, k) r = Floor (o) i = Cast <to = 7> (r) "
        "[sampler] y = MaxUnpool <kernel_shape = [2,2], strides = [2,2]> (f, i)",
        "float[1,3,64,96] at",
        "1,3,128,192",
    ),
    "ScatterND": (
        "[move] o = Add (at, k) i = Cast <to = 7> (o) p = Squeeze (f) [sampler] s = ScatterND (p, i, u) y = Neg (s)",
        "float[5,1] at, float[5,64,96] u",
        "3,64,96",
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_has_coordinates(name):
    """Offsets, boxes and computed indices are FP32, and the lint finds them where they are FP16."""
    body, inputs, shape = SAMPLERS[name]
    text = f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)} f = {CONV} (x, w) {body}"
    boxes = {"n": np.zeros(8, np.int64)} if name == "RoiAlign" else {}
    model = model_of(text, f"{IMAGE}, {inputs}", f"float[{shape}] y", opset=19, k=np.float32([1.5]), **boxes)
    found = decided(ready(model, None, without_warp=False))
    assert found["move"] == KEPT
    assert name in ("MaxUnpool", "ScatterND") or found["sampler"] == ("float32", "sampler")


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("DeformConv (x, k, o)", "float16[1,3,64,96] x, float16[1,2,64,96] at, float16[3,3,1,1] k"),
        ("RoiAlign (x, o, n)", "float16[1,3,64,96] x, float16[8,4] at, int64[8] n"),
        ("MatMul (at, positions)", "float16[1,64] at"),
    ],
)
def test_the_lint_finds_fp16_positions(node, inputs):
    """In a file that another tool lowered."""
    model = model_of(
        f"o = Neg (at) y = {node}", inputs, "float16 y", opset=22, positions=LINE[:, None].astype(np.float16)
    )
    assert [finding.rule for finding in lint_model(model) if finding.rule == "fp16-coordinates"] == ["fp16-coordinates"]


def test_places_that_a_pooling_found_are_no_coordinates():
    """Indices of MaxPool are picked: what is pooled is not kept for them."""
    text = (
        f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)} f = {CONV} (x, w) [feature] r = Relu (f) "
        f"p, i = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r) c = {CONV} (p, v) "
        f"u = MaxUnpool <kernel_shape = [2,2], strides = [2,2]> (c, i) y = {CONV} (u, w)"
    )
    assert decided(ready(model_of(text, IMAGE, "float[1,3,64,96] y"), None))["feature"] == ("float16", "default")
