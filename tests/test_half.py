"""The strict FP16 runner: each rounding of the graph takes place, once, and ONNX Runtime can't leave it out."""

import re
import warnings

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnx.parser import parse_model

from refine_export.errors import GraphError, InternalError, RequestError
from refine_export.feeds import synthetic_flow
from refine_export.graph import half
from refine_export.graph.half import EXACT, emulation_from_half
from refine_export.runners.base import TensorInfo
from refine_export.runners.half import HalfRunner
from refine_export.runners.ort import OrtRunner
from rife.warplayer import warp

TYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
CODES = {"float16": 10, "bfloat16": 16}
WARP = 'GridSample <mode="bilinear", padding_mode="border", align_corners=1>'


def model_of(body, inputs="float16[n] x", outputs="float16[n] y", opset=22, rest="", **constants):
    """Nodes in ONNX text -> serialised model; `rest` follows the graph (functions)."""
    model = parse_model(
        f'<ir_version: 10, opset_import: ["": {opset}, "my": 1]> g ({inputs}) => ({outputs}) {{ {body} }} {rest}'
    )
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model.SerializeToString()


def computed(model, runner=HalfRunner, how=None, **feeds):
    """What a runner gives for a model of one output."""
    with runner(model, **(how or {})) as opened:
        (output,) = opened.run(feeds).values()
    return output


@pytest.fixture(autouse=True)
def _quiet_numpy():
    """Overflow and NaN are what is tested."""
    with np.errstate(all="ignore"):
        yield


def assert_same(given, expected):
    """Bit by bit, signed zeros and infinities included; any NaN is NaN."""
    assert given.dtype == expected.dtype
    bits = np.dtype(f"u{given.itemsize}")
    same = (given.view(bits) == expected.view(bits)) | (np.isnan(given) & np.isnan(expected))
    assert same.all(), f"{(~same).sum()} of {same.size} differ: {given[~same][:4]}, not {expected[~same][:4]}"


def patterns(name, seed, count=2**16):
    """All values of a type of 16 bits, shuffled, as often as `count` takes."""
    bits = np.resize(np.arange(2**16, dtype=np.uint16), count)
    return np.random.default_rng(seed).permutation(bits).view(TYPES[name])


def singles(name):
    """FP32 of all kinds: random bits, and around each tie of the 16-bit type: below, on it, above."""
    values = np.arange(2**16, dtype=np.uint16).view(TYPES[name])
    ties = ((values[:-1].astype(np.float64) + values[1:].astype(np.float64)) / 2).astype(np.float32)
    around = (np.nextafter(ties, np.float32(-np.inf)), ties, np.nextafter(ties, np.float32(np.inf)))
    random = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    return np.concatenate((*around, random))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Sqrt"])
def test_one_operator_is_fp32_rounded_once(name, op):
    """Over all bit patterns, so normals, subnormals, zeros, infinities, NaN and overflows."""
    a, b = patterns(name, 1, 200_000), patterns(name, 2, 200_000)
    wide = (a.astype(np.float32),) if op == "Sqrt" else (a.astype(np.float32), b.astype(np.float32))
    numpy_op = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Sqrt": np.sqrt}[op]
    expected = numpy_op(*wide).astype(TYPES[name])
    assert np.isinf(expected[np.isfinite(a) & np.isfinite(b)]).any() or op == "Sqrt"
    model = model_of(f"y = {op} ({'a' if op == 'Sqrt' else 'a, b'})", f"{name}[n] a, {name}[n] b", f"{name}[n] y")
    assert_same(computed(model, a=a, b=b), expected)


