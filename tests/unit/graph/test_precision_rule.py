"""The rules that give each node its type, one by one; and that they are needed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from refine_export.graph import precision_rule
from refine_export.graph.operator_types import is_op
from refine_export.graph.sampling_coordinates import upstream
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower
from refine_export.runners.strict_fp16 import HalfRunner
from tests.support.foreign import CONV, GRID, IMAGE, OUT, SAMPLE, kernel, model_of
from tests.support.lowering_cases import (
    FIRST,
    OUT_ANY,
    TOLERANCE,
    error,
    foreign_case,
    ready,
    small,
    small_feeds,
)
from tests.support.lowering_checks import HALF, SINGLE, assert_lowered, decided, typed

LOW = ("float16", "default")


COUNTED = (
    "s = Shape (x) at = Constant <value_ints = [3]> () zero = Constant <value_ints = [0]> () "
    f"half = Constant <value_floats = [0.5]> () c = {CONV} (x, w) [pick] n = Gather (s, at) "
    "[count] f = Cast <to = 1> (n) [half] h = Mul (f, half) [floor] l = Floor (h) [whole] i = Cast <to = 7> (l) "
    f"[cut] p = Slice (c, zero, i, at) y = {CONV} (p, v)"
)


@pytest.mark.parametrize("fp32_tail", [True, False])
def test_tail(fp32_tail):
    """What follows the last convolution is FP32, or FP16 where that is requested; samplers are FP32 always."""
    here = foreign_case(FIRST)
    lowered = here.lowered(fp32_tail=fp32_tail)
    found = {node.operator: (node.type, node.rule) for node in lowered.nodes}
    assert found["Sigmoid"] == (("float32", "tail") if fp32_tail else LOW)
    assert found["GridSample"] == ("float32", "sampler")
    assert found["LeakyRelu"] == LOW
    assert_lowered(here.model, lowered)
    assert error(here.model, lowered, here.feeds(64, 96)) < TOLERANCE


def test_sizes_are_counted_exactly():
    """Shape, Cast, Mul, Floor, Cast to the sizes of Resize and Slice are FP32: 4099 pixels halve to 2049, not 2050."""
    model, prepared = small(COUNTED)
    found = decided(prepared)
    assert {found[node][0] for node in ("count", "half", "floor", "whole")} == {"float32"}
    assert (found["pick"], found["cut"]) == (("none", "no-floats"), LOW)
    feeds = small_feeds(model, 1.0, 4, 4099)
    with HalfRunner(lower(prepared, LowerOptions()).model.SerializeToString()) as runner:
        assert runner.run(feeds)["y"].shape == (1, 3, 4, 2049)

    graph = typed(foreign_case("foreign, computed sizes").lowered().model)
    paths = [value for node in graph if is_op(node, "Resize") for value in upstream(node.inputs[3])]
    assert Counter(value.dtype for value in paths)[SINGLE] >= 8
    assert HALF not in {value.dtype for value in paths}


@pytest.mark.parametrize("end", ["width", "fixed"])
def test_a_range_of_positions_stays_fp32(end):
    """Range in floats is FP32, from sizes and from constants; what it is added to is not."""
    body = (
        "s = Shape (x) at = Constant <value_int = 3> () n = Gather (s, at) width = Cast <to = 1> (n) "
        "zero = Constant <value_float = 0.0> () one = Constant <value_float = 1.0> () "
        f"fixed = Constant <value_float = 24.0> () [line] r = Range (zero, {end}, one) [scaled] q = Div (r, width) "
        f"c = {CONV} (x, w) [sum] a = Add (c, q) y = {CONV} (a, v)"
    )
    model, prepared = small(body)
    found = decided(prepared)
    assert (found["line"][0], found["sum"]) == ("float32", LOW)
    assert found["scaled"][0] == "float32" or end == "fixed"
    assert error(model, lower(prepared, LowerOptions()), small_feeds(model)) < TOLERANCE


def test_constants_that_are_made_and_scales_of_resize():
    """ConstantOfShape makes FP16 where that is read; a Resize is FP16 though its scales are FP32, as ONNX has them."""
    body = (
        "s = Shape (x) [ones] p = ConstantOfShape <value = float[1] {0.3}> (s) [zeros] q = ConstantOfShape (s) "
        "scales = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> () "
        f'[add] a = Add (x, p) b = Add (a, q) [resize] r = Resize <mode = "linear"> (b, , scales) y = {CONV} (r, v)'
    )
    model, prepared = small(body, out=OUT_ANY)
    found = decided(prepared)
    assert {found[node][0] for node in ("ones", "zeros", "add", "resize")} == {"float16"}
    lowered = lower(prepared, LowerOptions())
    stored = {tensor.name: tensor.data_type for tensor in lowered.model.graph.initializer}
    assert stored == {"v": TensorProto.FLOAT16, "scales": TensorProto.FLOAT}
    assert 0 < error(model, lowered, small_feeds(model)) < TOLERANCE


@pytest.mark.parametrize(("value", "kind"), [(0.5, "float16"), (1e-8, "float32"), (1e6, "float32")])
def test_the_value_of_a_constant_of_shape_has_to_fit(value, kind):
    body = f"[filled] k = ConstantOfShape <value = float[1] {{{value}}}> (n) c = Mul (x, k) y = {CONV} (c, w)"
    assert decided(small(body, f"{IMAGE}, int64[4] n", feeds=False)[1])["filled"][0] == kind


def test_scales_that_are_computed_stay_fp32():
    """10 as 1/0.1: in FP16 0.1 is 0.09998 and its inverse 10.002."""
    body = (
        "one = Constant <value_float = 1.0> () ones = Constant <value_floats = [1.0, 1.0]> () "
        f"[inverse] d = Div (one, scale) [scales] k = Concat <axis = 0> (ones, d, d) c = {CONV} (x, w) "
        f'r = Resize <mode = "linear"> (c, , k) y = {CONV} (r, v)'
    )
    found = decided(small(body, f"{IMAGE}, float[1] scale", OUT_ANY, feeds=False)[1])
    assert {found[node] for node in ("inverse", "scales")} == {("float32", "coordinates")}


def test_movers():
    """FP32 data that an FP32 node reads later is not rounded on the way; FP16 data is moved as FP16."""
    cut = "a = Constant <value_ints = [0]> () b = Constant <value_ints = [3]> () k = Constant <value_ints = [1]> ()"
    body = (
        f"{cut} [image] i = Slice (x6, a, b, k) [turn] t = Transpose <perm = [0,1,2,3]> (i) [warp] s = {SAMPLE} (t, g) "
        f"[first] c = {CONV} (s, w) [flat] f = Concat <axis = 1> (c, c) [part] p = Slice (f, a, b, k) "
        f"[last] d = {CONV} (p, v) y = Sigmoid (d)"
    )
    _, prepared = small(body, f'float["N",6,"H","W"] x6, {GRID}')
    found = decided(prepared)
    assert {found[node] for node in ("image", "turn")} == {("float32", "mover")}
    assert {found[node] for node in ("flat", "part", "first", "last")} == {LOW}
    sample = next(node for node in typed(lower(prepared, LowerOptions()).model) if node.name == "warp")
    assert HALF not in {value.dtype for value in upstream(sample.inputs[0])}
    # The input is FP16 by itself: nothing is rounded, fewer bytes are moved.
    assert decided(prepared, io="fp16")["image"] == LOW


def test_an_fp32_output_reads_what_is_moved():
    """A Concat of FP32 tensors that is an output is not rounded for a convolution that reads it too."""
    body = f"s = {SAMPLE} (x, g) [both] b = Concat <axis = 0> (s, x) y = {CONV} (b, w)"
    _, prepared = small(body, f"{IMAGE}, {GRID}", f"{OUT}, float[A,3,B,D] b", feeds=False)
    assert decided(prepared)["both"] == ("float32", "mover")
    assert decided(prepared, io="fp16")["both"] == LOW


def test_a_mask_is_not_a_size():
    """Comparisons read FP32, so that nothing is rounded before; their results, cast to numbers, are FP16: 0 or 1."""
    body = (
        f"z = Constant <value_float = 0.0> () c = {CONV} (x, w) [compare] b = Greater (c, z) "
        f"[number] m = Cast <to = 1> (b) [masked] p = Mul (c, m) y = {CONV} (p, v)"
    )
    found = decided(small(body)[1])
    assert [found[node] for node in ("compare", "number", "masked")] == [("float32", "no-low-form"), LOW, LOW]


@pytest.mark.parametrize(
    "body",
    [
        "[odd] r = RandomNormal <shape = [1, 3, 1, 1]> ()",
        "[odd] r = HannWindow (three)",
        "[odd] r = Celu (x)",
        "q = QuantizeLinear (x, step, zero) [odd] r = DequantizeLinear (q, step, zero)",
    ],
)
def test_operators_without_an_fp16_form(body):
    """What makes floats of its own, has no FP16 form, or scales of its own stays FP32."""
    constants = (
        "three = Constant <value_int = 3> () step = Constant <value_float = 0.02> () "
        "zero = Constant <value = int8 {0}> ()"
    )
    out = "float y" if "Hann" in body else OUT
    end = "y = ReduceMax <keepdims = 0> (r)" if "Hann" in body else f"m = Add (x, r) y = {CONV} (m, v)"
    _, prepared = small(f"{constants} {body} {end}", IMAGE, out, feeds=False)
    assert decided(prepared)["odd"] == ("float32", "no-low-form")


@pytest.mark.parametrize(("terms", "expected"), [(3, ("float32", "coordinates")), (64, LOW)])
def test_a_matrix_product_of_few_terms_moves_points(terms, expected):
    """Grid = base * theta: of three terms it moves points, of 64 it is an estimate."""
    body = "shape = Constant <value_ints = [1,16,24,2]> () [points] p = MatMul (base, theta) g = Reshape (p, shape) "
    inputs = f"{IMAGE}, float[1,384,{terms}] base, float[1,{terms},2] theta"
    _, prepared = small(f"{body} s = {SAMPLE} (x, g) y = {CONV} (s, w)", inputs, feeds=False)
    assert decided(prepared)["points"] == expected


def test_positions_that_become_integers_stay_fp32():
    """A splat scatters to rounded positions: at 1920 FP16 is a pixel off."""
    body = (
        f"f = {CONV} (x, w) [move] m = Add (at, by) [round] r = Round (m) [whole] i = Cast <to = 7> (r) "
        f"[put] s = ScatterElements <axis = 3> (f, i, f) y = {CONV} (s, v)"
    )
    found = decided(small(body, f"{IMAGE}, float[1,3,16,24] at, float[1,3,16,24] by", feeds=False)[1])
    assert {found[node] for node in ("move", "round", "whole")} == {("float32", "coordinates")}


def test_large_values_stay_fp32():
    """A tensor that reaches 20000 keeps its maker and its readers in FP32; all others, and all to 8188, are FP16."""
    body = (
        f"k = Constant <value_float = -8.0> () a = {CONV} (x, w) [before] b = Relu (a) [makes] c = Mul (b, k) "
        f"[reads] d = Tanh (c) [after] e = Neg (d) [second] f = {CONV} (e, v) y = Identity (f)"
    )
    model, cold = small(body, feeds=False)
    reach = calibrated(cold, [("feed", small_feeds(model))]).ranges["c"].largest
    hot = ("float32", "range")
    for scale, expected in ((20000 / reach, hot), (8200 / reach, hot), (8180 / reach, LOW)):
        feeds = [("small", small_feeds(model)), ("large", small_feeds(model, scale))]
        prepared = calibrated(cold, feeds)
        assert calibrated(cold, feeds[::-1]).ranges == prepared.ranges
        found = decided(prepared)
        assert {found[node] for node in ("makes", "reads")} == {expected}
        assert {found[node] for node in ("before", "after", "second")} == {LOW}
    assert {kind for kind, _ in decided(cold).values()} == {"float16"}
    wide = calibrated(cold, [("feed", small_feeds(model, 1e6 / reach))])
    assert error(model, lower(wide, LowerOptions()), small_feeds(model, 1e6 / reach)) < TOLERANCE


@pytest.mark.parametrize(
    ("node", "largest_side"),
    [
        ("GlobalAveragePool (a)", 40),
        ("ReduceMean <keepdims = 1> (a, axes)", 40),
        ("ReduceSum <keepdims = 1> (a, axes)", 40),
        ("ReduceL2 <keepdims = 1> (a, axes)", 20),
        ("InstanceNormalization (a, ones, ones)", 20),
        ("AveragePool <kernel_shape = [13, 13]> (a)", 90),
    ],
)
def test_sums_that_overflow_stay_fp32(node, largest_side):
    """Sums of side * side values to 3 in magnitude, or of their squares, that may pass 8188 are FP32."""
    body = (
        "axes = Constant <value_ints = [2, 3]> () ones = Constant <value_floats = [1.0, 1.0, 1.0]> () "
        "three = Constant <value_float = 3.0> () "
        f"c = {CONV} (x, w) b = Sin (c) a = Mul (b, three) [sum] s = {node} y = Conv <pads = [1,1,1,1]> (s, v)"
    )
    model = model_of(f"{kernel('w', 3, 3, 3, 3, scale=1)} {kernel('v', 3, 3, 3, 3)} {body}", IMAGE, OUT_ANY)
    for side in (20, 40, 90):
        feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)}
        prepared = ready(model, feeds)
        assert max(known.largest for known in prepared.ranges.values()) < 1000
        assert decided(prepared)["sum"] == (LOW if side <= largest_side else ("float32", "range"))


@pytest.mark.parametrize(
    "node",
    [
        "s = LpNormalization <axis = 3> (c)",
        "s = MeanVarianceNormalization (c)",
        "s = LpPool <kernel_shape = [8, 8]> (c)",
        "s = GlobalLpPool (c)",
    ],
)
def test_sums_of_squares_stay_fp32(node):
    """24 squares of 100 are beyond 8188, though no tensor is."""
    body = f"{kernel('v', 3, 3, 3, 3)} [sum] {node} y = {CONV} (s, v)"
    model = model_of(body, 'float["N",3,"H","W"] c', opset=21)
    for scale, expected in ((100, "float32"), (0.01, "float16")):  # onnx.checker refuses its own function of opset 21
        lowered = lower(ready(model, small_feeds(model, scale)), LowerOptions())
        assert {node.node: node.type for node in lowered.nodes}["sum"] == expected


def changed(model, node: int, change) -> None:
    """Change the weights of a Constant node."""
    tensor = model.graph.node[node].attribute[0].t
    values = numpy_helper.to_array(tensor).copy()
    tensor.CopyFrom(numpy_helper.from_array(change(values.ravel()).reshape(values.shape), tensor.name))


def test_a_weight_of_a_million():
    """The convolution that has it stays FP32; the other one is FP16, and the result is right."""
    model, _ = small(f"[hot] a = {CONV} (x, w) s = Sigmoid (a) [cold] y = {CONV} (s, v)", feeds=False)
    changed(model, 0, lambda values: np.concatenate([np.float32([1e6]), values[1:]]))
    prepared = ready(model, small_feeds(model, 1e-4))
    found = decided(prepared)
    assert (found["hot"], found["cold"]) == (("float32", "range"), LOW)
    lowered = lower(prepared, LowerOptions())
    assert [(fault.name, fault.overflowing, fault.stays_fp32) for fault in prepared.faults] == [("w", 1, True)]
    assert len(lowered.notes) == 1
    assert error(model, lowered, small_feeds(model, 1e-4)) < TOLERANCE
    stored = {tensor.name: tensor.data_type for tensor in lowered.model.graph.initializer}
    assert stored == {"w": TensorProto.FLOAT, "v": TensorProto.FLOAT16}
    assert 0 < lowered.macs_low < 1


def test_weights_that_vanish():
    """Those without weight in the norm are counted, and stay FP16; a kernel that would vanish whole stays FP32."""
    model, _ = small(f"[few] a = {CONV} (x, w) [all] y = {CONV} (a, v)", feeds=False)
    for node, count in ((0, 5), (1, 81)):
        changed(model, node, lambda values, count=count: np.where(np.arange(81) < count, np.float32(1e-9), values))
    prepared = ready(model, small_feeds(model))
    found = decided(prepared)
    assert (found["few"], found["all"]) == (LOW, ("float32", "range"))
    assert {fault.name: (fault.vanishing, fault.stays_fp32) for fault in prepared.faults} == {
        "w": (5, False),
        "v": (81, True),
    }
    assert len(lower(prepared, LowerOptions()).notes) == 2


def test_the_type_that_a_weight_is_checked_for():
    """In a BF16 file transposed convolutions are FP16: their weights are held against FP16, the others against BF16."""
    body = f"[conv] a = {CONV} (x, w) [up] y = ConvTranspose <pads = [1,1,1,1]> (a, v)"
    model, _ = small(body, feeds=False)
    for node in (0, 1):
        changed(model, node, lambda values: values * np.float32(1e7))
    prepared = ready(model, None, precision="bf16")
    found = decided(prepared, precision="bf16")
    assert (found["conv"], found["up"]) == (("bfloat16", "default"), ("float32", "range"))
    assert [(fault.name, fault.low) for fault in prepared.faults] == [("v", "float16")]


def test_a_mask_may_be_infinite():
    """Where(mask, -inf, x) in front of a Softmax is not a broken graph; its neighbours stay FP32."""
    body = (
        "low = Constant <value_float = -inf> () half = Constant <value_float = 0.5> () m = Greater (x, half) "
        f"[masked] q = Where (m, low, x) [soft] p = Softmax (q) y = {CONV} (p, w)"
    )
    found = decided(small(body)[1])
    assert {found[node] for node in ("masked", "soft")} == {("float32", "range")}


def test_fp16_coordinates_move_the_picture(monkeypatch):
    """What the rule is for: with FP16 coordinates the error of a warp at W = 2048 is more than ten times as large."""
    body = f"[turn] g = Transpose <perm = [0,2,3,1]> (flow) [warp] s = {SAMPLE} (x, g) y = {CONV} (s, w)"
    model, prepared = small(body, f'{IMAGE}, float["N",2,"H","W"] flow', feeds=False)
    y, x = np.meshgrid(np.linspace(-0.9, 0.9, 8), np.linspace(-0.9, 0.9, 2048), indexing="ij")
    picture = np.stack([0.5 + 0.5 * np.sin(np.arange(2048) * k) for k in (0.7, 0.8, 0.9)])
    picture = np.repeat(picture[None, :, None], 8, axis=2)
    feeds = {"x": picture.astype(np.float32), "flow": np.stack([x, y])[None].astype(np.float32)}
    good = error(model, lower(prepared, LowerOptions()), feeds)
    monkeypatch.setattr(precision_rule, "_coordinates", lambda *_: iter(()))
    bad = error(model, lower(prepared, LowerOptions()), feeds)
    assert 10 * good < bad


def test_other_rules_are_needed(monkeypatch):
    """Without the rule `size` sizes are FP16; without the rule `range` the result is infinite."""
    monkeypatch.setattr(precision_rule, "_coordinates", lambda *_: iter(()))
    monkeypatch.setattr(precision_rule, "_exact_by_kind", lambda *_: iter(()))
    cut = next(node for node in typed(lower(small(COUNTED)[1], LowerOptions()).model) if node.name == "cut")
    assert HALF in {value.dtype for value in upstream(cut.inputs[2])}
    body = f"k = Constant <value_float = 30000.0> () a = Add (x, k) b = Mul (a, a) c = Div (b, b) y = {CONV} (c, w)"
    model, prepared = small(body)
    assert error(model, lower(prepared, LowerOptions()), small_feeds(model)) < TOLERANCE
    monkeypatch.setattr(precision_rule, "_out_of_range", lambda *_: iter(()))
    assert not np.isfinite(error(model, lower(prepared, LowerOptions()), small_feeds(model)))
