"""Every GridSample layer samples as the ONNX file says: repaired where it does not, else refused."""

from typing import Any

import onnx
import pytest
from onnx.parser import parse_model

from refine_export.engine.bindings import Log
from refine_export.engine.grid_sample_check import Repair, Sampling, check_grid_samples, keep_from_fusing, samplings
from refine_export.engine.parse_network import network_from_onnx
from refine_export.errors import GraphError, UnavailableError
from tests.support.engine_models import error_code, fake_library

OURS = 'mode = "bilinear", padding_mode = "border", align_corners = 1'


def model(*attributes: str, opset: int = 18) -> onnx.ModelProto:
    """Warps, one after another."""
    places = range(len(attributes))
    nodes = "\n".join(f"t{k + 1} = GridSample <{attributes[k]}> (t{k}, grid)" for k in places)
    made = parse_model(
        f"""<ir_version: 9, opset_import: ["" : {opset}]>
        warps (float[1,4,8,8] image, float[1,8,8,2] grid) => (float[1,4,8,8] out)
        {{ t0 = Relu (image)\n {nodes}\n out = Relu (t{len(attributes)}) }}"""
    )
    for k, node in enumerate(made.graph.node):
        node.name = f"{node.op_type}.{k}"
    return made


@pytest.fixture(params=["10.16.1", "11.4.0"])
def trt(request, monkeypatch):
    return fake_library(monkeypatch, request.param).module


def network_of(trt: Any, made: onnx.ModelProto) -> Any:
    log = Log(trt)
    return network_from_onnx(trt, trt.Builder(log.logger), log, made.SerializeToString()).network


def kinds(trt: Any, network: Any) -> list[tuple[str, str, bool]]:
    found = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.GRID_SAMPLE:
            layer.__class__ = trt.IGridSampleLayer
            found.append((layer.interpolation_mode.name, layer.sample_mode.name, layer.align_corners))
    return found


@pytest.mark.parametrize("count", [0, 2])
def test_a_network_that_is_right_is_left_alone(trt, count):
    made = model(*[OURS] * count)
    report = check_grid_samples(trt, network_of(trt, made), made)
    assert (report.layers, report.repairs) == (count, ())


def test_linear_of_opset_20_is_repaired(trt):
    """The parser's nearest (NVIDIA/TensorRT#4646)."""
    made = model('mode = "linear", padding_mode = "border", align_corners = 1', opset=20)
    network = network_of(trt, made)
    assert kinds(trt, network) == [("NEAREST", "CLAMP", True)]
    report = check_grid_samples(trt, network, made)
    assert report.repairs == (
        Repair(layer="GridSample.1", attribute="interpolation_mode", found="NEAREST", set="LINEAR"),
    )
    assert kinds(trt, network) == [("LINEAR", "CLAMP", True)]


@pytest.mark.parametrize(
    ("attribute", "wrong", "right"),
    [
        ("interpolation_mode", "NEAREST", "LINEAR"),
        ("interpolation_mode", "CUBIC", "LINEAR"),
        ("sample_mode", "FILL", "CLAMP"),
        ("sample_mode", "REFLECT", "CLAMP"),
        ("align_corners", False, True),
    ],
)
def test_each_attribute_is_repaired_or_refused(trt, attribute, wrong, right):
    made = model(OURS, OURS)
    trt.fake.grid_sample = {attribute: wrong}
    network = network_of(trt, made)
    report = check_grid_samples(trt, network, made)
    assert [(r.attribute, r.found, r.set) for r in report.repairs] == [(attribute, str(wrong), str(right))] * 2
    assert kinds(trt, network) == [("LINEAR", "CLAMP", True)] * 2
    trt.fake.frozen = (attribute,)
    assert error_code(GraphError, lambda: check_grid_samples(trt, network_of(trt, made), made)) == "sampler-mismatch"