def test_a_chain_is_rounded_step_by_step_and_plain_onnxruntime_does_not():
    """Why this runner is: ONNX Runtime's CPU provider computes FP16 in FP32 and keeps it between nodes."""
    generator = np.random.default_rng(0)
    a, b, c = ((generator.standard_normal(200_000) * scale).astype(np.float16) for scale in (300, 300, 0.01))
    expected = (a * b) * c
    model = model_of("t = Mul (a, b) y = Mul (t, c)", "float16[n] a, float16[n] b, float16[n] c")
    assert_same(computed(model, a=a, b=b, c=c), expected)
    plain = computed(model, OrtRunner, a=a, b=b, c=c)
    assert (plain != expected).mean() > 0.4
    assert (np.isinf(expected) & np.isfinite(plain)).sum() > 50_000


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("prefix", ["", "InsertedPrecisionFreeCast_"])
def test_casts_round_to_nearest_even_and_stay(name, prefix):
    """A round trip is no rounding to ONNX Runtime where a Cast has the name of its own, whatever is switched off."""
    x = singles(name)
    nodes = f"[{prefix}a] h = Cast <to={CODES[name]}> (x) [{prefix}b] y = Cast <to=1> (h)"
    model = model_of(nodes, "float[n] x", "float[n] y")
    assert_same(computed(model, x=x), x.astype(TYPES[name]).astype(np.float32))
    if prefix:
        assert_same(computed(model, OrtRunner, {"optimize": False}, x=x), x)
    narrow = model_of(f"y = Cast <to={CODES[name]}> (x)", "float[n] x", f"{name}[n] y")
    assert_same(computed(narrow, x=x), x.astype(TYPES[name]))


@pytest.mark.parametrize("name", TYPES)
def test_casts_from_and_to_other_types(name):
    whole = np.array([0, 1, -2049, 2051, 257, 65519, 65520, -70000, 2**24 + 1], np.float64)
    code, dtype = CODES[name], TYPES[name]
    from_int = model_of(f"i = Cast <to=7> (x) y = Cast <to={code}> (i)", "double[n] x", f"{name}[n] y")
    assert_same(computed(from_int, x=whole), whole.astype(dtype))
    to_int = model_of(
        f"h = Cast <to={code}> (x) i = Cast <to=7> (h) y = Cast <to=11> (i)", "double[n] x", "double[n] y"
    )
    assert_same(computed(to_int, x=whole[:6]), whole[:6].astype(dtype).astype(np.float64))
    x = patterns(name, 3)
    assert_same(computed(model_of(f"y = Cast <to={code}> (x)", f"{name}[n] x", f"{name}[n] y"), x=x), x)
    for other in TYPES:
        between = model_of(f"y = Cast <to={CODES[other]}> (x)", f"{name}[n] x", f"{other}[n] y")
        assert_same(computed(between, x=x), x.astype(np.float32).astype(TYPES[other]))


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


def operators(model):
    """Of its emulation."""
    return [node.op_type for node in emulation_from_half(ir.from_proto(onnx.load_from_string(model))).graph]


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


def test_a_number_in_an_attribute_is_rounded():
    """Padding before opset 11 has one in FP32, which is no FP16 value as it stands."""
    model = model_of("p = Pad <pads=[1,0], value=0.1> (x) y = Cast <to=1> (p)", outputs="float[m] y", opset=10)
    assert_same(computed(model, x=np.ones(1, np.float16)), np.array([0.1, 1], np.float16).astype(np.float32))


def test_why_clip_is_not_among_them(monkeypatch):
    """Without bounds its FP32 kernel has those of FP32: -Inf becomes no FP16 value (in some sizes of MaxPool too)."""
    model = seen_unrounded("y = Clip (x)")
    x = np.full((1, 16, 64, 64), -np.inf, np.float16)
    assert np.isneginf(computed(model, x=x, z=x)).all()
    monkeypatch.setattr(half, "EXACT", EXACT | {"Clip"})
    assert (computed(model, x=x, z=x) == np.finfo(np.float32).min).all()


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


