"""Each rule finds its bad graph, names the node, and finds nothing in the good graph."""

import copy
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from refine_export.engine.bindings import Log, builder_of, load_library
from refine_export.engine.parse_network import parse_onnx
from refine_export.graph import tensorrt_ops
from refine_export.graph.linter import lint_model
from refine_export.signature import SIGNATURES
from tests.support.engine_models import needs_rtx
from tests.support.lint_models import BOTH, FLOW, GOOD, IMAGE, OUT, model_of, only, warp_model


def test_op_list_is_of_onnx():
    """Every listed operator is one of ONNX's, but three that the parser keeps from before opset 1."""
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    assert tensorrt_ops.SUPPORTED_OPS - known == {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    assert "GridSample" in tensorrt_ops.SUPPORTED_OPS
    assert "AffineGrid" not in tensorrt_ops.SUPPORTED_OPS
    assert not tensorrt_ops.RTX_ADDS & tensorrt_ops.SUPPORTED_OPS


RESIZED = "half = Constant <value_floats=[1.0,1.0,2.0,2.0]> () [n] y = Resize <{}> (x, , half)"
RESTRICTED = [  # the node n, the inputs, what is beyond TensorRT's list and, where that differs, TensorRT for RTX
    ('[n] y = ScatterND <reduction="add"> (x, i, x)', "float[4,4] x, int64[4,1] i", "unsupported-attribute", False),
    ("[n] y = ScatterND (x, i, x)", "float[4,4] x, int64[4,1] i", "", True),
    (
        '[n] y = ScatterElements <reduction="max"> (x, i, x)',
        "float[4,4] x, int64[4,4] i",
        "unsupported-attribute",
        False,
    ),
    *(
        (f"[n] y = {kind} <kernel_shape=[3,3], dilations=[{sides}]> (x)", "float[1,3,9,9] x", rule, not rule)
        for kind in tensorrt_ops.UNDILATED
        for sides, rule in (("2,2", "unsupported-attribute"), ("1,1", ""))
    ),
    ("[n] y, i = MaxPool <kernel_shape=[3,3]> (x)", "float[1,3,9,9] x", "unsupported-attribute", False),
    *(
        (
            f"s = Constant <value=float {{0.5}}> () z = Constant <value=int8 {{{zero}}}> () "
            "[n] q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s)",
            "float[1,3,9,9] x",
            rule,
            not rule,
        )
        for zero, rule in ((3, "unsupported-attribute"), (0, ""))
    ),
    (RESIZED.format("antialias=1"), "float[1,3,9,9] x", "resize-attribute", False),
    (RESIZED.format('mode="cubic"'), "float[1,3,9,9] x", "resize-attribute", True),
    (
        RESIZED.format('coordinate_transformation_mode="half_pixel_symmetric"'),
        "float[1,3,9,9] x",
        "resize-attribute",
        False,
    ),
    (f"[n] y = GridSample <{GOOD}> (x, g)", "float[1,3,9,9,9] x, float[1,9,9,9,3] g", "gridsample-rank", True),
    ("[n] y = Swish (x)", "float[4] x", "unsupported-op", True),
]


def refusals(model: onnx.ModelProto) -> list[str]:
    module = load_library("rtx").module
    log = Log(module)
    return [fault.node for fault in parse_onnx(module, builder_of(module, log), log, model.SerializeToString())[1]]


@pytest.mark.parametrize(("body", "inputs", "rule", "taken"), RESTRICTED, ids=[case[0] for case in RESTRICTED])
def test_forms_that_tensorrt_lacks(body: str, inputs: str, rule: str, taken: bool):
    """The rules follow NVIDIA's list; the real parser of TensorRT for RTX takes what `taken` says."""
    model = model_of(body, inputs, "float y", opset=24)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert [(one.rule, one.node) for one in lint_model(model) if one.rule != "opset"] == [(rule, "n")] * bool(rule)
    if find_spec("tensorrt_rtx") is not None:
        assert (refusals(model) == []) == taken


@needs_rtx
def test_the_list_beside_the_parser_of_tensorrt_for_rtx():
    """It has what `RTX_ADDS` says, and lacks DeformConv, whose plugin comes with enterprise TensorRT alone."""
    module = load_library("rtx").module
    log = Log(module)
    network = builder_of(module, log).create_network(0)
    parser = module.OnnxParser(network, log.logger)
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    taken = {name for name in known | tensorrt_ops.SUPPORTED_OPS if parser.supports_operator(name)}
    assert taken - tensorrt_ops.SUPPORTED_OPS == tensorrt_ops.RTX_ADDS
    assert tensorrt_ops.SUPPORTED_OPS - taken == {"DeformConv"}


@pytest.mark.parametrize(
    ("opset", "attributes", "rule"),
    [
        (18, GOOD, ""),
        (18, 'padding_mode="border", align_corners=1', ""),  # bilinear by default
        (20, 'padding_mode="border", align_corners=1', ""),
        (20, GOOD.replace("bilinear", "linear"), "gridsample-nearest"),
        (18, GOOD.replace("bilinear", "nearest"), "gridsample-nearest"),
        (18, GOOD.replace("bilinear", "bicubic"), "gridsample-mode"),
        (18, GOOD.replace("border", "reflection"), "gridsample-padding"),
        (18, 'mode="bilinear", align_corners=1', "gridsample-padding"),
        (18, GOOD.replace("corners=1", "corners=0"), "gridsample-corners"),
        (18, 'mode="bilinear", padding_mode="border"', "gridsample-corners"),
        (25, 'padding_mode="border", align_corners=1', "opset"),
        (24, 'padding_mode="border", align_corners=1', ""),
    ],
)
def test_gridsample_attributes_and_opset(opset: int, attributes: str, rule: str):
    findings = lint_model(warp_model(attributes, opset))
    assert [finding.rule for finding in findings] == [rule] * bool(rule)
    for finding in findings:
        expected = ("", "warning") if rule == "opset" else ("warp", "error")
        # Padding and corners of another tool's graph may be what it was trained with.
        expected = ("warp", "warning") if rule in ("gridsample-padding", "gridsample-corners") else expected
        assert (finding.node, finding.severity) == expected


@pytest.mark.parametrize("attributes", ["align_corners=0", 'padding_mode="border"', "align_corners=1"])
def test_attributes_of_one_of_our_graphs_are_those_of_the_reference(attributes: str):
    outputs = SIGNATURES["contextnet"].output_names
    body = " ".join(f"{name} = Identity (s)" for name in outputs)
    body = f"t = Transpose <perm=[0,2,3,1]> (flow) s = GridSample <{attributes}> (image, t) {body}"
    out = ", ".join(f'float["N",3,"H","W"] {name}' for name in outputs)
    findings = lint_model(model_of(body, 'float["N",3,"H","W"] image, float["N",2,"H","W"] flow', out))
    assert {finding.severity for finding in findings if finding.rule.startswith("gridsample")} == {"error"}


def test_all_rules_of_one_node_speak():
    findings = lint_model(warp_model('mode="linear"', opset=20))
    assert [f.rule for f in findings] == ["gridsample-nearest", "gridsample-padding", "gridsample-corners"]


def test_dtype_mix_that_onnx_accepts():
    mixed = model_of(
        f"g = Transpose <perm=[0,2,3,1]> (flow) [warp] y = GridSample <{GOOD}> (x, g)",
        f'float16[1,3,"H","W"] x, {FLOW}',
        'float16[1,3,"H","W"] y',
    )
    only(lint_model(mixed), "gridsample-dtype", "warp", "'x' is FLOAT16", "'g' is FLOAT")


def test_operators():
    only(lint_model(model_of("[d] y = Det (x)", 'float["N",3,3] x', 'float["N"] y')), "unsupported-op", "d", "Det")
    only(lint_model(model_of("[p] y = my.Warp (x, flow)")), "custom-op", "p", "my.Warp")


@pytest.mark.parametrize(
    ("node", "rule"),
    [
        ('y = Resize <mode="linear"> (x, , half)', ""),
        ('y = Resize <mode="linear", antialias=1> (x, , half)', "resize-attribute"),
        ('y = Resize <mode="linear"> (x, , given)', "resize-dynamic"),
        ('s = Shape (x) y = Resize <mode="linear"> (x, , , s)', "resize-dynamic"),
    ],
)
def test_resize(node: str, rule: str):
    half = "half = Constant <value_floats=[1.0,1.0,0.5,0.5]> ()"
    findings = lint_model(model_of(f"{half} {node}", f"{IMAGE}, float[4] given", 'float[1,3,"h","w"] y'))
    if not rule:
        assert findings == []
        return
    finding = only(findings, rule, "Resize#1 (output 'y')")
    assert finding.severity == ("warning" if rule == "resize-dynamic" else "error")


def test_float64():
    body = "d = Cast <to=11> (x) [mul] m = Mul (d, d) y = Cast <to=1> (m)"
    only(lint_model(model_of(body)), "float64", "mul", "'d'", "'m'")
    assert lint_model(model_of("d = Cast <to=11> (x) y = Cast <to=1> (d)")) == []


@pytest.mark.parametrize(
    "body", ["h = Cast <to=10> (x) y = Add (h, x)", "y = Relu (nowhere)", "a = Neg (b) b = Neg (a) y = Add (a, b)"]
)
def test_models_that_the_checker_refuses(body):
    """Two types in one Add; a tensor that nothing makes; a circle."""
    assert only(lint_model(model_of(body)), "invalid-model", "").severity == "error"


def test_an_output_without_a_shape_is_valid():
    """The standard's IR makes it optional, and runtimes need none."""
    bare = warp_model()
    bare.graph.output[0].type.tensor_type.ClearField("shape")
    assert lint_model(bare) == []


def test_names_that_are_not_utf8_are_a_finding():
    content = model_of("y = Relu (x)", IMAGE).SerializeToString().replace(b"\x12\x01H", b"\x12\x01\xa9")
    assert only(lint_model(onnx.ModelProto.FromString(content)), "invalid-model", "").severity == "error"


def test_model_is_not_modified():
    model = model_of(
        "y = my.Same (x)", rest='<domain: "my", opset_import: ["": 18]> Same (a) => (b) { b = Identity (a) }'
    )
    before = model.SerializeToString(deterministic=True)
    assert lint_model(model) == []
    assert model.SerializeToString(deterministic=True) == before


DYNAMIC_GRID = "t = Transpose <perm=[0,2,3,1]> (flow) g = Add (t, c)"


@pytest.mark.parametrize(
    ("shape", "inputs", "found"),
    [
        ((1, 64, 96, 2), BOTH, True),
        ((1, 1, 96, 2), BOTH, True),
        ((96, 2), BOTH, True),
        ((64, 1, 1), BOTH, False),  # as the bias of a convolution, which is no part of a grid
        ((1, 1, 1, 2), BOTH, False),
        ((), BOTH, False),
        ((1, 64, 96, 2), "float[1,3,64,96] x, float[1,2,64,96] flow", False),
    ],
)
def test_baked_grid(shape: tuple[int, ...], inputs: str, found: bool):
    model = model_of(f"{DYNAMIC_GRID} y = GridSample <{GOOD}> (x, g)", inputs)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), "c"))
    nodes = [f.node for f in lint_model(model) if f.rule == "baked-grid"]
    assert nodes == ["c"] * found


