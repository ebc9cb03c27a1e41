"""The Gather form of GridSample samples as PyTorch does, for every size, coordinate and type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto
from torch.nn.functional import grid_sample

from refine_export.errors import GraphError
from refine_export.graph.gather_sampler import lower_grid_sample
from refine_export.graph.tensorrt_ops import SUPPORTED_OPS
from tests.support import foreign
from tests.support.exports import Exports
from tests.support.refusals import refused

Array = NDArray[np.floating[Any]]

GOOD = 'mode="bilinear", padding_mode="border", align_corners=1'
WARP = f"[warp] y = GridSample <{GOOD}> (x, g)"
X, GRID, Y = 'float["N","C","H","W"] x', 'float["N","h","w",2] g', 'float["N","C","h","w"] y'
DYNAMIC = f"{X}, {GRID}", Y
STATIC = "float[2,3,5,7] x, float[2,4,6,2] g", "float[2,3,4,6] y"
FP16_ROUNDING = 2.0**-11


def model_of(
    body: str = WARP, inputs: str = DYNAMIC[0], out: str = Y, opset: int = 18, rest: str = ""
) -> onnx.ModelProto:
    """Nodes in ONNX text -> model; `rest` follows the graph (functions)."""
    return foreign.model_of(body, inputs, out, opset, rest)


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after the pass: valid, sorted, with inferred types, of operators that TensorRT has."""
    graph = ir.from_proto(model)
    assert lower_grid_sample(graph)
    proto = ir.to_proto(graph)
    onnx.checker.check_model(proto, full_check=True)
    assert ops(proto).keys() <= SUPPORTED_OPS
    return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)


def ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(model: onnx.ModelProto | ort.InferenceSession, *inputs: Array) -> list[Array]:
    """Run ONNX Runtime on the inputs in their order."""
    session = session_of(model) if isinstance(model, onnx.ModelProto) else model
    names = (value.name for value in session.get_inputs())
    return session.run(None, dict(zip(names, inputs, strict=True)))


def expected(x: Array, grid: Array) -> Array:
    """Sample with PyTorch, in FP32."""
    tensors = (torch.from_numpy(np.asarray(array, np.float32)) for array in (x, grid))
    return grid_sample(*tensors, mode="bilinear", padding_mode="border", align_corners=True).numpy()


def assert_samples(given: Array, x: Array, grid: Array, tolerance: float = 1e-6) -> None:
    """|given - PyTorch| <= tolerance * max |X|, and none is NaN."""
    wanted = expected(x, grid)
    assert given.shape == wanted.shape
    assert np.abs(given.astype(np.float64) - wanted).max() <= tolerance * np.abs(x).max()


def random_pair(shape: tuple[int, ...] = (2, 3, 5, 7), out: tuple[int, int] = (4, 6)) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    x = random.standard_normal(shape).astype(np.float32)
    return x, random.uniform(-1.2, 1.2, (shape[0], *out, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def dynamic() -> ort.InferenceSession:
    """One file for all sizes: N, C, H, W, and the output's h, w."""
    return session_of(lowered(model_of()))


def coordinates(size: int) -> st.SearchStrategy[float]:
    """Along an axis of that many pixels."""
    centres = [2 * i / max(size - 1, 1) - 1 for i in range(size)]
    special = [float(np.float32(sign * value)) for sign in (-1, 1) for value in (1, 1e6, 1e30, np.inf, *centres)]
    return st.one_of(st.floats(-1.25, 1.25, width=32), st.sampled_from(special))


@st.composite
def samplings(draw: st.DrawFn) -> tuple[Array, Array]:
    """X [N, C, H, W] and grid [N, h, w, 2]."""
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    height, width, *out = (draw(st.integers(1, 9)) for _ in range(4))
    pixels = hnp.arrays(np.float32, (batch, channels, height, width), elements=st.floats(-4, 4, width=32))
    axes = [draw(hnp.arrays(np.float32, (batch, *out), elements=coordinates(size))) for size in (width, height)]
    return draw(pixels), np.stack(axes, axis=-1)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(samplings())
def test_is_grid_sample_of_torch(dynamic: ort.InferenceSession, sampling: tuple[Array, Array]):
    """|ONNX Runtime - PyTorch| <= 1e-6 * max |X|; where X = c, the result is c exactly."""
    x, grid = sampling
    assert_samples(outputs(dynamic, x, grid)[0], x, grid)
    level = x.ravel()[0]
    assert (outputs(dynamic, np.full_like(x, level), grid)[0] == level).all()


def test_pixels_give_themselves(dynamic: ort.InferenceSession):
    """X(2i / 16 - 1, 2j / 8 - 1) = X[j, i], exactly, for these sizes, whose coordinates have no rounding."""
    x, _ = random_pair((2, 3, 9, 17))
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 17), np.linspace(-1, 1, 9)), axis=-1).astype(np.float32)
    assert (outputs(dynamic, x, np.stack([grid, grid]))[0] == x).all()