def warp_model(height, width, sample):
    """Upstream's warp, in FP32: `sample` at base positions plus the normalised flow."""
    rows, columns = (np.linspace(-1, 1, size, dtype=np.float32) for size in (height, width))
    return model_of(
        f"""fx, fy = Split <axis=1, num_outputs=2> (flow)
        dx = Div (fx, half_width) dy = Div (fy, half_height) d = Concat <axis=1> (dx, dy) g = Add (base, d)
        t = Transpose <perm=[0,2,3,1]> (g) {sample}""",
        f"float[1,3,{height},{width}] image, float[1,2,{height},{width}] flow",
        f"float[1,3,{height},{width}] warped",
        opset=18,
        base=np.stack(np.meshgrid(columns, rows))[None],
        half_width=np.float32((width - 1) / 2),
        half_height=np.float32((height - 1) / 2),
    )


def test_a_warp_whose_grid_is_fp16():
    """Upstream's warp at 1088x1920 as a converter lowers it: ONNX Runtime alone shows half of the error's energy."""
    from onnxconverter_common.float16 import convert_float_to_float16

    size = 1088, 1920
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    image = np.stack([0.5 + 0.45 * np.sin(x / p + y / q) for p, q in ((7, 16), (12, 8), (10, -20))])[None]
    feeds = {"image": image, "flow": synthetic_flow("large", *size)[:, :2].copy()}
    with torch.inference_mode():
        reference = warp(*map(torch.from_numpy, feeds.values())).numpy()

    def psnr(model, runner):
        difference = computed(model, runner, **feeds).astype(np.float64) - reference
        return -10 * np.log10(np.mean(difference**2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants too small for FP16
        plain = onnx.load_from_string(warp_model(*size, f"warped = {WARP} (image, t)"))
        naive = convert_float_to_float16(plain, keep_io_types=True).SerializeToString()
    strict = psnr(naive, HalfRunner)
    assert 44 < strict < 46, strict
    assert psnr(naive, OrtRunner) > strict + 2.5
    fp16_but_for_the_grid = warp_model(*size, f"i = Cast <to=10> (image) w = {WARP} (i, t) warped = Cast <to=1> (w)")
    assert 77 < psnr(fp16_but_for_the_grid, HalfRunner) < 79
    assert psnr(fp16_but_for_the_grid, OrtRunner) > 100  # as if nothing were FP16


@pytest.mark.parametrize("name", TYPES)
def test_inputs_and_outputs_are_of_the_files_types(name):
    """A value that is output and read, one that is an input too, one that is a constant, FP32 from FP16 and back."""
    x = np.array([1, 1.5, -0.0, np.inf, 3e-8], TYPES[name])
    body = f"y = Mul (x, x) wide = Cast <to=1> (y) z = Mul (y, c) same = Cast <to={CODES[name]}> (x)"
    outputs = [*((each, name) for each in ("y", "z", "same", "x", "c")), ("wide", "float")]
    declared = ", ".join(f"{'float' if kind == 'float' else name}[5] {each}" for each, kind in outputs)
    model = model_of(body, f"{name}[5] x", declared, c=x[::-1].copy())
    with HalfRunner(model) as runner:
        assert runner.inputs == (TensorInfo(name="x", dtype=name, shape=(5,)),)
        assert [(info.name, info.dtype) for info in runner.outputs] == [
            (each, "float32" if kind == "float" else kind) for each, kind in outputs
        ]
        results = runner.run({"x": x})
        squares = (x.astype(np.float32) ** 2).astype(TYPES[name])
        expected = {"y": squares, "wide": squares.astype(np.float32), "same": x, "x": x, "c": x[::-1]}
        for each, array in expected.items():
            assert_same(results[each], array)
            assert results[each].flags.writeable
        assert_same(results["z"], (squares.astype(np.float32) * x[::-1].astype(np.float32)).astype(TYPES[name]))
        with pytest.raises(RequestError, match=f"the feed x is float32 .*; expected {name}"):
            runner.run({"x": x.astype(np.float32)})


def test_what_the_runner_says_of_itself():
    model = model_of("y = Neg (x)")
    with HalfRunner(model) as every, HalfRunner(model, rounding="final") as final, OrtRunner(model) as plain:
        assert (every.backend, every.device, every.version) == ("half", "cpu", plain.version)
        assert every.provider == "strict FP16 emulation"
        assert final.provider == "strict FP16 emulation, rounded once per fused kernel"
        level = every._session.get_session_options().graph_optimization_level
        assert level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert not hasattr(every, "_session")


@pytest.mark.parametrize("name", TYPES)
def test_a_run_that_fails_says_so(name):
    model = model_of("y = Reshape (x, s)", f"{name}[n] x", f"{name}[m] y", s=np.array([7]))
    with HalfRunner(model) as runner, pytest.raises(RequestError, match="onnxruntime .* failed"):
        runner.run({"x": np.ones(5, TYPES[name])})


def test_attributes_that_hold_a_type():
    """And a constant of FP16 bits; the window's values are rounded as any."""
    body = """
        s = Shape (x) k = ConstantOfShape <value = float16[1] {11878}> (s) c = Constant <value = float16[1] {11878}> ()
        e = EyeLike <dtype=10> (x) five = Constant <value_int=5> () w = HannWindow <output_datatype=10> (five)
        a = Add (k, c) b = Add (a, e) d = Add (b, w) y = Add (d, x)
    """
    x = np.zeros((5, 5), np.float16)
    tenth, window = np.float16(0.1), np.sin(np.pi * np.arange(5) / 5) ** 2
    expected = tenth + tenth + np.eye(5, dtype=np.float16) + window.astype(np.float16)
    assert_same(computed(model_of(body, "float16[5,5] x", "float16[5,5] y"), x=x), expected)


@pytest.mark.parametrize("opset", [16, 18, 20, 22])
def test_the_opset_stays_and_has_fp32_kernels(opset):
    """A grid of FP32 beside FP16 values is allowed by ONNX."""
    model = model_of(
        'g = GridSample <padding_mode="border"> (x, grid) y = Conv (g, w)',
        "float16[1,1,4,4] x, float[1,4,4,2] grid",
        "float16[1,1,3,3] y",
        opset,
        w=np.ones((1, 1, 2, 2), np.float16),
    )
    emulated = emulation_from_half(ir.from_proto(onnx.load_from_string(model)))
    assert emulated.opset_imports[""] == opset
    x, grid = patterns("float16", 6)[:16].reshape(1, 1, 4, 4), np.full((1, 4, 4, 2), -1, np.float32)
    four = np.float16(np.float32(x[0, 0, 0, 0]) * 4)
    assert_same(computed(model, x=x, grid=grid), np.full((1, 1, 3, 3), four))


def test_functions_are_inlined_and_the_model_is_not_modified():
    rest = '<domain: "my", opset_import: ["": 22]> Twice (a) => (c) { b = Mul (a, a) c = Mul (b, b) }'
    model = model_of("y = my.Twice (x)", rest=rest)
    x = patterns("float16", 7)
    assert_same(computed(model, x=x), (x * x) * (x * x))
    loaded = ir.from_proto(onnx.load_from_string(model))
    before = ir.to_proto(loaded).SerializeToString(deterministic=True)
    emulation_from_half(loaded)
    assert ir.to_proto(loaded).SerializeToString(deterministic=True) == before


def test_a_type_in_the_file_that_holds_no_more():
    """ONNX Runtime's own converter leaves such; the nodes decide."""
    model = onnx.load_from_string(model_of("t = Mul (x, x) y = Mul (t, x)"))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, None))
    x = patterns("float16", 8)
    assert_same(computed(model.SerializeToString(), x=x), x * x * x)