@pytest.mark.parametrize(
    ("inputs", "out", "body", "axes"),
    [
        (IMAGE, 'float[1,3,64,"W"] y', "y = Relu (x)", [2]),  # declared in the file alone
        (IMAGE, OUT, "s = Constant <value_ints=[1,3,64,96]> () y = Reshape (x, s)", [2, 3]),
        (IMAGE, "float[1,3,1,1] y", "y = GlobalAveragePool (x)", []),
        ("float[1,3,64,96] x", "float[1,3,64,96] y", "y = Relu (x)", []),
        (IMAGE, "int64[4] y", "y = Shape (x)", []),
    ],
)
def test_baked_size(inputs: str, out: str, body: str, axes: list[int]):
    findings = [f for f in lint_model(model_of(body, inputs, out)) if f.node == "y"]
    assert [(f.rule, f.node, f.message.split(" is ")[0]) for f in findings] == [
        ("baked-size", "y", f"axis {axis}") for axis in axes
    ]


INSIDE = "l = Resize <mode='linear'> (x, , , n) c = Relu (l) y = Resize <mode='linear'> (c, , , m)".replace("'", '"')
SIDES = "m = Shape (x) n = Constant <value_ints=[1,3,32,48]> ()"


@pytest.mark.parametrize(
    ("body", "operator"),
    [
        (f"{SIDES} {INSIDE}", "Resize"),
        (
            "m = Shape (x) o = Constant <value_ints=[0]> () i = Constant <value_ints=[2]> () b = Slice (m, o, i) "
            f"f = Constant <value_ints=[32,48]> () n = Concat <axis=0> (b, f) {INSIDE}",
            "Resize",
        ),
        (f"{SIDES} p = Expand (k, n) y = Concat <axis=0> (x, p)", "Concat"),
        (f"{SIDES} p = ConstantOfShape (n) y = Add (x, p)", "Add"),
        (f"{SIDES} r = Reshape (x, n) y = Neg (r)", "Reshape"),
        ("a = Constant <value_ints=[0]> () b = Constant <value_ints=[48]> () d = Constant <value_ints=[3]> () "
         "y = Slice (x, a, b, d)", "Slice"),
        ("a = Constant <value_float=0.0> () b = Constant <value_float=48.0> () d = Constant <value_float=1.0> () "
         "r = Range (a, b, d) y = Add (x, r)", "Add"),
    ],
)  # fmt: skip
def test_sizes_of_the_example_inside_of_a_dynamic_file(body: str, operator: str):
    """A level that is always 32x48, a plane or a grid that is expanded to it, a cut at 48: right at one size alone."""
    model = model_of(body, IMAGE, 'float["A",3,"B","C"] y')
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "k"))
    found = [f for f in lint_model(model) if f.rule == "baked-size" and f.node != "y"]
    assert [f.message.split()[0] for f in found] == [operator]
    model = model_of(body, "float[1,3,64,96] x", 'float["A",3,"B","C"] y')
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "k"))
    assert "baked-size" not in {f.rule for f in lint_model(model)}


