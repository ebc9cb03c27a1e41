"""Files for the strict FP16 runner: types, opsets, functions and external data; what it refuses."""

import re

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from refine_export.errors import GraphError, InternalError, RequestError
from refine_export.graph import fp16_emulation as half
from refine_export.graph.fp16_emulation import emulation_from_half
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.signature import TensorInfo
from tests.support.half_models import CODES, TYPES, assert_same, computed, model_of, patterns, quiet_numpy  # noqa: F401 (a fixture)


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
    monkeypatch.setattr("refine_export.runners.strict_fp16.load_external_data", lambda *_: False)
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
        ("y = LayerNormalization <stash_type=16> (x, x)", "computes with fewer bits than FP32"),
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