def test_fp32_nodes_are_left_alone():
    model = onnx.load_from_string(model_of("t = Mul (x, x) y = LeakyRelu (t)", "float[n] x", "float[n] y"))
    emulated = ir.to_proto(emulation_from_half(ir.from_proto(model)))
    assert list(emulated.graph.node) == list(ir.to_proto(ir.from_proto(model)).graph.node)


def test_external_data(tmp_path):
    path, weight = tmp_path / "model.onnx", np.arange(4, dtype=np.float16) / 3
    model = onnx.load_from_string(model_of("y = Mul (x, w)", "float16[4] x", "float16[4] y", w=weight))
    onnx.save_model(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    x = np.full(4, 0.3, np.float16)
    assert_same(computed(path, x=x), weight * x)
    with pytest.raises(GraphError, match=r"tensor 'w' is in the file 'w\.data': pass its folder"):
        HalfRunner(path.read_bytes())
    (tmp_path / "w.data").unlink()
    with pytest.raises(GraphError, match=r"w\.data is missing"):
        HalfRunner(path)


def test_files_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(GraphError, match=r"none\.onnx does not exist"):
        HalfRunner(tmp_path / "none.onnx")
    with pytest.raises(GraphError, match="the model is not ONNX"):
        HalfRunner(b"\x08\x07 no model")
    repeated = onnx.load_from_string(model_of("y = Neg (x)"))
    repeated.graph.node.append(repeated.graph.node[0])
    with pytest.raises(GraphError, match="the model is not valid ONNX, convert it again"):
        HalfRunner(repeated.SerializeToString())
    monkeypatch.setattr("refine_export.runners.half.load_external_data", lambda *_: False)
    with pytest.raises(GraphError, match="more than 2 GiB of external data"):
        HalfRunner(model_of("y = Neg (x)"))


BRANCH = "then_branch = a () => (float16[n] p) { p = Abs (x) }, else_branch = b () => (float16[n] q) { q = Neg (x) }"


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("[here] y = RandomNormalLike (x)", "RandomNormalLike 'here' gives random values"),
        ("[here] y = Bernoulli (x)", "Bernoulli 'here' gives random values"),
        ("y = CastLike (f, x)", "CastLike 'y' takes its type from another value"),
        ("y = CastLike (x, x)", "'x', FLOAT16; keep it in FP32"),
        (
            "s = Constant <value = float16[1] {11878}> () q = QuantizeLinear (x, s) y = Neg (x)",
            "QuantizeLinear 'q' is qua",
        ),
        (
            "i = Cast <to=3> (x) s = Constant <value = float16[1] {11878}> () y = DequantizeLinear (i, s)",
            "is quantised",
        ),
        (f"c = Constant <value = bool {{1}}> () [here] y = If <{BRANCH}> (c)", "If 'here' has a subgraph"),
        ("s = SequenceConstruct (x, x) y = SequenceAt (s, zero)", "has a sequence, an optional or a sparse tensor"),
        ("y = LayerNormalization <stash_type=16> (x, x)", "is told to compute with fewer bits"),
        ("[here] t = my.Own (x) y = Abs (t)", "the type of 't' at Own 'here' is not known"),
        ("y = Add (x, f)", "not valid ONNX, so its types mean nothing"),
        ("t = Mul (x, x) y = Cast <to=1> (t)", "Inferred elem type differs"),
        ("y = Abs (later) later = Neg (x)", "not valid ONNX"),
        ("y = Unheard (x)", "No Op registered for Unheard"),
    ],
)
def test_what_has_no_emulation_is_refused(nodes, words):
    model = model_of(nodes, "float16[n] x, float[n] f", zero=np.array(0))
    with pytest.raises(GraphError, match=re.escape(words)):
        HalfRunner(model)


def test_a_subgraph_in_fp32_is_left_alone():
    branch = BRANCH.replace("float16", "float").replace("(x)", "(f)")
    body = f"f = Cast <to=1> (x) b = Constant <value = bool {{1}}> () c = If <{branch}> (b) y = Cast <to=10> (c)"
    x = patterns("float16", 9)
    assert_same(computed(model_of(body), x=x), np.abs(x))


def test_a_broken_emulation_is_our_bug(monkeypatch):
    model = ir.from_proto(onnx.load_from_string(model_of("y = Neg (x)")))
    monkeypatch.setattr(half, "_rewrite", lambda *_: None)
    with pytest.raises(InternalError, match="FLOAT16 value 'x' outside of a pair of Casts"):
        emulation_from_half(model)
