"""Each rule finds its bad graph, names the node, and is silent on the good graph."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

from refine_export.errors import GraphError
from refine_export.graph import lint, load, tensorrt_ops
from refine_export.graph.lint import RULES, Finding, lint_file, lint_model
from rife.warplayer import warp

GOOD = 'mode="bilinear", padding_mode="border", align_corners=1'
IMAGE, FLOW = 'float[1,3,"H","W"] x', 'float[1,2,"H","W"] flow'
OUT = 'float[1,3,"H","W"] y'


def model_of(
    body: str, inputs: str = f"{IMAGE}, {FLOW}", out: str = OUT, opset: int = 18, rest: str = ""
) -> onnx.ModelProto:
    """Nodes in ONNX text -> model; `rest` follows the graph (functions)."""
    domains = '"my": 1, "com.microsoft": 1'
    return parse_model(
        f'<ir_version: 10, opset_import: ["": {opset}, {domains}]> g ({inputs}) => ({out}) {{ {body} }} {rest}'
    )


def warp_model(attributes: str = GOOD, opset: int = 18, grid: str = "") -> onnx.ModelProto:
    """Both inputs in, the flow as the grid."""
    grid = grid or "g = Transpose <perm=[0,2,3,1]> (flow)"
    return model_of(f"{grid} [warp] y = GridSample <{attributes}> (x, g)", opset=opset)


def only(findings: list[Finding], rule: str, node: str, *message: str) -> Finding:
    """The one finding: of this rule, on this node, with these words, and with reasons."""
    assert [finding.rule for finding in findings] == [rule], findings
    finding = findings[0]
    assert finding.node == node
    assert all(words in finding.message for words in message), finding.message
    assert (finding.why, finding.fix) == RULES[rule]
    return finding


def test_rules_are_listed_in_the_docstring():
    assert re.findall(r"^    ([a-z0-9]+(?:-[a-z0-9]+)*) {2,}\S", lint.__doc__, re.M) == list(RULES)
    assert all(why.endswith(".") and fix.endswith(".") for why, fix in RULES.values())


def test_op_list_is_of_onnx():
    """Every listed operator is one of ONNX's, but three that the parser keeps from before opset 1."""
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    assert tensorrt_ops.SUPPORTED_OPS - known == {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    assert "GridSample" in tensorrt_ops.SUPPORTED_OPS
    assert "AffineGrid" not in tensorrt_ops.SUPPORTED_OPS


@pytest.mark.parametrize(
    ("opset", "attributes", "rule", "severity", "words"),
    [
        (18, GOOD, "", "", ""),
        (18, 'padding_mode="border", align_corners=1', "", "", ""),  # bilinear by default
        (20, 'padding_mode="border", align_corners=1', "", "", ""),
        (20, GOOD.replace("bilinear", "linear"), "gridsample-nearest", "error", "'linear'"),
        (20, GOOD.replace("bilinear", "cubic"), "gridsample-nearest", "error", "'cubic'"),
        (18, GOOD.replace("bilinear", "nearest"), "gridsample-nearest", "error", "'nearest'"),
        (18, GOOD.replace("bilinear", "bicubic"), "gridsample-mode", "error", "'bicubic'"),
        (18, GOOD.replace("border", "reflection"), "gridsample-padding", "error", "'reflection'"),
        (18, 'mode="bilinear", align_corners=1', "gridsample-padding", "error", "'zeros'"),
        (18, GOOD.replace("corners=1", "corners=0"), "gridsample-corners", "error", "is 0"),
        (18, 'mode="bilinear", padding_mode="border"', "gridsample-corners", "error", "is 0"),
        (25, 'padding_mode="border", align_corners=1', "opset", "warning", "opset 25"),
        (24, 'padding_mode="border", align_corners=1', "", "", ""),
    ],
)
def test_gridsample_attributes_and_opset(opset: int, attributes: str, rule: str, severity: str, words: str):
    findings = lint_model(warp_model(attributes, opset))
    if not rule:
        assert findings == []
        return
    finding = only(findings, rule, "" if rule == "opset" else "warp", words)
    assert finding.severity == severity


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


class Warp(torch.nn.Module):
    def forward(self, image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        return warp(image, flow)


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*The axis name:UserWarning")
def test_dynamic_export_of_torch_bakes_the_size(tmp_path: Path):
    """The exporter freezes linspace's steps: right at the traced size, a failure at any other."""
    height, width = torch.export.Dim("h", min=1, max=64), torch.export.Dim("w", min=1, max=64)
    dynamic = {2: 32 * height, 3: 32 * width}
    example = torch.rand(1, 3, 64, 96), torch.rand(1, 2, 64, 96)
    path = tmp_path / "warp.onnx"
    torch.onnx.export(
        Warp().eval(), example, path, dynamo=True, opset_version=18, verbose=False,
        input_names=["image", "flow"], output_names=["out"], dynamic_shapes={"image": dynamic, "flow": dynamic},
    )  # fmt: skip
    findings = lint_file(path)
    assert [f.rule for f in findings] == ["baked-size", "baked-size", "baked-grid", "baked-grid"]
    assert findings[0].node == "out"
    assert "axis 2 is always 64" in findings[0].message
    assert {"[96]", "[64, 1]"} == {re.search(r"\[.*\]", f.message)[0] for f in findings[2:]}

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {"image": example[0].numpy(), "flow": example[1].numpy()}
    np.testing.assert_allclose(session.run(None, feeds)[0], warp(*example), atol=1e-5)
    with pytest.raises(Exception, match="broadcast"):
        session.run(None, {name: np.zeros((1, value.shape[1], 96, 128), np.float32) for name, value in feeds.items()})

    # the same file where the output is said to be dynamic: the nodes say otherwise
    model = onnx.load(path)
    for axis in (2, 3):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = f"out_{axis}"
    assert "axis 2 is always 64 (the file says 'out_2')" in lint_model(model)[0].message


BOTH = f"{IMAGE}, {FLOW}"
FLOW_PATH = "t = Transpose <perm=[0,2,3,1]> (flow) d = Div (t, c) g = Neg (d)"
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
        (IMAGE, 'float[1,3,64,"W"] y', "y = Relu (x)", [2]),  # the file says so, the nodes don't
        (IMAGE, OUT, "s = Constant <value_ints=[1,3,64,96]> () y = Reshape (x, s)", [2, 3]),
        (
            'float["N",3,64,96] x',
            "float[1,3,64,96] y",
            "s = Constant <value_ints=[1,3,64,96]> () y = Reshape (x, s)",
            [0],
        ),
        (IMAGE, "float[1,3,1,1] y", "y = GlobalAveragePool (x)", []),
        (IMAGE, 'float[1,3,"h","w"] y', "y = AveragePool <kernel_shape=[2,2], strides=[2,2]> (x)", []),
        ("float[1,3,64,96] x", "float[1,3,64,96] y", "y = Relu (x)", []),
        (IMAGE, "int64[4] y", "y = Shape (x)", []),
    ],
)
def test_baked_size(inputs: str, out: str, body: str, axes: list[int]):
    findings = lint_model(model_of(body, inputs, out))
    assert [(f.rule, f.node, f.message.split(" is ")[0]) for f in findings] == [
        ("baked-size", "y", f"axis {a}") for a in axes
    ]


