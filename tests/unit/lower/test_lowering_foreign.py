"""What the files of other tools have: operators, inputs, outputs, names and samplers that ours have not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from refine_export.errors import GraphError, InternalError
from refine_export.graph.operator_types import is_op
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import check_lowered, lower
from tests.support.foreign import (
    CONV,
    IMAGE,
    OPSETS,
    function_model,
    grid_input_model,
    kernel,
    model_of,
    plain_model,
    with_initializers,
)
from tests.support.lowering_cases import (
    FIRST,
    TOLERANCE,
    error,
    foreign_case,
    ready,
    small,
    small_feeds,
    small_grid_feeds,
)
from tests.support.lowering_checks import HALF, SINGLE, assert_lowered, typed


def test_only_pictures_are_fp16_inputs():
    """With io = fp16, factors, single numbers and what is called a timestep stay FP32."""
    inputs = (
        f'{IMAGE}, float[3,1,1] factor, float[1,1,1,1] gain, float["N",3,"H","W"] timestep, float["N",3,"H","W"] mvs'
    )
    body = f"a = Mul (x, factor) b = Mul (a, gain) c = Add (b, timestep) d = Add (c, mvs) y = {CONV} (d, w)"
    model, prepared = small(body, inputs)
    assert_lowered(model, lower(prepared, LowerOptions(io="fp16")), {"x", "mvs", "y"})


def typed_gelu(name: str = "") -> onnx.ModelProto:
    """An operator of ONNX Runtime's own domain behind a convolution; the file says what type it gives."""
    label = f"[{name}] " if name else ""
    nodes = f"c = {CONV} (x, w) {label}d = com.microsoft.Gelu (c) {kernel('v', 3, 3, 3, 3)} y = {CONV} (d, v)"
    model = model_of(f"{kernel('w', 3, 3, 3, 3)} {nodes}", IMAGE)
    model.graph.value_info.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, ["N", 3, "H", "W"]))
    return model


@pytest.mark.parametrize("name", ["", "gelu"])
def test_custom_operators_stay_fp32(name):
    """An operator of another domain gets and gives FP32; the lint names it in both files: no fault of ours."""
    model = typed_gelu(name)
    prepared = ready(model, small_feeds(model))
    lowered = lower(prepared, LowerOptions())
    reasons = {node.operator: (node.type, node.reason) for node in lowered.nodes}
    assert reasons["Gelu"] == ("float32", "custom operator com.microsoft.Gelu: its types are not known")
    assert reasons["Conv"][0] == "float16"
    inherited = check_lowered(lowered, ir.to_proto(prepared.model))
    assert len(inherited) == 1
    assert "(custom-op), as in the FP32 file" in inherited[0]
    assert inherited[0].startswith(name or "Gelu_1")


def test_faults_of_the_file_are_passed_on():
    """A GridSample without align_corners was wrong before; a nameless one is called after its operator."""
    model = model_of(f'{kernel("w", 3, 3, 3, 3)} c = {CONV} (x, w) y = GridSample <padding_mode="border"> (c, g)')
    prepared = ready(model, small_grid_feeds(), without_warp=False)
    lowered = lower(prepared, LowerOptions())
    inherited = check_lowered(lowered, ir.to_proto(prepared.model))
    assert inherited == ("GridSample_1: align_corners is 0; expected 1 (gridsample-corners), as in the FP32 file",)
    with pytest.raises(InternalError, match="does not pass our own lint"):
        check_lowered(lowered)


@pytest.mark.parametrize("build", [grid_input_model, function_model], ids=["input", "function"])
@pytest.mark.parametrize("opset", OPSETS)
def test_grid_as_an_input(build, opset):
    """A grid that comes in stays FP32, with io = fp16 too; the warps of a model-local function are found."""
    model = build(opset)
    prepared = ready(model, small_grid_feeds(), without_warp=False)
    for io, half in (("fp32", set()), ("fp16", {"x", "y"})):
        lowered = lower(prepared, LowerOptions(io=io))
        assert_lowered(model, lowered, half)
        assert sum(node.operator == "GridSample" for node in lowered.nodes) == 2
        rounded = small_grid_feeds()
        rounded["x"] = rounded["x"].astype(np.float16).astype(np.float32)
        assert error(model, lowered, rounded) < TOLERANCE


@pytest.mark.parametrize("as_inputs", [False, True])
def test_constants_may_be_initializers(as_inputs):
    """Initializers in the place of Constant nodes give the same file; those that are inputs too are inputs no more."""
    here = foreign_case(FIRST)
    model = with_initializers(here.model, as_inputs=as_inputs)
    prepared = ready(model, here.feeds(64, 96), without_warp=False)
    lowered = lower(prepared, LowerOptions())
    assert_lowered(model, lowered)
    assert [value.name for value in lowered.model.graph.input] == ["img0", "img1", "timestep"]
    types = Counter(node.type for node in lowered.nodes)
    assert types == Counter(node.type for node in here.lowered().nodes)


def test_without_a_warp():
    """A graph that samples nothing is refused until that is said; then it is lowered like any other."""
    model = plain_model()
    with pytest.raises(GraphError, match="no GridSample and no Gather by computed positions.*--without-warp"):
        ready(model, None, without_warp=False)
    lowered = lower(ready(model, small_feeds(model)), LowerOptions())
    assert lowered.types == {"float16": 3}
    assert_lowered(model, lowered)


def test_outputs_of_one_value():
    """Two outputs that are one value keep both names; an output that is an input, or is cast to FP32 at last, too."""
    body = f"c = {CONV} (x, w) y = Identity (c) z = Identity (c) [up] u = Cast <to = 1> (c) t = Identity (x)"
    out = ", ".join(f'float["N",3,"H","W"] {name}' for name in "yzut")
    model, prepared = small(body, IMAGE, out)
    for options in ({}, {"fp32_tail": False}, {"io": "fp16"}, {"fp32_tail": False, "io": "fp16"}):
        lowered = lower(prepared, LowerOptions(**options))
        assert_lowered(model, lowered, set("xyzut") if "io" in options else set())
        assert error(model, lowered, small_feeds(model)) < TOLERANCE


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


@pytest.mark.parametrize("warp", ["gather_elements", "gather_nd"])
def test_written_out_samplers_of_others(warp):
    """Warps that a foreign tool wrote out are found: indices, weights and their arithmetic are FP32, pixels FP16."""
    here = foreign_case({"gather_elements": "foreign, GatherElements", "gather_nd": "foreign, GatherND"}[warp])
    lowered = here.lowered()
    reasons = Counter(node.reason.split(" of ")[0] for node in lowered.nodes)
    assert reasons["coordinates"] > 50
    assert reasons["interpolation weights"] > 10
    graph = typed(lowered.model)
    gathers = [node for node in graph if is_op(node, "GatherElements", "GatherND")]
    assert len(gathers) == 24
    assert HALF in {node.outputs[0].dtype for node in gathers}
    floors = [node for node in graph if is_op(node, "Floor", "Min", "Max")]
    assert {node.outputs[0].dtype for node in floors} == {SINGLE}
    for node in floors:
        for reader, _ in node.outputs[0].uses():  # the fractions and what they are made of
            assert reader.outputs[0].dtype in (SINGLE, ir.DataType.INT64), reader
