"""The rules that give each node its type, one by one, with their reasons; and that they are needed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto

from refine_export.graph import precision_rule as precision
from refine_export.graph.operator_types import is_op
from refine_export.graph.sampling_coordinates import upstream
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import lower
from refine_export.runners.strict_fp16 import HalfRunner
from tests.support.foreign import CONV, GRID, IMAGE, OUT, SAMPLE
from tests.support.lowering_cases import FIRST, OUT_ANY, TOLERANCE, error, foreign_case, small, small_feeds, spoiled
from tests.support.lowering_checks import HALF, SINGLE, assert_lowered, decided, typed


@pytest.mark.parametrize("fp32_tail", [True, False])
def test_tail(fp32_tail):
    """What stands behind the last convolution is FP32, or FP16 where that is asked for; samplers are FP32 always."""
    here = foreign_case(FIRST)
    lowered = here.lowered(fp32_tail=fp32_tail)
    kinds = {node.operator: node for node in lowered.nodes}
    assert (kinds["Sigmoid"].type == "float32") == fp32_tail
    assert ("follows the last convolution" in kinds["Sigmoid"].reason) == fp32_tail
    assert kinds["GridSample"].type == "float32"
    assert kinds["LeakyRelu"].type == "float16"
    assert_lowered(here.model, lowered)
    assert error(here.model, lowered, here.feeds(64, 96)) < TOLERANCE


def test_sizes_are_counted_exactly():
    """Shape, Cast, Mul, Floor, Cast to the sizes of Resize and Slice are FP32: 4099 pixels halve to 2049, not 2050."""
    body = (
        "s = Shape (x) at = Constant <value_ints = [3]> () zero = Constant <value_ints = [0]> () "
        f"half = Constant <value_floats = [0.5]> () c = {CONV} (x, w) [pick] n = Gather (s, at) "
        "[count] f = Cast <to = 1> (n) [half] h = Mul (f, half) [floor] l = Floor (h) [whole] i = Cast <to = 7> (l) "
        f"[cut] p = Slice (c, zero, i, at) y = {CONV} (p, v)"
    )
    model, prepared = small(body)
    found = decided(prepared)
    for node in ("count", "half", "floor", "whole"):
        assert found[node][0] == "float32"
    assert found["pick"][0] == "none"
    assert found["cut"][0] == "float16"
    feeds = small_feeds(model, 1.0, 4, 4099)
    with HalfRunner(lower(prepared, LowerOptions()).model.SerializeToString()) as runner:
        assert runner.run(feeds)["y"].shape == (1, 3, 4, 2049)

    here = foreign_case("foreign, computed sizes")
    graph = typed(here.lowered().model)
    resizes = [node for node in graph if is_op(node, "Resize")]
    paths = [value for node in resizes for value in upstream(node.inputs[3])]
    assert Counter(value.dtype for value in paths)[SINGLE] >= 8
    assert HALF not in {value.dtype for value in paths}


def test_range_stays_fp32():
    """A line of positions, made by Range in floats, is FP32, from sizes and from constants; what it is added to not."""
    line = (
        "s = Shape (x) at = Constant <value_int = 3> () n = Gather (s, at) width = Cast <to = 1> (n) "
        "zero = Constant <value_float = 0.0> () one = Constant <value_float = 1.0> () "
        "fixed = Constant <value_float = 24.0> ()"
    )
    for end in ("width", "fixed"):
        body = (
            f"{line} [line] r = Range (zero, {end}, one) [scaled] q = Div (r, width) c = {CONV} (x, w) "
            f"[sum] a = Add (c, q) y = {CONV} (a, v)"
        )
        model, prepared = small(body)
        found = decided(prepared)
        assert found["line"][0] == "float32"
        assert found["sum"][0] == "float16"
        if end == "width":
            assert found["scaled"][0] == "float32"
        assert error(model, lower(prepared, LowerOptions()), small_feeds(model)) < TOLERANCE


def test_constants_that_are_made_and_sizes_in_scales():
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
    assert {tensor.name: tensor.data_type for tensor in lowered.model.graph.initializer} == {
        "v": TensorProto.FLOAT16,
        "scales": TensorProto.FLOAT,
    }
    assert 0 < error(model, lowered, small_feeds(model)) < TOLERANCE


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
    for node in ("image", "turn"):
        assert found[node] == ("float32", "moves FP32 data that is not to be rounded yet")
    assert {found[node][0] for node in ("flat", "part", "first", "last")} == {"float16"}
    sample = next(node for node in typed(lower(prepared, LowerOptions()).model) if node.name == "warp")
    picture = upstream(sample.inputs[0])
    assert HALF not in {value.dtype for value in picture}
    found = decided(prepared, io="fp16")
    assert found["image"][0] == "float16"  # the input is FP16 by itself: nothing is rounded, fewer bytes are moved


def test_a_mask_is_no_size():
    """Comparisons read FP32, so that nothing is rounded before; their results, cast to numbers, are FP16: 0 or 1."""
    body = (
        f"z = Constant <value_float = 0.0> () c = {CONV} (x, w) [compare] b = Greater (c, z) "
        f"[number] m = Cast <to = 1> (b) [masked] p = Mul (c, m) y = {CONV} (p, v)"
    )
    found = decided(small(body)[1])
    assert [found[node][0] for node in ("compare", "number", "masked")] == ["float32", "float16", "float16"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[odd] r = RandomNormal <shape = [1, 3, 1, 1]> ()", "RandomNormal makes FP32 values of its own"),
        ("[odd] r = HannWindow (three)", "HannWindow makes FP32 values of its own"),
        ("[odd] r = Celu (x)", "Celu of opset 18 does not take float16"),
        ("q = QuantizeLinear (x, step, zero) [odd] r = DequantizeLinear (q, step, zero)", "has scales of its own"),
    ],
)
def test_operators_without_an_fp16_form(body, words):
    """What makes floats of itself, has no FP16 form, or scales of its own stays FP32, and its reason says so."""
    constants = (
        "three = Constant <value_int = 3> () step = Constant <value_float = 0.02> () "
        "zero = Constant <value = int8 {0}> ()"
    )
    out = "float y" if "Hann" in body else OUT
    end = "y = ReduceMax <keepdims = 0> (r)" if "Hann" in body else f"m = Add (x, r) y = {CONV} (m, v)"
    _, prepared = small(f"{constants} {body} {end}", IMAGE, out, feeds=False)
    kind, reason = decided(prepared)["odd"]
    assert kind == "float32"
    assert words in reason


def test_fp16_coordinates_move_the_picture(monkeypatch):
    """What the rule is for: with FP16 coordinates the error of a warp at W = 2048 is more than ten times as large."""
    body = f"[turn] g = Transpose <perm = [0,2,3,1]> (flow) [warp] s = {SAMPLE} (x, g) y = {CONV} (s, w)"
    model, prepared = small(body, f'{IMAGE}, float["N",2,"H","W"] flow', feeds=False)
    y, x = np.meshgrid(np.linspace(-0.9, 0.9, 8), np.linspace(-0.9, 0.9, 2048), indexing="ij")
    picture = np.stack([0.5 + 0.5 * np.sin(np.arange(2048) * k) for k in (0.7, 0.8, 0.9)])
    picture = np.repeat(picture[None, :, None], 8, axis=2)
    feeds = {"x": picture.astype(np.float32), "flow": np.stack([x, y])[None].astype(np.float32)}
    good = error(model, lower(prepared, LowerOptions()), feeds)
    monkeypatch.setattr(precision, "_coordinates", lambda *_: iter(()))
    bad = error(model, lower(prepared, LowerOptions()), feeds)
    assert 10 * good < bad


def test_other_rules_are_needed(monkeypatch):
    """Without rules 3 and 6 the graph is no valid ONNX, or sizes are FP16; without rule 4 the result is infinite."""
    monkeypatch.setattr(precision, "_coordinates", lambda *_: iter(()))
    lowered = spoiled(monkeypatch, "_exact_by_kind", foreign_case("foreign, computed sizes"))
    graph = typed(lowered.model)
    sizes = [value for node in graph if is_op(node, "Resize") for value in upstream(node.inputs[3])]
    assert HALF in {value.dtype for value in sizes}
    body = f"k = Constant <value_float = 30000.0> () a = Add (x, k) b = Mul (a, a) c = Div (b, b) y = {CONV} (c, w)"
    model, prepared = small(body)
    assert error(model, lower(prepared, LowerOptions()), small_feeds(model)) < TOLERANCE
    monkeypatch.setattr(precision, "_out_of_range", lambda *_: iter(()))
    assert not np.isfinite(error(model, lower(prepared, LowerOptions()), small_feeds(model)))