def test_operators():
    only(lint_model(model_of("[d] y = Det (x)", 'float["N",3,3] x', 'float["N"] y')), "unsupported-op", "d", "Det")
    only(lint_model(model_of("[p] y = my.Warp (x, flow)")), "custom-op", "p", "my.Warp")
    only(
        lint_model(model_of("[q] y = com.microsoft.GridSample (x, flow)", opset=15)),
        "custom-op",
        "q",
        "com.microsoft.GridSample",
    )


@pytest.mark.parametrize(
    ("node", "rule", "words"),
    [
        ('y = Resize <mode="linear"> (x, , half)', "", ""),
        ('y = Resize <mode="linear", antialias=1> (x, , half)', "resize-attribute", "antialias is 1; expected 0"),
        (
            'y = Resize <mode="cubic"> (x, , half)',
            "resize-attribute",
            "mode is 'cubic'; expected 'nearest' or 'linear'",
        ),
        (
            'y = Resize <coordinate_transformation_mode="half_pixel_symmetric"> (x, , half)',
            "resize-attribute",
            "half_pixel",
        ),
        ('y = Resize <mode="linear"> (x, , given)', "resize-dynamic", "scales 'given'"),
        ('s = Shape (x) y = Resize <mode="linear"> (x, , , s)', "resize-dynamic", "sizes 's'"),
    ],
)
def test_resize(node: str, rule: str, words: str):
    half = "half = Constant <value_floats=[1.0,1.0,0.5,0.5]> ()"
    findings = lint_model(model_of(f"{half} {node}", f"{IMAGE}, float[4] given", 'float[1,3,"h","w"] y'))
    if not rule:
        assert findings == []
        return
    finding = only(findings, rule, "Resize#1 (output 'y')", words)
    assert finding.severity == ("warning" if rule == "resize-dynamic" else "error")


