"""The rewrites for ONNX Runtime on a CPU compute what the operators compute, at every size, but for FP32 rounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from refine_export.graph.cpu_tuning import tune_for_cpu
from refine_export.graph.prepare import prepare
from tests.support import foreign

X, Y = 'float["N",16,"H","W"] x', 'float["N","C","h","w"] y'
UP = "y = ConvTranspose <strides=[2,2], pads=[1,1,1,1]{more}> (x, w{bias})"
RNG = np.random.default_rng(0)


SIZES = ((1, 1), (5, 8), (32, 17))


def tuned(body: str, sizes: Sequence[tuple[int, int]] = SIZES, **weights: np.ndarray) -> tuple[list[str], float, float]:
    """Operators after the rewrite, the largest error against the file as it was, and the largest value."""
    model = foreign.model_of(body, X, Y)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    graph = prepare(ir.from_proto(model))
    tune_for_cpu(graph)
    rewritten = ir.to_proto(graph)
    errors, largest = [], []
    for height, width in sizes:
        x = RNG.normal(size=(2, 16, height, width)).astype(np.float32)
        before, after = (
            ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
            for one in (model, rewritten)
        )
        errors.append(np.abs(after - before).max())
        largest.append(np.abs(before).max())
    return [node.op_type for node in graph.graph], max(errors), max(largest)


@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolution_is_one_convolution(bias: bool) -> None:
    weights = {"w": RNG.normal(size=(16, 6, 4, 4)).astype(np.float32)}
    if bias:
        weights["b"] = RNG.normal(size=6).astype(np.float32)
    operators, error, largest = tuned(UP.format(more="", bias=", b" if bias else ""), **weights)
    assert operators == ["Conv", "DepthToSpace", "Slice"]
    assert error < 2e-6 * largest


@pytest.mark.parametrize("shape", [(16, 1, 1), (1, 16, 1, 1)])
def test_slopes_by_channel(shape: tuple[int, ...]) -> None:
    slopes = np.linspace(-0.5, 1.5, 16, dtype=np.float32).reshape(shape)
    operators, error, largest = tuned("y = PRelu (x, s)", s=slopes)
    assert sorted(operators) == ["Add", "BatchNormalization", "BatchNormalization", "Relu"]
    assert 0 < error < 2e-6 * largest


def test_one_slope() -> None:
    operators, error, _ = tuned("y = PRelu (x, s)", s=np.full(1, 0.25, np.float32))
    assert operators == ["LeakyRelu"]
    assert error == 0


@pytest.mark.parametrize("axis", [1, -3])
def test_convolution_of_joined_channels_is_split(axis: int) -> None:
    body = f"j = Concat <axis={axis}> (x, x) y = Conv <pads=[1,1,1,1]> (j, w, b)"
    weights = {"w": RNG.normal(size=(6, 32, 3, 3)).astype(np.float32), "b": RNG.normal(size=6).astype(np.float32)}
    operators, error, largest = tuned(body, **weights)
    assert operators == ["Conv", "Conv", "Add"]
    assert error < 2e-6 * largest


HALF = np.array([1, 1, 0.5, 0.5], np.float32)
HALVE = 'y = Resize <mode="{mode}"{more}> (x, , s)'


def test_half_the_size_is_an_average() -> None:
    operators, error, _ = tuned(HALVE.format(mode="linear", more=""), sizes=((2, 2), (5, 8), (32, 17)), s=HALF)
    assert operators == ["AveragePool"]
    assert error < 1e-6


@pytest.mark.parametrize(
    ("mode", "more", "scales"),
    [
        ("nearest", "", HALF),
        ("linear", ', coordinate_transformation_mode="asymmetric"', HALF),
        ("linear", ", antialias=1", HALF),
        ("linear", "", np.array([1, 1, 0.5, 1], np.float32)),
        ("linear", "", np.array([1, 1, 0.25, 0.25], np.float32)),
    ],
)
def test_other_resizes_stay(mode: str, more: str, scales: np.ndarray) -> None:
    operators, error, _ = tuned(HALVE.format(mode=mode, more=more), sizes=((8, 12),), s=scales)
    assert operators == ["Resize"]
    assert error == 0


def warped(channels: int, mode: str = "bilinear") -> tuple[Counter[str], tuple[str, ...], float]:
    """Operators after the rewrite of a warp, the names of the replaced nodes, and the largest error."""
    warp = f'[warp] y = GridSample <mode="{mode}", padding_mode="border", align_corners=1> (x, g)'
    inputs = f'float["N",{channels},"H","W"] x, float["N","H","W",2] g'
    model = foreign.model_of(warp, inputs, f'float["N",{channels},"H","W"] y')
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "unused"))
    graph = prepare(ir.from_proto(model))
    replaced = tune_for_cpu(graph)
    feeds = {"x": RNG.random((2, channels, 9, 13), np.float32), "g": RNG.normal(size=(2, 9, 13, 2)).astype(np.float32)}
    before, after = (
        ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for one in (model, ir.to_proto(graph))
    )
    assert "unused" not in graph.graph.initializers
    return Counter(node.op_type for node in graph.graph), replaced, float(np.abs(after - before).max())


@pytest.mark.parametrize(("channels", "gathers", "expands"), [(1, 4, 0), (3, 12, 0), (16, 4, 4)])
def test_samplers_are_written_out(channels: int, gathers: int, expands: int) -> None:
    """The channels of a picture are sampled one by one, those of features together."""
    operators, replaced, error = warped(channels)
    assert (operators["GridSample"], operators["GatherElements"], operators["Expand"]) == (0, gathers, expands)
    assert replaced == ("warp",)
    assert error < 1e-6


def test_a_sampler_without_a_gather_form_stays() -> None:
    operators, replaced, error = warped(3, "nearest")
    assert operators == {"GridSample": 1}
    assert replaced == ()
    assert error == 0


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        (UP.format(more=", output_padding=[1,1]", bias=""), {"w": (16, 6, 4, 4)}),
        (UP.format(more=", group=2", bias=""), {"w": (16, 6, 4, 4)}),
        (UP.format(more="", bias=""), {"w": (16, 6, 3, 3)}),
        ("[slope] s = Shape (x) [cast] c = Cast <to=1> (s) [act] y = PRelu (x, c)", {}),
        ("j = Concat <axis=1> (x, x) c = Conv (j, w) r = Relu (j) y = Concat <axis=1> (c, r)", {"w": (6, 32, 1, 1)}),
        ("j = Concat <axis=2> (x, x) y = Conv (j, w)", {"w": (6, 16, 1, 1)}),
        ("j = Concat <axis=1> (x, x) y = Conv <group=2> (j, w)", {"w": (6, 16, 1, 1)}),
    ],
    ids=["output-padding", "groups", "kernel", "computed-slope", "read-twice", "rows", "groups-of-joined"],
)
def test_others_stay(body: str, weights: dict[str, tuple[int, ...]]) -> None:
    model = foreign.model_of(body, X, Y)
    model.graph.initializer.extend(
        numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), name) for name, shape in weights.items()
    )
    assert tune_for_cpu(prepare(ir.from_proto(model))) == ()