def test_what_a_foreign_file_says_counts_not_what_ours_do(trt):
    """Each layer by the name of its node; what ONNX leaves out has ONNX's defaults."""
    made = model('mode = "nearest", padding_mode = "reflection"', "align_corners = 1", 'mode = "bicubic"')
    network = network_of(trt, made)
    expected = [("NEAREST", "REFLECT", False), ("LINEAR", "FILL", True), ("CUBIC", "FILL", False)]
    assert kinds(trt, network) == expected
    assert check_grid_samples(trt, network, made).repairs == ()
    trt.fake.grid_sample = {"interpolation_mode": "CUBIC", "align_corners": True, "sample_mode": "CLAMP"}
    network = network_of(trt, made)
    assert len(check_grid_samples(trt, network, made).repairs) == 7
    assert kinds(trt, network) == expected


@pytest.mark.parametrize("name", ["", "same"])
def test_a_layer_whose_node_is_not_known_is_refused(trt, name):
    made = model(OURS, "align_corners = 1")
    for node in made.graph.node:
        node.name = name
    assert error_code(GraphError, lambda: check_grid_samples(trt, network_of(trt, made), made)) == "sampler-mismatch"
    made.graph.node[2].CopyFrom(made.graph.node[1])  # now they are alike, and names don't matter
    made.graph.node[2].input[0], made.graph.node[2].output[0] = "t1", "t2"
    assert check_grid_samples(trt, network_of(trt, made), made).layers == 2


def test_metadata_name_a_layer_whose_name_was_changed(trt, monkeypatch):
    made = model(OURS, "align_corners = 1")
    network = network_of(trt, made)
    for node in network._nodes:
        node.name += "_7"
    metadata = {f"GridSample.{k}_7": f"[ONNX Layer: GridSample.{k} | scope]" for k in (1, 2)}
    monkeypatch.setattr(trt.ILayer, "metadata", property(lambda layer: metadata[layer.name]))
    assert check_grid_samples(trt, network, made).layers == 2


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_another_number_of_layers_than_of_nodes_is_refused(trt, change):
    network, made = network_of(trt, model(OURS, OURS)), model(*[OURS] * (3 if change == "more" else 1))
    assert error_code(GraphError, lambda: check_grid_samples(trt, network, made)) == "sampler-mismatch"


def test_nodes_in_bodies_and_functions_are_counted():
    branch = f"{{ b = GridSample <{OURS}> (image, grid) }}"
    made = parse_model(
        f"""<ir_version: 9, opset_import: ["" : 18, "f" : 1]>
        g (bool c, float[1,4,8,8] image, float[1,8,8,2] grid) => (float[1,4,8,8] out) {{
            a = If (c) <then_branch = t () => (float[1,4,8,8] b) {branch},
                        else_branch = e () => (float[1,4,8,8] b) {branch}>
            d = f.warp (a, grid)
            out = f.warp (d, grid)
        }}
        <domain: "f", opset_import: ["" : 18]>
        warp (x, y) => (z) {{ z = GridSample <{OURS}> (x, y) }}"""
    )
    assert [sampling for _, sampling in samplings(made)] == [Sampling("LINEAR", "CLAMP", True)] * 4


def test_a_mode_that_onnx_does_not_have_is_refused():
    assert error_code(GraphError, lambda: samplings(model('mode = "nicest"'))) == "bad-attribute"


def test_what_goes_in_and_out_of_grid_samples_can_be_kept_from_fusing(trt, monkeypatch):
    """Not the network's own inputs and outputs, and each tensor once."""
    network = network_of(trt, model(OURS, OURS))
    assert keep_from_fusing(trt, network) == ("t0", "t1", "t2")
    monkeypatch.setattr(trt.INetworkDefinition, "mark_debug", lambda network, tensor: False)
    network = network_of(trt, model(OURS))
    assert error_code(UnavailableError, lambda: keep_from_fusing(trt, network)) == "tensorrt-failed"