def test_large_picture():
    """At 1088x1920 with a smooth flow of up to 24 pixels: within 1e-6 of PyTorch, all sizes constant."""
    rows, columns = np.mgrid[:1088, :1920]
    x = (0.5 + 0.5 * np.sin(columns / 17) * np.cos(rows / 23)).astype(np.float32)[None, None]
    flow = 24 * np.sin(rows / 150) * np.cos(columns / 200)
    grid = np.stack((2 * (columns + flow) / 1919 - 1, 2 * (rows - flow) / 1087 - 1), axis=-1).astype(np.float32)[None]
    model = lowered(model_of(WARP, "float[1,1,1088,1920] x, float[1,1088,1920,2] g", "float[1,1,1088,1920] y"))
    assert_samples(outputs(model, x, grid)[0], x, grid)


def test_index_is_exact_beyond_fp32(dynamic: ort.InferenceSession):
    """Index 2**24 + 1 = y * W + x is a pixel of its own, though it is no FP32 number."""
    x = np.zeros((1, 1, 2**12 + 1, 2**12), np.float32)
    x.ravel()[2**24 + 1] = 1
    grid = np.array([2 / (2**12 - 1) - 1, 1], np.float32).reshape(1, 1, 1, 2)
    assert outputs(dynamic, x, grid)[0].item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("opset", "mode"),
    [(16, "bilinear"), (18, "bilinear"), (18, None), (20, "linear"), (20, None), (22, "linear")],
)
@pytest.mark.parametrize("sizes", [DYNAMIC, STATIC], ids=["dynamic", "static"])
def test_opsets(opset: int, mode: str | None, sizes: tuple[str, str]):
    """Mode bilinear has two names and is the default."""
    x, grid = random_pair()
    body = WARP.replace("bilinear", mode) if mode else WARP.replace('mode="bilinear", ', "")
    assert_samples(outputs(lowered(model_of(body, *sizes, opset=opset)), x, grid)[0], x, grid)


@pytest.mark.parametrize(
    ("inputs", "out", "shapes"),
    [
        (*STATIC, 0),
        (f"float[2,3,5,7] x, {GRID}", Y, 1),
        ('float[2,3,5,7] x, float["N",4,"w",2] g', Y, 0),
        (f"{X}, float[2,4,6,2] g", Y, 1),
        ('float["N","C",5,"W"] x, float["N",4,6,2] g', Y, 1),
        ('float["N","C",5,7] x, float["N",4,6,2] g', Y, 1),
        (*DYNAMIC, 2),
    ],
)
def test_sizes_that_are_known_are_constants(inputs: str, out: str, shapes: int):
    """Shape nodes = tensors with an unknown size that matters; value_info may be missing."""
    x, grid = random_pair()
    model = lowered(model_of(WARP, inputs, out))
    assert ops(model)["Shape"] == shapes
    assert not any(node.attribute for node in model.graph.node if node.op_type == "Shape")  # TensorRT ignores them
    assert_samples(outputs(model, x, grid)[0], x, grid)

    unknown = lowered(model_of(f"a = Neg (x) b = Neg (g) {WARP.replace('(x, g)', '(a, b)')}", inputs, out))
    assert ops(unknown)["Shape"] == 2
    assert_samples(outputs(unknown, -x, -grid)[0], x, grid)


def upstream(model: onnx.ModelProto, names: list[str]) -> Iterator[str]:
    """All that those tensors are computed from, but X and the grid themselves, and what lends its shape alone."""
    producers = {output: node for node in model.graph.node for output in node.output}
    waiting, seen = list(names), {"x", "g"}
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            if name in producers and producers[name].op_type != "Shape":
                waiting += producers[name].input


