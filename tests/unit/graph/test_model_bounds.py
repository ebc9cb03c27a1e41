"""Files that parse and are damaged, or would take for ever, are refused before anything works on them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from refine_export.graph import model_bounds
from refine_export.graph.model_file import model_from_bytes
from tests.support.foreign import CONV, function_model, model_of
from tests.support.refusals import refused

PICTURE, RESULT = "float[1,3,16,24] x", "float[1,3,16,24] y"
HEAD = f'<ir_version: 8, opset_import: ["": 18, "q": 1]> main ({PICTURE}) => ({RESULT})'
FUNCTION = '<domain: "q", opset_import: ["": 18, "q": 1]>'


def read(content: bytes) -> onnx.ModelProto:
    return model_from_bytes(content, Path("in.onnx"))


def small() -> onnx.ModelProto:
    return model_of(f"c = {CONV} (x, w) y = Relu (c)", PICTURE, RESULT, w=np.ones((3, 3, 3, 3), np.float32))


def multiplied(depth: int, calls: int) -> str:
    """Functions that call each other several times."""
    text = f"{HEAD} {{ y = q.F0 (x) }}"
    for level in range(depth):
        callee = f"q.F{level + 1}" if level < depth - 1 else "Neg"
        body = " ".join(f"v{k + 1} = {callee} (v{k})" for k in range(calls))
        text += f" {FUNCTION} F{level} (v0) => (v{calls}) {{ {body} }}"
    return text


def loop(limit: str, after: str) -> str:
    body = f"body (int64 i, bool c, float[1,3,16,24] s) => (bool d, float[1,3,16,24] r) {{ r = Neg (s) {after} }}"
    return (
        f"{HEAD} {{ n = Constant <value = int64 {{9223372036854775807}}> () t = Constant <value = bool {{1}}> () "
        f"y = Loop ({limit}, t, x) <body = {body}> }}"
    )


ENDLESS = {
    "functions that multiply": multiplied(9, 10),
    "functions that call each other too deeply": multiplied(2000, 1),
    "a function that calls itself": f"{HEAD} {{ y = q.F (x) }} {FUNCTION} F (a) => (b) {{ b = q.F (a) }}",
    "a loop of a constant length": loop("n", "d = Identity (c)"),
    "a loop without a length": loop("", "d = Identity (c)"),
    "a loop of the domain's second name": loop("n", "d = Identity (c)").replace("y = Loop", "y = ai.onnx.Loop"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_refused(name):
    started = time.perf_counter()
    with refused("endless-model"):
        read(parser.parse_model(ENDLESS[name]).SerializeToString())
    assert time.perf_counter() - started < 30  # it takes milliseconds, or years


def test_functions_and_loops_that_end_are_read():
    """Exporters write a `while` with the largest limit and a condition that is computed."""
    half = "k = Constant <value_float = 0.5> () m = ReduceMax <keepdims = 0> (r) d = Greater (m, k)"
    for model in (parser.parse_model(loop("n", half)), parser.parse_model(multiplied(3, 10)), function_model()):
        assert read(model.SerializeToString()) == model


FILLS = {
    "ConstantOfShape": "z = ConstantOfShape (n)",
    "Expand": "z = Expand (o, n)",
    "Tile": "z = Tile (o, n)",
    "Range": "k = Squeeze (n) s = Constant <value = int64 {0}> () e = Constant <value = int64 {805306368}> () "
    "d = Constant <value = int64 {1}> () z = Range (s, e, d)",
}


@pytest.mark.parametrize("name", FILLS)
def test_constants_that_fold_to_gigabytes_are_refused(name):
    constants = "n = Constant <value_ints = [805306368]> () o = Constant <value_floats = [1.0]> ()"
    picked = "a = Constant <value_ints = [0]> () e = Gather (z, a) f = Cast <to = 1> (e) y = Add (x, f)"
    body = f"{constants} {FILLS[name]} {picked}"
    with refused("model-too-large"):
        read(model_of(body, PICTURE, RESULT).SerializeToString())
    assert read(model_of(body.replace("805306368", "8"), PICTURE, RESULT).SerializeToString())


def test_too_many_constants_are_refused(monkeypatch):
    monkeypatch.setattr(model_bounds, "MOST_CONSTANTS", 0)
    with refused("model-too-large"):
        read(small().SerializeToString())


@pytest.mark.parametrize("change", [lambda raw: raw + b"\0" * 8, lambda raw: raw[:-4], lambda raw: b""])
def test_tensors_of_other_bytes_than_their_shape(change):
    model = small()
    model.graph.initializer[0].raw_data = change(model.graph.initializer[0].raw_data)
    with refused("not-onnx"):
        read(model.SerializeToString())


@pytest.mark.parametrize("data_type", [onnx.TensorProto.UNDEFINED, onnx.TensorProto.INT4, onnx.TensorProto.DOUBLE, 99])
def test_tensors_without_the_values_of_their_type(data_type):
    model = small()
    model.graph.initializer.add(name="k", data_type=data_type, dims=[1], float_data=[1.0])
    with refused("not-onnx"):
        read(model.SerializeToString())


def test_strings_that_are_not_utf8():
    """Operators of others may keep bytes in one."""
    model = small()
    attribute = model.graph.node[0].attribute.add(name="auto_pad", type=onnx.AttributeProto.STRING, s=b"\xff\xfe")
    with refused("not-onnx"):
        read(model.SerializeToString())
    model.graph.node[0].domain = "com.microsoft"
    assert read(model.SerializeToString()).graph.node[0].attribute[-1] == attribute


@pytest.mark.parametrize("field", ["name", "output", "op_type", "dimension"])
def test_names_that_are_not_utf8(field):
    model = small()
    node = model.graph.node[0]
    if field == "output":
        node.output[0] = model.graph.node[1].input[0] = "MARK"
    elif field == "dimension":
        model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "MARK"
    else:
        setattr(node, field, "MARK")
    with refused("not-onnx"):
        read(model.SerializeToString().replace(b"MARK", b"\xff\xfeRK"))
