"""What enlarges rounding errors is found by measurement and becomes FP32, whatever the operator; nothing else does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refine_export.lower import amplified_errors
from refine_export.lower.amplified_errors import GOOD_DB, lower_measured
from refine_export.lower.fp32_islands import Bench
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import lower
from refine_export.support.progress import Silent
from tests.support.foreign import CONV, IMAGE, OUT, model_of
from tests.support.lowering_cases import psnr, ready, small_feeds

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    name: (RANDOM.standard_normal((outputs, inputs, 3, 3)) * (2 / (inputs * 9)) ** 0.5).astype(np.float32)
    for name, outputs, inputs in (("w1", 16, 3), ("w2", 16, 16), ("w3", 16, 16), ("w4", 16, 16), ("wo", 3, 16))
}
DEEP = f"c1 = {CONV} (x, w1) r1 = Relu (c1) c2 = {CONV} (r1, w2) r2 = Relu (c2) c = {CONV} (r2, w3)"
ONES = {"s": np.ones(16, np.float32), "b": np.zeros(16, np.float32)}
LAYER_NORM = (
    "o = Add (c, k) t = Transpose <perm = [0,2,3,1]> (o) [culprit] n = LayerNormalization (t, s, b) "
    "d = Transpose <perm = [0,3,1,2]> (n)"
)
SHARED = f"i = Add (x, k) e = {CONV} (i, w5) {LAYER_NORM.replace('o = Add (c, k) ', '').replace('(o)', '(e)')}"
KINDS = {
    "LayerNormalization of an offset": (LAYER_NORM, {"k": np.float32([100]), **ONES}),
    "an offset in front of a convolution": (
        SHARED,
        {"k": np.float32([100]), "w5": WEIGHTS["w1"][:1].repeat(16, 0) + WEIGHTS["w1"] * 1e-3, **ONES},
    ),
    "BatchNormalization of an offset": (
        "o = Add (c, k) [culprit] d = BatchNormalization (o, s, b, m, v)",
        {"k": np.float32([500]), "m": np.full(16, 500, np.float32), "v": np.full(16, 0.01, np.float32), **ONES},
    ),
    "a quotient": ("a = Abs (c) e = Add (a, k) [culprit] d = Reciprocal (e)", {"k": np.float32([1e-3])}),
    "a quotient of convolutions": (f"e = {CONV} (r2, w4) p = Mul (c, e) [culprit] d = Div (r2, p)", {}),
    "a power": ("a = Abs (c) e = Add (a, k) [culprit] d = Pow (e, q)", {"k": np.float32(1e-3), "q": np.float32(-1.5)}),
    "a logarithm": ("a = Abs (c) e = Add (a, k) [culprit] d = Log (e)", {"k": np.float32([1e-4])}),
    "the largest of nearly equal values": (
        "z = Mul (c, k) e = Add (z, j) [culprit] i = ArgMax <axis = 1> (e) f = Cast <to = 1> (i) g = Shape (c) "
        "d = Expand (f, g)",
        {"k": np.float32([1e-2]), "j": np.float32([1])},
    ),
    "large logits": (
        "e = Add (c, k) l = Mul (e, j) [culprit] d = Softmax <axis = 1> (l)",
        {"k": np.float32([100]), "j": np.float32([20])},
    ),
    "a comparison": ("[culprit] g = Greater (c, k) d = Cast <to = 1> (g)", {"k": np.float32(0)}),
    "a sign": ("[culprit] d = Sign (c)", {}),
}


def case(body, constants, scale=1.0, **options):
    """Return a model, ready to be lowered and measured on one feed, and what it was measured with."""
    options = LowerOptions(**options)
    model = model_of(f"{DEEP} {body} y = {CONV} (d, wo)", IMAGE, OUT, **WEIGHTS, **constants)
    feeds = small_feeds(model, scale)
    prepared = ready(model, feeds, precision=options.precision)
    return model, prepared, options, Bench(prepared, options, [("feed", feeds)])


@pytest.mark.parametrize("name", KINDS)
def test_what_enlarges_errors_becomes_fp32(name):
    model, prepared, options, bench = case(*KINDS[name])
    assert bench.accuracy(lower(prepared, options)).psnr_db < 58
    made = lower_measured(prepared, options, bench, Silent())
    assert made.accuracy.psnr_db >= GOOD_DB["fp16"]
    assert [note for note in made.notes if "culprit enlarges rounding errors" in note]
    rules = {node.node: node.rule for node in made.lowered.nodes}
    assert rules["culprit"] in ("amplified", "small", "range", "no-low-form")
    other = {key: value[..., ::-1, ::-1].copy() for key, value in small_feeds(model, 0.9).items()}
    assert psnr(model, made.lowered, other) > 50


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_nothing_changes_where_outputs_are_good(monkeypatch, precision):
    """And nothing inside of the graph is measured."""
    _, prepared, options, bench = case("d = Relu (c)", {}, precision=precision)
    monkeypatch.setattr(amplified_errors, "amplifiers", lambda *_: pytest.fail("measured in vain"))
    made = lower_measured(prepared, options, bench, Silent())
    assert (made.lowered.nodes, made.notes) == (lower(prepared, options).nodes, ())


def test_bf16_is_judged_by_its_own_bits():
    _, prepared, options, bench = case(*KINDS["LayerNormalization of an offset"], precision="bf16")
    assert bench.accuracy(lower(prepared, options)).psnr_db < 30
    assert GOOD_DB["bf16"] <= lower_measured(prepared, options, bench, Silent()).accuracy.psnr_db < GOOD_DB["fp16"]


def test_values_that_overflow_between_feeds_become_fp32():
    """Infinities of the lowered graph alone are an error without bound."""
    body = "q = Mul (c, k) [culprit] d = Exp (q)"
    _, prepared, options, bench = case(body, {"k": np.float32([6])})
    prepared = type(prepared)(model=prepared.model, signature=None, faults=())  # as if nothing were known of ranges
    assert bench.accuracy(lower(prepared, options)).psnr_db == -math.inf
    assert lower_measured(prepared, options, bench, Silent()).accuracy.psnr_db >= GOOD_DB["fp16"]


def test_errors_that_add_up_are_noted(monkeypatch):
    """Where no node stands out, a note has the figure and what to do."""
    monkeypatch.setitem(GOOD_DB, "fp16", 90.0)
    _, prepared, options, bench = case("d = Relu (c)", {})
    made = lower_measured(prepared, options, bench, Silent())
    assert made.lowered.nodes == lower(prepared, options).nodes
    (note,) = made.notes
    assert note.startswith(f"{made.accuracy.psnr_db:.1f} dB from FP32")
    assert "errors add up" in note
    assert "--target-psnr 90" in note
