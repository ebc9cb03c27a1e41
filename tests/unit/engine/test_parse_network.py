"""The network is strongly typed by name, and all of the parser's errors reach the user: on TensorRT for RTX."""

from types import SimpleNamespace

import pytest
from onnx.parser import parse_model

from refine_export.engine.bindings import Log, builder_of
from refine_export.engine.parse_network import parse_onnx
from refine_export.errors import GraphError, UnavailableError
from tests.support.engine_models import model, needs_rtx, network_of, rtx_fixture  # noqa: F401 (fixture)
from tests.support.refusals import refused

pytestmark = needs_rtx


def test_the_network_is_strongly_typed_and_has_no_other_flag(rtx):
    log, asked, trt = Log(rtx.module), [], rtx.module
    made = builder_of(trt, log)
    builder = SimpleNamespace(create_network=lambda flags: asked.append(flags) or made.create_network(flags))
    later = SimpleNamespace(**vars(trt) | {"NetworkDefinitionCreationFlag": SimpleNamespace(__members__={})})
    for module in (trt, later):  # a later version may not have the flag
        parsed, faults = parse_onnx(module, builder, log, model().SerializeToString())
        assert (parsed.network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED), faults) == (True, [])
    assert asked == [1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED), 0]


def graph_of(text, opset=18):
    return parse_model(f'<ir_version: 9, opset_import: ["" : {opset}, "mine" : 1]> g {text}')


@pytest.mark.parametrize(
    ("made", "errors"),
    [
        (
            graph_of("(float[4] a) => (float[4] b) { [u] u, i, j, k = Unique (a) [w] b = mine.Warp (u) }"),
            ["UNSUPPORTED_NODE node 0 'u' (Unique): ", "INVALID_NODE node 1 'w' (Warp): "],
        ),
        (
            graph_of("(float[1,4,8,8] a, float16[1,8,8,2] g) => (float[1,4,8,8] b) { [s] b = GridSample (a, g) }"),
            ["INVALID_NODE node 0 's' (GridSample): "],
        ),
        # It comes twice, and the node has no name.
        (
            graph_of(
                "(float[1,4,9,9] a) => (float[1,4,5,5] b) { b = LpPool <kernel_shape=[3,3], dilations=[2,2]> (a) }"
            ),
            ["UNSUPPORTED_NODE node 0 (LpPool): "],
        ),
        (b"\xff\xff not onnx", ["MODEL_DESERIALIZE_FAILED: "]),
        # A name that is not UTF-8, on which the bindings raise.
        (
            graph_of("(float[4] a) => (float[4] b) { [name] b, i, j, k = Unique (a) }")
            .SerializeToString()
            .replace(b"name", b"n\xe4me"),
            ["UNSUPPORTED_NODE node 0 'n\ufffdme' (Unique): "],
        ),
        (b"", ["INVALID_GRAPH: "]),  # an empty message of protobuf, which the parser takes for a graph of nothing
    ],
)
def test_all_parser_errors_are_kept_with_code_node_and_operator(rtx, made, errors):
    with refused("parser-refused", GraphError) as caught:
        network_of(rtx, made)
    found = caught.value.fields["errors"]
    assert [one[: len(start)] for one, start in zip(found, errors, strict=True)] == errors
    assert not [one for one in found if "CUDA driver" in one or " && " in one or one.endswith(": false")]


def test_no_network(rtx):
    builder = SimpleNamespace(create_network=lambda flags: None)
    with refused("tensorrt-failed", UnavailableError):
        parse_onnx(rtx.module, builder, Log(rtx.module), b"m")
