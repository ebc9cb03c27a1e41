"""The network is strongly typed by name, and all of the parser's errors reach the user."""

import onnx
import pytest
from onnx.parser import parse_model

from refine_export.engine.bindings import Log
from refine_export.engine.parse_network import network_from_onnx
from refine_export.errors import GraphError, UnavailableError
from tests.support.engine_models import error_code, fake_library, model


@pytest.fixture(params=["10.12.0", "11.4.0"])
def trt(request, monkeypatch):
    return fake_library(monkeypatch, request.param).module


def parsed(trt, content, path=None):
    log = Log(trt)
    return network_from_onnx(trt, trt.Builder(log.logger), log, content, path).network


def test_the_network_is_strongly_typed_and_has_no_other_flag(trt):
    network = parsed(trt, model().SerializeToString())
    assert network.flags == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    del trt.NetworkDefinitionCreationFlag.__members__["STRONGLY_TYPED"]  # as a later version may have it
    assert parsed(trt, model().SerializeToString()).flags == 0


def test_all_parser_errors_are_kept_with_code_node_and_operator(trt):
    first = {"code": "UNSUPPORTED_NODE_ATTR", "desc": "Assertion\n failed", "node": 7, "name": "warp", "operator": "X"}
    trt.fake.parser_errors = (first, {"code": "INVALID_GRAPH", "desc": "no outputs"})
    broken = parse_model('<ir_version: 9, opset_import: ["" : 18]> g (float[1] a) => (float[1] b) { b = Zonk (a) }')
    with pytest.raises(GraphError) as caught:
        parsed(trt, broken.SerializeToString())
    assert caught.value.code == "parser-refused"
    known, graph, zonk = caught.value.fields["errors"]
    assert (known, graph) == (
        "UNSUPPORTED_NODE_ATTR node 7 'warp' (X): Assertion failed",
        "INVALID_GRAPH: no outputs",
    )
    assert zonk.startswith("UNSUPPORTED_NODE node 0")


def test_bytes_that_are_not_onnx(trt):
    assert error_code(GraphError, lambda: parsed(trt, b"\xff\xff not onnx")) == "parser-refused"


def test_external_data_lie_beside_the_path(trt, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    onnx.save_model(model(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    monkeypatch.chdir("/")
    assert parsed(trt, path.read_bytes(), path).num_layers == 5
    assert error_code(GraphError, lambda: parsed(trt, path.read_bytes())) == "parser-refused"


def test_no_network(trt):
    trt.fake.failing.add("create_network")
    assert error_code(UnavailableError, lambda: parsed(trt, model().SerializeToString())) == "tensorrt-failed"
