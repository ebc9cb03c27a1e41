"""Each rule finds its bad graph, names the node, and is silent on the good graph."""

import onnx
import pytest

from refine_export.graph import tensorrt_ops
from refine_export.graph.linter import lint_model
from tests.support.lint_models import FLOW, GOOD, IMAGE, model_of, only, warp_model


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


def test_model_is_not_modified():
    model = model_of(
        "y = my.Same (x)", rest='<domain: "my", opset_import: ["": 18]> Same (a) => (b) { b = Identity (a) }'
    )
    before = model.SerializeToString(deterministic=True)
    assert lint_model(model) == []
    assert model.SerializeToString(deterministic=True) == before