@pytest.mark.parametrize("grid_type", ["FLOAT", "FLOAT16", "BFLOAT16"])
@pytest.mark.parametrize("x_type", ["FLOAT", "FLOAT16", "BFLOAT16"])
def test_types(x_type: str, grid_type: str):
    """Pixels stay in X's type; coordinates, weights and indices are made of FP32, whatever the type of X."""
    x, grid, y = (text.replace("float", dtype.lower()) for text, dtype in ((X, x_type), (GRID, grid_type), (Y, x_type)))
    model = lowered(model_of(WARP, f"{x}, {grid}", y))
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    codes = {value.name: value.type.tensor_type.elem_type for value in values}
    codes |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types = {name: TensorProto.DataType.Name(code) for name, code in codes.items()}
    nodes = model.graph.node

    casts = Counter(types[node.output[0]] for node in nodes if node.op_type == "Cast")
    weights = Counter({x_type: 2} if x_type != "FLOAT" else {})
    fp32 = 2 + (grid_type != "FLOAT")  # the sizes, the grid
    assert casts == weights + Counter({"FLOAT": fp32, "INT32": 5})  # four lines and the width

    gathers = [node for node in nodes if node.op_type == "GatherElements"]
    moves = [node for node in nodes if node.op_type == "Reshape" and not node.name.endswith("/grid")]
    assert {types[name] for node in (*gathers, *moves) for name in (node.input[0], node.output[0])} == {x_type}
    rounds = [node for node in nodes if node.op_type in ("Clip", "Split", "Floor", "Ceil")]
    assert {types[name] for node in rounds for name in (node.input[0], *node.output)} == {"FLOAT"}

    indices = upstream(model, [node.input[1] for node in gathers])
    assert {types[name] for name in indices} == {"FLOAT", "INT32", "INT64"}
    fractions = upstream(model, [node.output[0] for node in nodes if node.name.endswith("_fraction")])
    assert {types[name] for name in fractions} == {"FLOAT", "INT64"}
    assert types["y"] == x_type


@pytest.mark.parametrize("grid_type", ["float", "float16"])
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_fp16_pixels(grid_type: str):
    """FP16 pixels are off by the roundings of weights and blends; 0.7 stays 0.7, unlike with four FP16 weights."""
    x, grid = random_pair((2, 3, 67, 131), (70, 140))
    x, grid = x.astype(np.float16), grid.astype({"float": np.float32, "float16": np.float16}[grid_type])
    inputs = f"{X.replace('float', 'float16')}, {GRID.replace('float', grid_type)}"
    session = session_of(lowered(model_of(WARP, inputs, Y.replace("float", "float16"))))
    given = outputs(session, x, grid)[0]
    assert given.dtype == np.float16
    assert_samples(given, x, grid, 4 * FP16_ROUNDING)
    assert (outputs(session, np.full_like(x, 0.7), grid)[0] == np.float16(0.7)).all()


TWO = f"[first] y = GridSample <{GOOD}> (x, g) [second] z = GridSample <{GOOD}> (x2, g)"


@pytest.mark.parametrize(
    ("second", "z", "sizes", "counts"),
    [
        # another picture of the same size: only pixels and their blend are its own
        (
            "float[2,3,5,7]",
            "float[2,3,4,6]",
            STATIC,
            {"Clip": 1, "Floor": 2, "Cast": 4, "Expand": 4, "GatherElements": 8, "Reshape": 5},
        ),
        # of another size: the clipped grid is shared, and the arithmetic along the axis of equal size
        ("float[2,3,5,8]", "float[2,3,4,6]", STATIC, {"Clip": 1, "Floor": 3, "GatherElements": 8}),
        # sizes that only the runtime knows, even of one name
        (X[:-2], Y[:-2], DYNAMIC, {"Clip": 1, "Floor": 4, "Shape": 3, "GatherElements": 8}),
    ],
)
def test_shared_grid(second: str, z: str, sizes: tuple[str, str], counts: dict[str, int]):
    """What the samplings of two pictures have in common is computed once."""
    model = lowered(model_of(TWO, f"{sizes[0]}, {second} x2", f"{sizes[1]}, {z} z"))
    assert {op_type: ops(model)[op_type] for op_type in counts} == counts
    x, grid = random_pair()
    x2 = -random_pair((2, 3, 5, 8 if "8" in second else 7))[0]
    first, last = outputs(model, x, grid, x2)
    assert_samples(first, x, grid)
    assert_samples(last, x2, grid)


