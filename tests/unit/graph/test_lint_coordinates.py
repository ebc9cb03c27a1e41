"""The linter finds coordinates in FP16 on any path to a GridSample, in subgraphs and in faulty graphs too."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from refine_export.graph.linter import lint_model
from tests.support.lint_models import BOTH, FLOW, GOOD, IMAGE, OUT, model_of, only, warp_model

HALF_FLOW = "h = Cast <to=10> (flow) d = Div (h, h) t = Transpose <perm=[0,2,3,1]> (d) g = Cast <to=1> (t)"


@pytest.mark.parametrize(
    ("grid", "inputs", "culprits"),
    [
        # what off-the-shelf converters make: everything in FP16, one Cast up in front of GridSample
        (HALF_FLOW, FLOW, ["FLOAT16", "Div 'd', Cast 'h'"]),
        (HALF_FLOW.replace("to=10", "to=16"), FLOW, ["BFLOAT16", "Div 'd'"]),
        # an FP16 flow input, cast up at once
        (
            "t = Cast <to=1> (flow) g = Transpose <perm=[0,2,3,1]> (t)",
            FLOW.replace("float", "float16"),
            ["input or weight 'flow'"],
        ),
        # an FP16 weight
        (
            "t = Transpose <perm=[0,2,3,1]> (flow) c = Cast <to=1> (w) g = Add (t, c)",
            f"{FLOW}, float16 w",
            ["input or weight 'w'"],
        ),
        (
            'u = Resize <mode="linear"> (conv, , s) f = Cast <to=1> (u) g = Transpose <perm=[0,2,3,1]> (f)',
            FLOW,
            ["Resize 'u'"],
        ),
        # good: FP32 throughout; a convolution in FP16 whose output moves and is cast up at once
        ("g = Transpose <perm=[0,2,3,1]> (flow)", FLOW, []),
        ("f = Cast <to=1> (conv) t = Transpose <perm=[0,2,3,1]> (f) g = Add (t, t)", FLOW, []),
        ("t = Transpose <perm=[0,2,3,1]> (conv) g = Cast <to=1> (t)", FLOW, []),
        # good: sizes and FP16 elsewhere are not coordinates
        ("n = Shape (half) r = Reshape (flow, n) g = Transpose <perm=[0,2,3,1]> (r)", FLOW, []),
    ],
)
def test_fp16_coordinates(grid: str, inputs: str, culprits: list[str]):
    before = (
        "half = Cast <to=10> (flow32) squared = Mul (half, half) conv = Conv (squared, k) "
        "s = Constant <value_floats=[1.0,1.0,1.0,1.0]> ()"
    )
    network = model_of(
        f"{before} {grid} [warp] y = GridSample <{GOOD}> (x, g)",
        f"{IMAGE}, {inputs}, {FLOW}32, float16[2,2,1,1] k",
    )
    findings = lint_model(network)
    if not culprits:
        assert findings == []
        return
    only(findings, "fp16-coordinates", "warp", *culprits)
    assert "0.23 px at W=1920" in findings[0].why


def test_fp16_grid_is_found_whatever_made_it():
    """Even a convolution's output is no grid in FP16."""
    half = model_of(
        f"c = Conv (x, k) g = Transpose <perm=[0,2,3,1]> (c) [warp] y = GridSample <{GOOD}> (x, g)",
        'float16[1,2,"H","W"] x, float16[2,2,1,1] k',
        'float16[1,2,"H","W"] y',
    )
    only(lint_model(half), "fp16-coordinates", "warp", "FLOAT16", "Transpose 'g'")


def test_long_lists_are_cut():
    chain = " ".join(f"h{i + 1} = Neg (h{i})" for i in range(9))
    grid = f"h0 = Cast <to=10> (flow) {chain} c = Cast <to=1> (h9) g = Transpose <perm=[0,2,3,1]> (c)"
    only(lint_model(warp_model(grid=grid)), "fp16-coordinates", "warp", "Neg 'h9'", "and 6 more")


def test_subgraphs_and_functions_are_read():
    """A GridSample in a branch of If, and one in a model-local function of another opset."""
    branch = '[inner] a = GridSample <mode="nearest", padding_mode="border", align_corners=1> (x, g)'
    choice = model_of(
        f"{HALF_FLOW} y = If (c) <then_branch = t () => ({OUT[:-1]}a) {{ {branch} }},"
        f" else_branch = e () => ({OUT[:-1]}b) {{ b = Identity (x) }}>",
        f"{IMAGE}, {FLOW}, bool c",
    )
    assert [(f.rule, f.node) for f in lint_model(choice)] == [
        ("gridsample-nearest", "inner"),
        ("fp16-coordinates", "inner"),
    ]

    for opset in (17, 18):
        nodes = f"g = Transpose <perm=[0,2,3,1]> (b) o = GridSample <{GOOD}> (a, g)"
        function = f'<domain: "my", opset_import: ["": {opset}]> Warp (a, b) => (o) {{ {nodes} }}'
        assert lint_model(model_of("y = my.Warp (x, flow)", rest=function)) == []
        bad = function.replace("border", "zeros")
        only(lint_model(model_of("y = my.Warp (x, flow)", rest=bad)), "gridsample-padding", "GridSample#1 (output 'y')")


def test_grid_made_outside_and_inside_of_a_loop():
    """A coordinate path leaves a Loop body by its inputs and enters one by its outputs."""
    state = 'float[1,"H","W",2]'
    nodes = f"c2 = Identity (c) s2 = Neg (s) [inner] z = GridSample <{GOOD}> (x, s)"
    body = f"b (int64 i, bool c, {state} s) => (bool c2, {state} s2, {OUT[:-1]}z) {{ {nodes} }}"
    loop = f"{HALF_FLOW} last, all = Loop (n, k, g) <body = {body}> [outer] y = GridSample <{GOOD}> (x, last)"
    findings = lint_model(model_of(loop, f"{IMAGE}, {FLOW}, int64 n, bool k"))
    assert {(f.rule, f.node) for f in findings} == {("fp16-coordinates", "inner"), ("fp16-coordinates", "outer")}
    assert all("Div 'd'" in f.message for f in findings)


FLOW_PATH = "t = Transpose <perm=[0,2,3,1]> (flow) d = Div (t, c) g = Neg (d)"


@pytest.mark.parametrize("blocked", [None, ["GridSample"]])
def test_fp16_converter_of_onnxruntime_is_found_out(blocked: list[str] | None):
    """Its graphs are invalid (nodes twice, unsorted, old types); that does not hide the FP16 coordinates."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    plain = model_of(f"{FLOW_PATH} [warp] y = GridSample <{GOOD}> (x, g)", BOTH)
    plain.graph.initializer.append(numpy_helper.from_array(np.float32(100), "c"))
    assert lint_model(plain) == []
    halved = convert_float_to_float16(plain, keep_io_types=True, **({"op_block_list": blocked} if blocked else {}))
    findings = [finding for finding in lint_model(halved) if finding.rule != "invalid-model"]
    only(findings, "fp16-coordinates", "warp", "Div 'd'")


def test_converter_faults_hide_nothing():
    """Nodes twice, unsorted, a type that holds no more."""
    model = model_of(f"{HALF_FLOW} [warp] y = GridSample <{GOOD}> (x, g)")
    model.graph.node.insert(0, model.graph.node.pop())
    model.graph.node.append(model.graph.node[1])
    model.graph.value_info.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, None))
    findings = lint_model(model)
    assert [f.rule for f in findings] == ["invalid-model", "fp16-coordinates"]
    assert "Div 'd', Cast 'h'" in findings[1].message
