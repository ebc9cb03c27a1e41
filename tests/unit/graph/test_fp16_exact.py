"""Operators whose results need no rounding get none, and no more Casts are written than there are roundings."""

import numpy as np
import pytest

from refine_export.graph import fp16_emulation as half
from refine_export.graph.fp16_emulation import EXACT
from tests.support.half_models import assert_same, computed, model_of, operators, patterns, quiet_numpy  # noqa: F401 (a fixture)

CUBE = "float16[1,16,64,64]"
EXACT_NODES = {
    "Abs": "y = Abs (x)",
    "Concat": "y = Concat <axis=1> (x, z)",
    "Constant": "c = Constant <value = float16[1] {11878}> () y = Max (x, c)",
    "ConstantOfShape": "s = Shape (x) c = ConstantOfShape <value = float16[1] {11878}> (s) y = Max (x, c)",
    "DepthToSpace": "y = DepthToSpace <blocksize=4> (x)",
    "Expand": "y = Expand (x, five)",
    "Flatten": "y = Flatten (x)",
    "Gather": "y = Gather <axis=2> (x, places)",
    "GatherElements": "s = Shape (x) i = ConstantOfShape <value = int64[1] {5}> (s) y = GatherElements <axis=3> (x, i)",
    "GatherND": "y = GatherND <batch_dims=1> (x, places2)",
    "Identity": "y = Identity (x)",
    "Max": "y = Max (x, z)",
    "Min": "y = Min (x, z)",
    "Neg": "y = Neg (x)",
    "Pad": "y = Pad (x, pads, corner)",
    "Relu": "y = Relu (x)",
    "Reshape": "y = Reshape (x, flat)",
    "Slice": "y = Slice (x, places, ends)",
    "SpaceToDepth": "y = SpaceToDepth <blocksize=4> (x)",
    "Split": "y, rest = Split <axis=1, num_outputs=2> (x)",
    "Squeeze": "y = Squeeze (x)",
    "Tile": "y = Tile (x, twice)",
    "Transpose": "y = Transpose <perm=[0,2,3,1]> (x)",
    "Unsqueeze": "y = Unsqueeze (x, places)",
    "Where": "b = Less (x, z) y = Where (b, x, z)",
}
CONSTANTS = {
    "five": np.array([2, 1, 16, 64, 64]),
    "places": np.array([1, 3]),
    "places2": np.array([[1, 3]]),
    "ends": np.array([1, 9]),
    "pads": np.array([0, 0, 1, 2, 0, 0, 3, 4]),
    "corner": np.float16(0.1),
    "flat": np.array([-1]),
    "twice": np.array([2, 1, 1, 1]),
}


def seen_unrounded(node):
    """A model whose FP32 output is the FP16 value `y` of `node` as it is, with no rounding to come."""
    used = {name: array for name, array in CONSTANTS.items() if name in node.replace("(", " ").replace(",", " ")}
    return model_of(f"{node} out = Cast <to=1> (y)", f"{CUBE} x, {CUBE} z", "float[] out", **used)


def test_each_of_the_list_is_tested():
    assert set(EXACT_NODES) == EXACT


@pytest.mark.parametrize("op", sorted(EXACT_NODES))
def test_what_is_not_rounded_needs_no_rounding(op, monkeypatch):
    """Over all FP16 values: the same bits without the short cut, which does leave Casts out."""
    x, z = (patterns("float16", seed).reshape(1, 16, 64, 64) for seed in (4, 5))
    model = seen_unrounded(EXACT_NODES[op])
    short, short_casts = computed(model, x=x, z=z), operators(model).count("Cast")
    monkeypatch.setattr(half, "EXACT", EXACT - {op})
    assert_same(short, computed(model, x=x, z=z))
    assert operators(model).count("Cast") > short_casts


@pytest.mark.parametrize(
    ("body", "given", "made", "expected"),
    [
        ("y = Sqrt (x)", "float16", "float16", "Cast Sqrt Cast"),
        ("t = Sqrt (x) y = Sqrt (t)", "float16", "float16", "Cast Sqrt Cast Cast Sqrt Cast"),
        ("h = Cast <to=10> (x) t = Neg (h) y = Cast <to=1> (t)", "float", "float", "Cast Cast Neg Identity"),
        ("t = Cast <to=1> (x) u = Neg (t) y = Cast <to=10> (u)", "float16", "float16", "Cast Neg Cast"),
        ("idle = Sqrt (x) y = Neg (x)", "float16", "float16", "Cast Sqrt Neg Cast"),
    ],
)
def test_no_more_casts_than_roundings(body, given, made, expected):
    """A pair costs three passes over memory."""
    found = operators(model_of(body, f"{given}[n] x", f"{made}[m] y"))
    assert found == expected.split()


def test_why_clip_is_not_among_them(monkeypatch):
    """Without bounds its FP32 kernel has those of FP32: -Inf becomes no FP16 value (in some sizes of MaxPool too)."""
    model = seen_unrounded("y = Clip (x)")
    x = np.full((1, 16, 64, 64), -np.inf, np.float16)
    assert np.isneginf(computed(model, x=x, z=x)).all()
    monkeypatch.setattr(half, "EXACT", EXACT | {"Clip"})
    assert (computed(model, x=x, z=x) == np.finfo(np.float32).min).all()
