"""Casts and constants of a lowered graph: names, outputs, idle casts."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import lower
from tests.support.foreign import CONV, IMAGE, OUT, model_of
from tests.support.lowering_cases import TOLERANCE, error, ready, small, small_feeds
from tests.support.lowering_checks import assert_lowered, decided

KERNEL = np.full((3, 3, 3, 3), 0.1, np.float32)
MASKS = f"m = Cast <to = 1> (b) n = Cast <to = 1> (b) a = {CONV} (m, w) c = {CONV} (n, v) y = Add (a, c)"


def test_outputs_of_one_value():
    """Two outputs that are one value keep both names; an output that is an input, or is cast to FP32 at last, too."""
    body = f"c = {CONV} (x, w) y = Identity (c) z = Identity (c) [up] u = Cast <to = 1> (c) t = Identity (x)"
    out = ", ".join(f'float["N",3,"H","W"] {name}' for name in "yzut")
    model, prepared = small(body, IMAGE, out)
    for options in ({}, {"fp32_tail": False}, {"io": "fp16"}, {"fp32_tail": False, "io": "fp16"}):
        lowered = lower(prepared, LowerOptions(**options))
        assert_lowered(model, lowered, set("xyzut") if "io" in options else set())
        assert error(model, lowered, small_feeds(model)) < TOLERANCE


def test_an_output_may_be_listed_twice():
    model, _ = small(f"c = {CONV} (x, w) o = {CONV} (c, v)", out="float[A,B,C,D] c, float[A,B,C,D] o", feeds=False)
    model.graph.output.insert(0, model.graph.output[0])
    result = lower(ready(model, None), LowerOptions(fp32_tail=False)).model
    assert [value.name for value in result.graph.output] == ["c", "c", "o"]
    assert {value.type.tensor_type.elem_type for value in result.graph.output} == {onnx.TensorProto.FLOAT}


def test_a_constant_may_be_an_output():
    model, _ = small(f"y = {CONV} (x, w)", out=OUT, feeds=False)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "k"))
    model.graph.output.append(helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, [1, 3, 8, 8]))
    result = lower(ready(model, None, io="fp16"), LowerOptions(io="fp16")).model
    onnx.checker.check_model(result, full_check=True)
    assert [value.name for value in result.graph.output] == ["y", "k"]
    assert result.graph.output[1].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_names_that_are_taken():
    """Names of new tensors give way to those that the file has already."""
    body = f"a = {CONV} (x, w) b = Relu (x) c = Add (a, b) d = Mul (c, v2) y = {CONV} (d, v)"
    model, _ = small(body, f"{IMAGE}, float[3,1,1] v2", feeds=False)
    taken = {"b": "x/float16", "v2": "w/float16", "d": "c/float"}
    for node in model.graph.node:
        node.input[:] = [taken.get(name, name) for name in node.input]
        node.output[:] = [taken.get(name, name) for name in node.output]
    model.graph.input[1].name = taken["v2"]
    prepared = ready(model, small_feeds(model))
    for islands in ((), (prepared.model.graph[0].name,), (prepared.model.graph[1].name,)):
        lowered = lower(prepared, LowerOptions(), islands)
        onnx.checker.check_model(lowered.model, full_check=True)
        assert error(model, lowered, small_feeds(model)) < TOLERANCE


def test_a_file_may_cast_one_tensor_twice():
    """Whether the file's author needs a Cast is not checked."""
    model, prepared = small(f"t = Constant <value_float = 0.1> () b = Greater (x, t) {MASKS}")
    assert decided(prepared)["Cast_2"] == ("float16", "default")
    assert error(model, lower(prepared, LowerOptions()), small_feeds(model)) < TOLERANCE


def test_a_cast_like_states_its_type():
    """CastLike(count, x) is FP32 before x becomes FP16: 2049 stays 2049."""
    body = f"n = Constant <value_ints = [2049]> () k = CastLike (n, x) c = Mul (x, k) y = {CONV} (c, w)"
    result = lower(small(body, feeds=False)[1], LowerOptions()).model
    assert "CastLike" not in {node.op_type for node in result.graph.node}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_casts_are_called_like_no_other_node(precision):
    """Names that ours would have, given to nodes of the file: ONNX Runtime refuses two of one name."""
    model, _ = small(f"c = {CONV} (x, w) r = Relu (c) d = {CONV} (r, v) y = Sigmoid (d)", feeds=False)
    low = "float16" if precision == "fp16" else "bfloat16"
    names = [f"x/{low}/Cast", f"x/{low}", f"x/{low}", "y/output/Cast", "d/float/Cast", "Conv_1"]
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    result = lower(ready(model, None, precision=precision), LowerOptions(precision=precision)).model
    found = [node.name for node in result.graph.node]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_a_function_takes_the_place_of_a_standard_operator(domain):
    """A model-local PRelu that adds is called, by both names of the standard domain."""
    rest = '<domain: "q", opset_import: ["": 18]> PRelu (a, b) => (z) { z = Add (a, b) }'
    model = model_of(
        f"p = PRelu (x, slope) y = {CONV} (p, w)", IMAGE, OUT, rest=rest, slope=np.float32([100]), w=KERNEL
    )
    model.functions[0].domain = domain
    assert [node.op_type for node in ready(model, None).model.graph] == ["Add", "Conv"]
