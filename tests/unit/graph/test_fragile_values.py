"""Small values that keep a quotient alive, and phases: kept FP32 where FP16 would lose them, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from refine_export.lower.calibration_feeds import flat_feeds
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, check_lowered, lower
from tests.support.foreign import CONV, IMAGE, OUT, kernel, model_of
from tests.support.lowering_cases import psnr, ready, small, small_feeds
from tests.support.lowering_checks import decided

LOW, SMALL, PHASE = ("float16", "default"), ("float32", "small"), ("float32", "phase")
AXES = (
    "ax = Constant <value_ints = [1]> () sp = Constant <value_ints = [2,3]> () half = Constant <value_float = -0.5> () "
)

KEPT_ALIVE = {
    "a norm": (1e-12, "n = ReduceL2 (c, ax) m = Clip (n, e) [end] d = Div (c, m)"),
    "a norm, written out": (
        1e-7,
        "q = Mul (c, c) s = ReduceSum (q, ax) r = Sqrt (s) m = Max (r, e) [end] d = Div (c, m)",
    ),
    "a variance": (
        1e-10,
        "m = ReduceMean (c, sp) s = Sub (c, m) q = Mul (s, s) a = ReduceMean (q, sp) b = Add (a, e) r = Sqrt (b) "
        "[end] d = Div (s, r)",
    ),
    "a variance to the power of -0.5": (
        1e-9,
        "m = ReduceMean (c, sp) s = Sub (c, m) q = Mul (s, s) a = ReduceMean (q, sp) b = Add (a, e) r = Pow (b, half) "
        "[end] d = Mul (s, r)",
    ),
    "a sum": (1e-8, "r = Relu (c) s = ReduceSum (r, ax) a = Add (s, e) [end] d = Div (r, a)"),
    "a logarithm": (1e-8, "r = Relu (c) a = Add (r, e) [end] d = Log (a)"),
    "an inverse": (1e-6, "r = Abs (c) a = Add (e, r) i = Reciprocal (a) [end] d = Mul (c, i)"),
    "zeros replaced": (1e-7, "r = Relu (c) z = Equal (r, nil) a = Where (z, e, r) [end] d = Div (r, a)"),
}


@pytest.mark.parametrize("name", KEPT_ALIVE)
def test_what_a_small_constant_keeps_from_zero(name):
    """On black a convolution without bias gives zeros: the constant is FP32, and so is all behind it that hangs on it.

    In FP16 it was zero again when it was divided by, and 0 / 0 is not a number.
    """
    constant, body = KEPT_ALIVE[name]
    constants = f"{AXES} e = Constant <value_float = {constant}> () nil = Constant <value_float = 0.0> ()"
    model, prepared = small(f"{constants} c = {CONV} (x, w) {body} [last] y = {CONV} (d, v)")
    prepared = calibrated(prepared, flat_feeds(("feed", small_feeds(model))))
    lowered = lower(prepared, LowerOptions())
    types = {node.node: node.type for node in lowered.nodes}
    assert types["last"] == "float16"
    for value in (0.0, 0.5, 1.0):
        assert psnr(model, lowered, {"x": np.full((1, 3, 16, 24), value, np.float32)}) > 50, value
    assert psnr(model, lowered, small_feeds(model)) > 65


def test_small_values_that_only_a_feed_shows():
    """No constant keeps a sum of squares alive: its smallest value is measured."""
    body = (
        f"{AXES} t = Mul (x, k) q = Mul (t, t) n = ReduceSum (q, sp) [root] r = Sqrt (n) "
        f"d = Div (t, r) [last] y = {CONV} (d, v)"
    )
    model = model_of(f"{kernel('v', 3, 3, 3, 3)} {body}", IMAGE, OUT, k=np.float32([3e-4]))
    prepared = ready(model, small_feeds(model))
    found = decided(prepared)
    assert (found["root"][0], found["last"]) == ("float32", LOW)
    assert prepared.ranges["n"].smallest < 6e-5
    assert psnr(model, lower(prepared, LowerOptions()), small_feeds(model)) > 60


def test_tensors_that_are_small_throughout():
    """Features of 1e-6 that are scaled back would be multiples of 6e-8."""
    body = f"c = {CONV} (x, w) [down] s = Mul (c, k) t = Tanh (s) [up] u = Mul (t, j) [last] y = {CONV} (u, v)"
    model = model_of(
        f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)} {body}",
        IMAGE,
        OUT,
        k=np.float32([1e-3]),
        j=np.float32([1e3]),
    )
    prepared = ready(model, feeds := small_feeds(model, 1e-2))
    found = decided(prepared)
    assert (found["down"], found["up"], found["last"]) == (("float32", "range"), ("float32", "range"), LOW)
    assert psnr(model, lower(prepared, LowerOptions()), feeds) > 60


def test_ordinary_quotients_stay_fp16():
    """By a sum of exponentials, a number or a size, and with a constant that FP16 holds, nothing is lost."""
    body = (
        f"{AXES} e = Constant <value_float = 0.01> () two = Constant <value_float = 2.0> () c = {CONV} (x, w) "
        f"[power] q = Pow (c, two) [sum] a = Add (q, e) [root] r = Sqrt (a) [end] d = Div (c, r) "
        f"h = Div (d, two) y = {CONV} (h, v)"
    )
    found = decided(small(body)[1])
    assert {found[name] for name in ("power", "sum", "root", "end")} == {LOW}


PERIODS = {
    "Sin": "[end] d = Sin (a)",
    "Cos": "[end] d = Cos (a)",
    "a fraction": "f = Floor (a) [end] d = Sub (a, f)",
    "Mod": "o = Constant <value_float = 1.0> () [end] d = Mod <fmod = 1> (a, o)",
    "Exp": "n = Neg (a) [end] d = Exp (n)",
    "Pow": "o = Constant <value_float = 0.99> () [end] d = Pow (o, a)",
}


@pytest.mark.parametrize("name", PERIODS)
@pytest.mark.parametrize("reach", [2, 987.3])
def test_phases(name, reach):
    """A half near 987 has steps of 0.5: what makes arguments of functions that repeat is FP32 there, not at 2."""
    scales, weights = 10 ** (-np.arange(16) / 4), np.random.default_rng(0).standard_normal((16, 8))
    model = model_of(
        f"[scale] a = Mul (t, k) {PERIODS[name]} y = MatMul (d, lin)",
        "float[1,1] t",
        "float[1,8] y",
        k=scales[None].astype(np.float32),
        lin=weights.astype(np.float32),
    )
    feeds = {"t": np.float32([[reach]])}
    prepared = ready(model, feeds)
    found = decided(prepared)
    assert found["scale"] == (PHASE if reach > 8 else LOW)
    assert psnr(model, lower(prepared, LowerOptions()), feeds) > 55


def test_a_normalization_keeps_no_trunk():
    """The sum that a normalization begins with is not FP32 for it: both sides of the quotient read it as it is."""
    body = (
        f"{AXES} e = Constant <value_float = 0.000001> () two = Constant <value_float = 2.0> () c = {CONV} (x, w) "
        f"[trunk] t = Add (c, x) [mean] m = ReduceMean (t, ax) s = Sub (t, m) q = Pow (s, two) v1 = ReduceMean (q, ax) "
        f"a = Add (v1, e) r = Sqrt (a) [end] d = Div (s, r) [last] o = {CONV} (d, v) y = Add (o, t)"
    )
    found = decided(small(body)[1])
    assert (found["trunk"], found["last"], found["end"], found["mean"]) == (LOW, LOW, SMALL, LOW)


@pytest.mark.parametrize(("scale", "kind"), [(30.0, "float32"), (0.5, "float16")])
def test_phases_that_a_convolution_makes(scale, kind):
    """Fourier features of what was learned: the convolution is FP32 with them, where it reaches as far."""
    body = f"k = Constant <value_float = {scale}> () [first] c = {CONV} (x, w) a = Mul (c, k) "
    body += f"s = Sin (a) y = {CONV} (s, v)"
    model = model_of(f"{kernel('w', 3, 3, 3, 3, scale=0.5)} {kernel('v', 3, 3, 3, 3)} {body}", IMAGE, OUT)
    prepared = ready(model, small_feeds(model))
    assert decided(prepared)["first"][0] == kind
    assert psnr(model, lower(prepared, LowerOptions()), small_feeds(model)) > 65


RAMP = np.linspace(1, 0, 24)
QUOTIENTS = {
    "a quotient": "d = Div (s, c)",
    "a root": "r = Abs (c) q = Sqrt (r) d = Div (s, q)",
    "a logarithm": "d = Log (c)",
}


@pytest.mark.parametrize(("exponent", "kept"), [(-7, True), (-3, False)])
@pytest.mark.parametrize("name", QUOTIENTS)
def test_a_convolution_that_makes_a_small_divisor(name, exponent, kept):
    """From 1e-7 to 1 over the picture: in FP16 the left of it is zero, in the convolution and before it."""
    average = "k = Constant <value_float = 0.037> () one = Constant <value_ints = [3, 3, 3, 3]> () t = Expand (k, one)"
    body = f"{average} s = Mul (x, ramp) [small] c = {CONV} (s, t) {QUOTIENTS[name]} [last] y = {CONV} (d, v)"
    model = model_of(f"{kernel('v', 3, 3, 3, 3)} {body}", IMAGE, ramp=(10.0 ** (exponent * RAMP)).astype(np.float32))
    feeds = {"x": 0.5 + small_feeds(model)["x"] / 2}
    lowered = lower(ready(model, feeds), LowerOptions())
    types = {node.node: node.type for node in lowered.nodes}
    assert (types["small"], types["last"]) == ("float32" if kept else "float16", "float16")
    assert psnr(model, lowered, feeds) > 55


def test_a_remainder_repeats_as_a_sine_does():
    """A value that is rounded to a whole number is off by one at most, a remainder by as much as the divisor."""
    body = f"k = Constant <value_float = 500.0> () one = Constant <value_float = 1.0> () [c] c = {CONV} (x, w) "
    model, prepared = small(f"{body} p = Mul (c, k) m = Mod <fmod = 1> (p, one) y = {CONV} (m, v)")
    assert decided(prepared)["c"] == PHASE
    assert psnr(model, lower(prepared, LowerOptions()), small_feeds(model)) > 70


@pytest.mark.parametrize(
    "body",
    [
        f"c = {CONV} (x, w) a = Constant <value_int = 3> () [sum] p = CumSum (c, a) y = {CONV} (p, v)",
        "e = Shape <start = 3, end = 4> (x) n = Squeeze (e) z = Constant <value_int = 0> () "
        "i = Constant <value_int = 1> () r = Range (z, n, i) f = Cast <to = 1> (r) s = Shape (x) p = Expand (f, s) "
        f"c = {CONV} (p, w) q = Add (c, x) y = {CONV} (q, v)",
    ],
    ids=["a running sum of features", "features of positions"],
)
def test_features_are_no_positions(body):
    """The lowered file had an error of our own lint, which is a bug of this package."""
    model, prepared = small(body)
    lowered = lower(prepared, LowerOptions())
    assert check_lowered(lowered, model) == ()
    assert {node.type for node in lowered.nodes if node.operator == "CumSum"} <= {"float32"}
    assert psnr(model, lowered, small_feeds(model)) > 60
