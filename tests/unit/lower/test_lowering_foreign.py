"""Files of other tools have operators, inputs, names and samplers that ours have not."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from refine_export.errors import GraphError, InternalError
from refine_export.graph.linter import lint_model
from refine_export.graph.operator_types import is_op
from refine_export.graph.sampling_coordinates import grids
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import check_lowered, lower
from tests.support.foreign import (
    CONV,
    GRID,
    IMAGE,
    OPSETS,
    OUT,
    SAMPLE,
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
from tests.support.refusals import refused


def test_only_pictures_are_fp16_inputs():
    """With io = fp16, factors, single numbers and what is called a timestep stay FP32."""
    inputs = (
        f'{IMAGE}, float[3,1,1] factor, float[1,1,1,1] gain, float["N",3,"H","W"] timestep, float["N",3,"H","W"] mvs'
    )
    body = f"a = Mul (x, factor) b = Mul (a, gain) c = Add (b, timestep) d = Add (c, mvs) y = {CONV} (d, w)"
    model, prepared = small(body, inputs)
    assert_lowered(model, lower(prepared, LowerOptions(io="fp16")), {"x", "mvs", "y"})


@pytest.mark.parametrize("name", ["", "gelu"])
def test_custom_operators_stay_fp32(name):
    """An operator of another domain gets and gives FP32; the lint names it in both files: it is not our fault."""
    label = f"[{name}] " if name else ""
    nodes = f"c = {CONV} (x, w) {label}d = com.microsoft.Gelu (c) {kernel('v', 3, 3, 3, 3)} y = {CONV} (d, v)"
    model = model_of(f"{kernel('w', 3, 3, 3, 3)} {nodes}", IMAGE)
    model.graph.value_info.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, ["N", 3, "H", "W"]))
    prepared = ready(model, small_feeds(model))
    lowered = lower(prepared, LowerOptions())
    rules = {node.operator: (node.type, node.rule) for node in lowered.nodes}
    assert (rules["Gelu"], rules["Conv"][0]) == (("float32", "no-low-form"), "float16")
    (inherited,) = check_lowered(lowered, ir.to_proto(prepared.model))
    assert inherited.startswith(name or "Gelu_1")
    assert "(custom-op)" in inherited
    assert 0 < error(model, lowered, small_feeds(model)) < TOLERANCE  # its declared type is known to the strict runner


def test_faults_of_the_file_are_inherited():
    """A bicubic GridSample was wrong before; a nameless one is called after its operator."""
    sample = SAMPLE.replace("padding", 'mode="bicubic", padding')
    model = model_of(f"{kernel('w', 3, 3, 3, 3)} c = {CONV} (x, w) y = {sample} (c, g)")
    prepared = ready(model, small_grid_feeds(), without_warp=False)
    lowered = lower(prepared, LowerOptions())
    (inherited,) = check_lowered(lowered, ir.to_proto(prepared.model))
    assert inherited.startswith("GridSample_1: ")
    with refused("lint-failed", InternalError, rule="gridsample-mode"):
        check_lowered(lowered)


@pytest.mark.parametrize("build", [grid_input_model, function_model], ids=["input", "function"])
@pytest.mark.parametrize("opset", OPSETS)
def test_grid_as_an_input(build, opset):
    """A grid that is an input stays FP32, with io = fp16 too; the warps of a model-local function are found."""
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
    lowered = lower(ready(model, here.feeds(64, 96), without_warp=False), LowerOptions())
    assert_lowered(model, lowered)
    assert [value.name for value in lowered.model.graph.input] == ["img0", "img1", "timestep"]
    assert lowered.types == here.lowered().types


def test_without_a_warp():
    """A graph that samples nothing is refused until that is stated; then it is lowered like any other."""
    model = plain_model()
    with refused("no-sampler", GraphError):
        ready(model, None, without_warp=False)
    lowered = lower(ready(model, small_feeds(model)), LowerOptions())
    assert lowered.types == {"float16": 3}
    assert_lowered(model, lowered)


@pytest.mark.parametrize("name", ["foreign, GatherElements", "foreign, Gather"])
def test_written_out_samplers_of_others(name):
    """Warps that a foreign tool wrote out are found: indices, weights and their arithmetic are FP32, pixels FP16."""
    lowered = foreign_case(name).lowered()
    assert Counter(node.rule for node in lowered.nodes)["coordinates"] > 60
    assert sum("interpolation weights" in node.reason for node in lowered.nodes) > 10
    graph = typed(lowered.model)
    samplers = grids(graph)
    assert len(samplers) == 24
    assert HALF in {node.outputs[0].dtype for node in samplers}
    floors = [node for node in graph if is_op(node, "Floor", "Clip")]
    assert {node.outputs[0].dtype for node in floors} == {SINGLE}
    for node in floors:
        for reader, _ in node.outputs[0].uses():  # the fractions and what they are made of
            assert reader.outputs[0].dtype in (SINGLE, ir.DataType.INT64), reader


def test_the_standard_domain_has_two_names():
    """`ai.onnx` is the domain "": its opset counts, and `linear` goes from opset 20 on."""
    sample = 'GridSample <mode = "linear", padding_mode = "border", align_corners = 1> (c, g)'
    body = f"c = {CONV} (x, w) s = {sample} y = {CONV} (s, v)"
    for opset, text, precision in ((22, body, "fp16"), (18, body.replace("linear", "bilinear"), "bf16")):
        kernels = f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)}"
        model = model_of(f"{kernels} {text}", f"{IMAGE}, {GRID}", opset=opset)
        for imported in model.opset_import:
            imported.domain = imported.domain or "ai.onnx"
        for node in model.graph.node:
            node.domain = "ai.onnx" if precision == "fp16" else ""
        options = LowerOptions(precision=precision)
        lowered = lower(ready(model, None, precision=precision), options)
        onnx.checker.check_model(lowered.model, full_check=True)
        assert lint_model(lowered.model) == []
        assert {"float32"} < {node.type for node in lowered.nodes}


@pytest.mark.parametrize(
    ("body", "out"),
    [
        (f"s = Cast <to = 1> (d) m = Mul (x, s) y = {CONV} (m, w)", OUT),
        (
            "s = Shape (x) i = Constant <value_int = 3> () n = Gather (s, i) e = Cast <to = 11> (n) h = Div (e, d) "
            f"f = Floor (h) k = Cast <to = 1> (f) m = Div (x, k) y = {CONV} (m, w)",
            OUT,
        ),
        (f"y = {CONV} (x, w) e = Cast <to = 11> (y) z = Mul (e, d)", f'{OUT}, double["N",3,"H","W"] z'),
    ],
    ids=["a number", "a size", "an output"],
)
def test_fp64_apart_from_the_pictures(body, out):
    """Numbers, sizes and outputs of their own may be FP64: nothing in FP16 is computed from them as FP64."""
    model = model_of(f"{kernel('w', 3, 3, 3, 3)} d = Constant <value = double {{2.0}}> () {body}", IMAGE, out)
    prepared = ready(model, small_feeds(model))
    lowered = lower(prepared, LowerOptions())
    check_lowered(lowered, ir.to_proto(prepared.model))
    assert {node.operator: node.type for node in lowered.nodes}["Conv"] == "float16"
    assert error(model, lowered, small_feeds(model)) < TOLERANCE


@pytest.mark.parametrize("body", ["y = Cast <to = 1> (e)", "f = Sqrt (e) y = Cast <to = 1> (f)"])
def test_fp64_of_the_pictures_is_refused(body):
    with refused("not-fp32", GraphError, tensor="e"):
        ready(model_of(f"e = Cast <to = 11> (x) {body}", IMAGE, OUT), None)
