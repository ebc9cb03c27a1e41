"""A convolution and what fuses with it: rounded at each step, or once at the end of the kernel."""

import numpy as np
import pytest

from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from tests.support.half_models import assert_same, computed, model_of, quiet_numpy  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def conv():
    """Constants, an input, and what FP32 makes of them before any rounding."""
    generator = np.random.default_rng(0)
    shapes = {"x": (1, 8, 16, 16), "w": (8, 8, 3, 3), "b": (8,), "s": (8, 1, 1)}
    arrays = {name: generator.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    wide = {name: array.astype(np.float32) for name, array in arrays.items()}
    model = model_of("y = Conv (x, w, b)", "float[1,8,16,16] x", "float[1,8,14,14] y", w=wide["w"], b=wide["b"])
    return arrays, computed(model, OrtRunner, {"optimize": False}, x=wide["x"])


def behind_conv(conv, nodes, rounding, outputs="float16[1,8,14,14] y"):
    arrays = dict(conv[0])
    x = arrays.pop("x")
    model = model_of(f"c = Conv (x, w, b) {nodes}", "float16[1,8,16,16] x", outputs, **arrays)
    with HalfRunner(model, rounding=rounding) as runner:
        return runner.run({"x": x})["y"]


def test_a_convolution_is_summed_in_fp32_and_rounded_once(conv):
    for rounding in ("every", "final"):
        assert_same(behind_conv(conv, "y = Neg (c)", rounding), -conv[1].astype(np.float16))


def test_a_fused_kernel_rounds_at_its_end(conv):
    """Convolution, PReLU, Mul: each result, or the last alone."""

    def expected(step):
        value = step(conv[1])
        value = step(np.where(value < 0, value * slope, value))
        return (value * slope).astype(np.float16)

    nodes, slope = "p = PRelu (c, s) y = Mul (p, s)", conv[0]["s"].astype(np.float32)
    every, final = (behind_conv(conv, nodes, rounding) for rounding in ("every", "final"))
    assert_same(every, expected(lambda value: value.astype(np.float16).astype(np.float32)))
    assert_same(final, expected(lambda value: value))
    assert (every != final).mean() > 0.1


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ("p = PRelu (c, s) y = Add (p, c)", ""),  # two readers
        ("y = Mul (c, c)", ""),  # one reader, twice
        ("y = PRelu (c, s)", ", float16[1,8,14,14] c"),  # an output
        ("m = ReduceMean <keepdims=1> (x) y = Mul (c, m)", ""),  # the other operand is computed
        ("d = Cast <to=1> (c) e = Cast <to=1> (s) p = PRelu (d, e) y = Cast <to=10> (p)", ""),  # another type
        ("t = Identity (c) y = PRelu (t, s)", ""),  # no pointwise operator
    ],
)
def test_what_does_not_fuse_is_rounded(conv, nodes, outputs):
    outputs = "float16[1,8,14,14] y" + outputs
    every, final = (behind_conv(conv, nodes, rounding, outputs) for rounding in ("every", "final"))
    assert_same(every, final)


def test_relu_behind_an_unrounded_convolution_rounds(conv):
    """It is in the list of what needs no rounding, of what is rounded already."""
    out = behind_conv(conv, "r = Relu (c) y = Cast <to=1> (r)", "final", "float[1,8,14,14] y")
    assert_same(out, np.maximum(conv[1], 0).astype(np.float16).astype(np.float32))
