"""What FP16 does not hold stays FP32: large values, sums that overflow, weights; and NaN is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from refine_export.errors import RequestError
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower
from tests.support.foreign import CONV, IMAGE, kernel, model_of
from tests.support.lowering_cases import OUT_ANY, TOLERANCE, error, ready, small, small_feeds
from tests.support.lowering_checks import decided


def test_large_values_stay_fp32():
    """A tensor that reaches 20000 keeps its maker and its readers in FP32; all others, and all to 8188, are FP16."""
    body = (
        f"k = Constant <value_float = -8.0> () a = {CONV} (x, w) [before] b = Relu (a) [makes] c = Mul (b, k) "
        f"[reads] d = Tanh (c) [after] e = Neg (d) [second] f = {CONV} (e, v) y = Identity (f)"
    )
    model, cold = small(body, feeds=False)
    reach = calibrated(cold, [("feed", small_feeds(model))]).ranges["c"].largest
    for scale, hot in ((20000 / reach, True), (8200 / reach, True), (8180 / reach, False)):
        feeds = [("small", small_feeds(model)), ("large", small_feeds(model, scale))]
        prepared = calibrated(cold, feeds)
        assert calibrated(cold, feeds[::-1]).ranges == prepared.ranges
        found = decided(prepared)
        for node in ("makes", "reads"):
            reason = f"c reaches {prepared.ranges['c'].largest:.4g} on the calibration feeds; FP16 ends at 65504"
            assert (found[node] == ("float32", reason)) == hot
        assert {found[node][0] for node in ("before", "after", "second")} == {"float16"}
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
    """Of side * side values to 3 in magnitude, or of their squares: a sum that may pass 8188 is FP32, others FP16."""
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
        kind, reason = decided(prepared)["sum"]
        assert (kind == "float16") == (side <= largest_side), (side, reason)
        if side > largest_side:
            assert reason.startswith("its sum may reach ")
            assert reason.endswith("; FP16 ends at 65504")


def test_a_weight_of_a_million():
    """It is named, and the convolution that has it stays FP32; the other one is FP16, and the result is right."""
    model, _ = small(f"[hot] a = {CONV} (x, w) s = Sigmoid (a) [cold] y = {CONV} (s, v)", feeds=False)
    weights = next(node for node in model.graph.node if node.output[0] == "w").attribute[0].t
    values = numpy_helper.to_array(weights).copy()
    values[0, 0, 0, 0] = 1e6
    weights.CopyFrom(numpy_helper.from_array(values, "w"))
    prepared = ready(model, small_feeds(model, 1e-4))
    found = decided(prepared)
    assert found["hot"] == ("float32", "constant w does not fit float16: 1 values overflow")
    assert found["cold"][0] == "float16"
    lowered = lower(prepared, LowerOptions())
    assert lowered.notes == ("w (to 1e+06) does not fit float16: 1 values overflow; its readers stay FP32",)
    assert error(model, lowered, small_feeds(model, 1e-4)) < TOLERANCE
    stored = {tensor.name: tensor.data_type for tensor in lowered.model.graph.initializer}
    assert stored == {"w": TensorProto.FLOAT, "v": TensorProto.FLOAT16}
    assert 0 < lowered.macs_low < 1


def test_weights_that_vanish():
    """Those without weight in the norm are counted, and stay FP16; a kernel that would vanish whole stays FP32."""
    model, _ = small(f"[few] a = {CONV} (x, w) [all] y = {CONV} (a, v)", feeds=False)
    for node, count in ((model.graph.node[0], 5), (model.graph.node[1], 81)):
        tensor = node.attribute[0].t
        values = numpy_helper.to_array(tensor).copy()
        values.ravel()[:count] = 1e-9
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    prepared = ready(model, small_feeds(model))
    found = decided(prepared)
    assert found["few"][0] == "float16"
    assert found["all"] == ("float32", "constant v does not fit float16: norm changes by 1")
    first, second = lower(prepared, LowerOptions()).notes
    assert first == "v (to 1e-09) does not fit float16: norm changes by 1; its readers stay FP32"
    assert second == "values so small that they become 0 in float16, without weight in the norm: w 5"


def test_the_type_that_a_weight_is_checked_for():
    """In a BF16 file transposed convolutions are FP16: their weights are held against FP16, the others against BF16."""
    body = f"[conv] a = {CONV} (x, w) [up] y = ConvTranspose <pads = [1,1,1,1]> (a, v)"
    model, _ = small(body, feeds=False)
    for node in model.graph.node[:2]:
        tensor = node.attribute[0].t
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e7), tensor.name))
    prepared = ready(model, None, precision="bf16")
    found = decided(prepared, precision="bf16")
    assert found["conv"][0] == "bfloat16"
    assert found["up"][0] == "float32"
    assert "constant v does not fit float16: 7" in found["up"][1]


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (0, 1, 7, 11), (0, 2, 15, 23)])
def test_calibration_finds_a_nan_anywhere(place):
    """One NaN in one tensor, wherever it stands, is found: the maximum of ONNX Runtime passes over it."""
    bounds = "z = Constant <value_float = 0.0> () o = Constant <value_float = 1.0> ()"
    model, prepared = small(f"{bounds} r = Sqrt (x) c = Clip (r, z, o) y = {CONV} (c, w)", feeds=False)
    feeds = small_feeds(model)
    calibrated(prepared, [("good", feeds)])
    feeds["x"][place] = -1
    with pytest.raises(RequestError, match="becomes NaN or infinite in FP32 on the feed bad"):
        calibrated(prepared, [("bad", feeds)])
