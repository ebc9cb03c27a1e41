"""Graphs with a GridSample, in ONNX text, and what the linter finds in them, for tests."""

import onnx
from onnx.parser import parse_model

from refine_export.graph.lint_texts import RULES, LintFinding

GOOD = 'mode="bilinear", padding_mode="border", align_corners=1'
IMAGE, FLOW = 'float[1,3,"H","W"] x', 'float[1,2,"H","W"] flow'
BOTH = f"{IMAGE}, {FLOW}"
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


def only(findings: list[LintFinding], rule: str, node: str, *message: str) -> LintFinding:
    """The one finding: of this rule, on this node, with these words, and with reasons."""
    assert [finding.rule for finding in findings] == [rule], findings
    finding = findings[0]
    assert finding.node == node
    assert all(words in finding.message for words in message), finding.message
    assert (finding.why, finding.fix) == RULES[rule]
    return finding