def test_names():
    """Each new name begins with its GridSample's; other nodes, inputs, outputs and values in between keep theirs."""
    sample = f"GridSample <{GOOD}>"
    body = f"[grid] b = Neg (g) [warp] a = {sample} (x, b) [warp] c = {sample} (a, b) d = {sample} (c, b)"
    model = lowered(model_of(f"{body} [end] y = Relu (d)"))
    prefixes = {node.name.rpartition("/")[0] for node in model.graph.node}
    assert prefixes == {"", "warp/gather", "d/gather"}
    assert [node.name for node in model.graph.node if "/" not in node.name] == ["grid", "end"]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "g", "y"]
    assert {"a", "c", "d"} <= {name for node in model.graph.node for name in node.output}
    assert all(tensor.name.startswith("gather/") for tensor in model.graph.initializer)
    x, grid = random_pair((2, 3, 4, 6))
    wanted = expected(expected(expected(x, -grid), -grid), -grid).clip(0)
    np.testing.assert_allclose(outputs(model, x, grid)[0], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("body", ["y = Relu (x)", "y = com.microsoft.GridSample (x, g)"])
def test_nothing_to_do(body: str):
    """Without ONNX's GridSample the model is as it was, and the pass says so."""
    model = ir.from_proto(model_of(body))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert not lower_grid_sample(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


FIVE = 'float["N","C","D","H","W"] x, float["N","d","h","w",3] g', 'float["N","C","d","h","w"] y'
DOUBLE = DYNAMIC[0].replace("float", "double"), Y.replace("float", "double")
BRANCH = f"then_branch = t () => ({Y[:-1]}a) {{ {WARP.replace('y =', 'a =')} }}"
IF = f"y = If (c) <{BRANCH}, else_branch = e () => ({Y[:-1]}b) {{ b = Identity (x) }}>"
FUNCTION = f'<domain: "my", opset_import: ["": 18]> Warp (x, g) => (y) {{ {WARP} }}'


@pytest.mark.parametrize(
    ("model", "faults"),
    [
        (model_of(WARP.replace("bilinear", "nearest")), 1),
        (model_of(WARP.replace("bilinear", "bicubic")), 1),
        (model_of(WARP.replace("bilinear", "cubic"), opset=20), 1),
        (model_of(WARP.replace("border", "zeros")), 1),
        (model_of(WARP.replace("border", "reflection")), 1),
        (model_of(WARP.replace("corners=1", "corners=0")), 1),
        (model_of(WARP.replace(GOOD, 'mode="nearest"')), 3),
        (model_of(WARP.replace("bilinear", "linear"), *FIVE, opset=20), 3),  # each tensor is 5-D
        (model_of(WARP, *DOUBLE), 3),
        (model_of(IF, f"{DYNAMIC[0]}, bool c"), 1),
        (model_of("y = my.Warp (x, g)", rest=FUNCTION), 1),
    ],
    ids=lambda value: "",
)
def test_refused(model: onnx.ModelProto, faults: int):
    """What has no Gather form is refused by name, before anything is changed."""
    graph = ir.from_proto(model)
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    with refused("no-gather-form", GraphError, node="warp") as caught:
        lower_grid_sample(graph)
    assert len(caught.value.fields["faults"]) == faults
    assert ir.to_proto(graph).SerializeToString(deterministic=True) == before


def test_exported_graph(exports: Exports):
    """The four warps of our own `contextnet`: the lowered graph gives what the exported one gives, within 1e-5."""
    exported = onnx.load(exports.fp32("contextnet"))
    assert ops(exported)["GridSample"] == 4
    sessions = [session_of(model) for model in (exported, lowered(exported))]
    random = np.random.default_rng(0)
    for batch, height, width in ((1, 64, 96), (2, 96, 160)):
        image = random.random((batch, 3, height, width), np.float32)
        flow = 8 * random.standard_normal((batch, 2, height, width)).astype(np.float32)
        wanted, given = (outputs(session, image, flow) for session in sessions)
        for one, other in zip(wanted, given, strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