@pytest.mark.parametrize("side", [7, 9])
def test_a_window_of_a_lookup_is_not_a_baked_grid(side: int):
    """RAFT: offsets of a window are added to the positions of all pixels, which are a batch."""
    body = (
        "s = Constant <value_ints=[-1,1,1,2]> () t = Transpose <perm=[0,2,3,1]> (flow) p = Reshape (t, s) "
        f"g = Add (p, window) y = GridSample <{GOOD}> (x, g)"
    )
    model = model_of(body, 'float["P",1,"H","W"] x, float[1,2,"H","W"] flow', f"float[P,1,{side},{side}] y")
    window = np.zeros((1, side, side, 2), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(window, "window"))
    assert {f.rule for f in lint_model(model)} <= {"baked-size"}


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
        f"{before} {grid} [warp] y = GridSample <{GOOD}> (x, g)", f"{IMAGE}, {inputs}, {FLOW}32, float16[2,2,1,1] k"
    )
    findings = lint_model(network)
    if not culprits:
        assert findings == []
        return
    only(findings, "fp16-coordinates", "warp", *culprits)


def test_fp16_grid_is_found_whatever_made_it():
    """Even a convolution's output is no grid in FP16."""
    half = model_of(
        f"c = Conv (x, k) g = Transpose <perm=[0,2,3,1]> (c) [warp] y = GridSample <{GOOD}> (x, g)",
        'float16[1,2,"H","W"] x, float16[2,2,1,1] k',
        'float16[1,2,"H","W"] y',
    )
    only(lint_model(half), "fp16-coordinates", "warp", "FLOAT16", "Transpose 'g'")


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
    function = f'<domain: "my", opset_import: ["": 18]> Warp (a, b) => (o) {{ o = GridSample <{GOOD}> (a, b) }}'
    only(lint_model(model_of("y = my.Warp (x)", rest=function)), "invalid-model", "", "functions inlined")


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


def test_fp16_converter_of_onnxruntime_is_found_out():
    """Its graphs are invalid (nodes twice, unsorted, old types); that does not hide the FP16 coordinates."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    plain = model_of(f"{FLOW_PATH} [warp] y = GridSample <{GOOD}> (x, g)", BOTH)
    plain.graph.initializer.append(numpy_helper.from_array(np.float32(100), "c"))
    assert lint_model(plain) == []
    for blocked in ({}, {"op_block_list": ["GridSample"]}):
        halved = convert_float_to_float16(copy.deepcopy(plain), keep_io_types=True, **blocked)
        only([one for one in lint_model(halved) if one.rule != "invalid-model"], "fp16-coordinates", "warp", "Div 'd'")