def test_float64():
    body = "d = Cast <to=11> (x) [mul] m = Mul (d, d) y = Cast <to=1> (m)"
    only(lint_model(model_of(body)), "float64", "mul", "'d'", "'m'")
    assert lint_model(model_of("d = Cast <to=11> (x) y = Cast <to=1> (d)")) == []


def test_invalid_model():
    """FP16 + FP32 in one Add: the checker's words are passed on."""
    invalid = model_of("h = Cast <to=10> (x) y = Add (h, x)")
    finding = only(lint_model(invalid), "invalid-model", "", "Add", "onnx.checker")
    assert finding.severity == "error"


def test_unreadable_model_is_invalid():
    only(lint_model(model_of("y = Relu (nowhere)")), "invalid-model", "", "'nowhere'")
    only(lint_model(model_of("a = Neg (b) b = Neg (a) y = Add (a, b)")), "invalid-model", "", "sorted")


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


def test_model_is_not_modified():
    model = model_of(
        "y = my.Same (x)", rest='<domain: "my", opset_import: ["": 18]> Same (a) => (b) { b = Identity (a) }'
    )
    before = model.SerializeToString(deterministic=True)
    assert lint_model(model) == []
    assert model.SerializeToString(deterministic=True) == before


def saved(folder: Path, *, shape: bool = False) -> Path:
    """A file whose weight, or whose Reshape's shape, is in w.data."""
    weight = np.array([0, 0, -1], np.int64) if shape else np.ones((3, 1, 1), np.float32)
    model = model_of("y = Reshape (x, w)", IMAGE, "float[1,3,s] y") if shape else model_of("y = Add (x, w)", IMAGE)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    return path


def test_file_is_linted(tmp_path: Path):
    path = tmp_path / "warp.onnx"
    onnx.save(warp_model('mode="linear", padding_mode="border", align_corners=1', 20), path)
    only(lint_file(path), "gridsample-nearest", "warp")


@pytest.mark.parametrize("shape", [False, True])
def test_external_data_are_read(tmp_path: Path, shape: bool):
    """Shapes too, which onnx.checker cannot read in place."""
    path = saved(tmp_path, shape=shape)
    assert lint_file(path) == []
    model = onnx.load(path, load_external_data=False)
    assert lint_model(model, folder=tmp_path) == []
    with pytest.raises(GraphError, match=r"'w' is in the file 'w\.data': pass its folder"):
        lint_model(model)


def test_external_data_too_large_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beyond 2 GiB the checker gets the path, and weights stay where they are."""
    path = saved(tmp_path)
    monkeypatch.setattr(load, "_IN_MEMORY_BYTES", 8)
    assert lint_file(path) == []
    with pytest.raises(GraphError, match=r"2 GiB.*lint_file"):
        lint_model(onnx.load(path, load_external_data=False), folder=tmp_path)


def test_external_data_missing_or_short(tmp_path: Path):
    path = saved(tmp_path)
    (tmp_path / "w.data").write_bytes(b"123")
    with pytest.raises(GraphError, match=r"external data can't be read, .* again: .*w"):
        lint_file(path)
    (tmp_path / "w.data").unlink()
    with pytest.raises(GraphError, match=r"w\.data is missing; expected tensor 'w' in it"):
        lint_file(path)


def test_bad_files(tmp_path: Path):
    contents = {"empty": b"", "text": b"this is no model\n", "html": b"<html></html>", "zeros": bytes(64)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    states = {
        "absent": "(does not exist)",
        "": "(a directory)",
        "empty": "empty",
        "text": "not ONNX",
        "html": "not ONNX",
        "zeros": "not ONNX",
    }
    for name, state in states.items():
        with pytest.raises(
            GraphError, match=f"{re.escape(str(tmp_path / name))} (is )?{state}.*; expected .*: check the path"
        ):
            lint_file(tmp_path / name)


def test_truncated_file_at_every_byte(tmp_path: Path):
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    whole = model.SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(GraphError, match="truncated"):
            lint_file(path)
    path.write_bytes(whole)
    assert lint_file(path) == []
