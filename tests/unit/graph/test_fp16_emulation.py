"""Each rounding of an FP16 graph takes place, once, and ONNX Runtime cannot leave it out."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from refine_export.errors import GraphError
from refine_export.graph.fp16_emulation import emulation_from_half
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.signature import TensorInfo
from tests.support.half_models import CODES, TYPES, assert_same, computed, model_of, patterns, quiet_numpy  # noqa: F401 (a fixture)
from tests.support.refusals import refused


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
    """The reason for the emulation: ONNX Runtime's CPU provider computes FP16 in FP32 and keeps it between nodes."""
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
    """ONNX Runtime drops a round trip whose Cast has the name of its own, whatever is switched off."""
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


def test_a_number_in_an_attribute_is_rounded():
    """Padding before opset 11 has one in FP32, which is not an FP16 value."""
    model = model_of("p = Pad <pads=[1,0], value=0.1> (x) y = Cast <to=1> (p)", outputs="float[m] y", opset=10)
    assert_same(computed(model, x=np.ones(1, np.float16)), np.array([0.1, 1], np.float16).astype(np.float32))


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


def test_a_stale_type_in_the_file():
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


BRANCH = "then_branch = a () => (float16[n] p) { p = Abs (x) }, else_branch = b () => (float16[n] q) { q = Neg (x) }"


@pytest.mark.parametrize(
    ("nodes", "code"),
    [
        ("[here] y = RandomNormalLike (x)", "no-emulation"),
        ("[here] y = Bernoulli (x)", "no-emulation"),
        ("y = CastLike (f, x)", "no-emulation"),
        ("s = Constant <value = float16[1] {11878}> () q = QuantizeLinear (x, s) y = Neg (x)", "no-emulation"),
        (
            "i = Cast <to=3> (x) s = Constant <value = float16[1] {11878}> () y = DequantizeLinear (i, s)",
            "no-emulation",
        ),
        (f"c = Constant <value = bool {{1}}> () [here] y = If <{BRANCH}> (c)", "no-emulation"),
        ("s = SequenceConstruct (x, x) y = SequenceAt (s, zero)", "no-emulation"),
        ("y = LayerNormalization <stash_type=16> (x, x)", "no-emulation"),
        ("[here] t = my.Own (x) y = Abs (t)", "unknown-type"),
        ("y = Add (x, f)", "invalid-onnx"),
        ("t = Mul (x, x) y = Cast <to=1> (t)", "invalid-onnx"),
        ("y = Abs (later) later = Neg (x)", "invalid-onnx"),
    ],
)
def test_what_has_no_emulation_is_refused(nodes, code):
    model = model_of(nodes, "float16[n] x, float[n] f", zero=np.array(0))
    with refused(code, GraphError):
        emulation_from_half(ir.from_proto(onnx.load_from_string(model)))


def test_a_subgraph_in_fp32_is_left_alone():
    branch = BRANCH.replace("float16", "float").replace("(x)", "(f)")
    body = f"f = Cast <to=1> (x) b = Constant <value = bool {{1}}> () c = If <{branch}> (b) y = Cast <to=10> (c)"
    x = patterns("float16", 9)
    assert_same(computed(model_of(body), x=x), np.abs(x))


def test_a_convolution_is_summed_in_fp32_and_rounded_once():
    generator = np.random.default_rng(0)
    shapes = {"x": (1, 8, 16, 16), "w": (8, 8, 3, 3), "b": (8,)}
    arrays = {name: generator.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    x, *wide = (array.astype(np.float32) for array in arrays.values())
    model = model_of("y = Conv (x, w, b)", "float[1,8,16,16] x", "float[1,8,14,14] y", w=wide[0], b=wide[1])
    summed = computed(model, OrtRunner, {"optimize": False}, x=x)
    given = arrays.pop("x")
    half = model_of("c = Conv (x, w, b) y = Neg (c)", "float16[1,8,16,16] x", "float16[1,8,14,14] y", **arrays)
    assert_same(computed(half, x=given), -summed.astype(np.float16))
