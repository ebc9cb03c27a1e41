"""The network is strongly typed by name, and everything that the parser has to say reaches the user."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from refine_export.engine.bindings import Log
from refine_export.engine.parse_network import network_from_onnx
from refine_export.errors import GraphError, UnavailableError
from tests.support.fake_tensorrt import make_fake

CONV = """
    <ir_version: 9, opset_import: ["" : 18]>
    conv (float16["N",4,"H","W"] image) => (float16["N",4,"H","W"] out) <float16[4,4,3,3] weight>
    { out = Conv <pads = [1, 1, 1, 1]> (image, weight) }
"""


@pytest.fixture(params=["10.12.0", "10.16.1", "11.4.0"])
def trt(request, monkeypatch):
    module = make_fake(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def model() -> onnx.ModelProto:
    made = parse_model(CONV)
    weight = np.ones((4, 4, 3, 3), np.float16)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    return made


def parsed(trt: Any, content: bytes, path: Any = None) -> Any:
    log = Log(trt)
    return network_from_onnx(trt, trt.Builder(log.logger), log, content, path)


def test_the_network_is_strongly_typed_and_has_no_other_flag(trt):
    network = parsed(trt, model().SerializeToString()).network
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert network.flags == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert network.get_output(0).dtype == trt.DataType.HALF


def test_without_the_flag_no_flag_is_set(trt):
    """As a version may have it that has dropped what it ignores."""
    del trt.NetworkDefinitionCreationFlag.__members__["STRONGLY_TYPED"]
    assert parsed(trt, model().SerializeToString()).network.flags == 0


def test_all_parser_errors_are_shown_with_code_node_and_operator(trt):
    trt.fake.parser_errors = (
        {
            "code": "UNSUPPORTED_NODE_ATTR",
            "desc": "Assertion\n failed: mode",
            "node": 7,
            "name": "warp",
            "operator": "X",
        },
        {"code": "INVALID_GRAPH", "desc": "no outputs"},
    )
    broken = parse_model(CONV.replace("Conv <", "Zonk <"))
    with pytest.raises(GraphError) as error:
        parsed(trt, broken.SerializeToString())
    lines = str(error.value).splitlines()
    assert "3 errors" in lines[0]
    assert lines[1:] == [
        "  UNSUPPORTED_NODE_ATTR node 7 'warp' (X): Assertion failed: mode",
        "  INVALID_GRAPH: no outputs",
        "  UNSUPPORTED_NODE node 0 '(Unnamed Layer* 0) [Zonk]' (Zonk): Plugin not found, are the plugin name, version, "
        "and namespace correct?",
    ]


def test_bytes_that_are_no_onnx(trt):
    with pytest.raises(GraphError, match="1 error; expected .*\n  MODEL_DESERIALIZE_FAILED: Failed to parse"):
        parsed(trt, b"\xff\xff not onnx")


def test_external_data_lie_beside_the_path(trt, tmp_path, monkeypatch):
    made, path = model(), tmp_path / "m.onnx"
    onnx.save_model(made, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    monkeypatch.chdir("/")
    assert parsed(trt, path.read_bytes(), path).network.num_layers == 1
    with pytest.raises(GraphError, match="Failed to open file"):
        parsed(trt, path.read_bytes())
    (tmp_path / "m.bin").unlink()
    with pytest.raises(GraphError, match=f"can't take {path}, 1 error"):
        parsed(trt, path.read_bytes(), path)


def test_no_network(trt):
    trt.fake.failing.add("create_network")
    with pytest.raises(UnavailableError, match="could not make a network: create_network: Error Code 1"):
        parsed(trt, model().SerializeToString())
