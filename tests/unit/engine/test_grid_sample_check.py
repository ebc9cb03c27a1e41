"""Every GridSample layer samples as the ONNX file says: repaired where it does not, else refused.

On TensorRT for RTX, which reads them right; a test puts in what an older parser gets wrong.
"""

import re
from typing import Any

import onnx
import pytest
from onnx.parser import parse_model

from refine_export.engine.grid_sample_check import (
    Repair,
    Sampling,
    check_grid_samples,
    grid_sample_layers,
    keep_from_fusing,
    samplings,
)
from refine_export.errors import GraphError, UnavailableError
from tests.support.engine_models import needs_rtx, network_of, rtx_fixture  # noqa: F401 (fixture)
from tests.support.refusals import refused

pytestmark = needs_rtx
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


@pytest.fixture
def trt(rtx):
    return rtx.module


def kinds(trt: Any, network: Any) -> list[tuple[str, str, bool]]:
    layers = grid_sample_layers(trt, network)
    return [(one.interpolation_mode.name, one.sample_mode.name, one.align_corners) for one in layers]


def misread(trt: Any, network: Any, **wrong: Any) -> Any:
    """The network as a parser leaves it that gets these attributes wrong."""
    for layer in grid_sample_layers(trt, network):
        for attribute, value in wrong.items():
            setattr(layer, attribute, value)
    return network


@pytest.mark.parametrize("count", [0, 2])
def test_a_network_that_is_right_is_left_alone(rtx, trt, count):
    made = model(*[OURS] * count)
    report = check_grid_samples(trt, network_of(rtx, made), made)
    assert (report.layers, report.repairs) == (count, ())


@pytest.mark.parametrize("opset", [20, 22])
def test_linear_of_opset_20_is_repaired(rtx, trt, opset):
    """Enterprise TensorRT reads nearest (NVIDIA/TensorRT#4646); TensorRT for RTX does not."""
    made = model(OURS.replace("bilinear", "linear"), opset=opset)
    network = network_of(rtx, made)
    assert kinds(trt, network) == [("LINEAR", "CLAMP", True)]
    report = check_grid_samples(trt, misread(trt, network, interpolation_mode=trt.InterpolationMode.NEAREST), made)
    assert report.repairs == (
        Repair(layer="GridSample.1", attribute="interpolation_mode", found="NEAREST", set="LINEAR"),
    )
    assert kinds(trt, network) == [("LINEAR", "CLAMP", True)]


@pytest.mark.parametrize(
    ("attribute", "wrong", "right"),
    [
        ("interpolation_mode", "InterpolationMode.NEAREST", "LINEAR"),
        ("interpolation_mode", "InterpolationMode.CUBIC", "LINEAR"),
        ("sample_mode", "SampleMode.FILL", "CLAMP"),
        ("sample_mode", "SampleMode.REFLECT", "CLAMP"),
        ("align_corners", "False", "True"),
    ],
)
def test_each_attribute_is_repaired_or_refused(rtx, trt, monkeypatch, attribute, wrong, right):
    made = model(OURS, OURS)
    kind, _, name = wrong.rpartition(".")
    value = getattr(getattr(trt, kind), name) if kind else False
    network = misread(trt, network_of(rtx, made), **{attribute: value})
    report = check_grid_samples(trt, network, made)
    assert [(r.attribute, r.found, r.set) for r in report.repairs] == [(attribute, name, right)] * 2
    assert kinds(trt, network) == [("LINEAR", "CLAMP", True)] * 2
    misread(trt, network, **{attribute: value})
    frozen = property(getattr(trt.IGridSampleLayer, attribute).fget, lambda layer, value: None)
    monkeypatch.setattr(trt.IGridSampleLayer, attribute, frozen)
    with refused("sampler-mismatch", GraphError):
        check_grid_samples(trt, network, made)


def test_what_a_foreign_file_says_counts_not_what_ours_do(rtx, trt):
    """Each layer by the name of its node; what ONNX leaves out has ONNX's defaults."""
    made = model('mode = "nearest", padding_mode = "reflection"', "align_corners = 1", 'mode = "bicubic"')
    network = network_of(rtx, made)
    expected = [("NEAREST", "REFLECT", False), ("LINEAR", "FILL", True), ("CUBIC", "FILL", False)]
    assert kinds(trt, network) == expected
    assert check_grid_samples(trt, network, made).repairs == ()
    wrong = {"interpolation_mode": trt.InterpolationMode.CUBIC, "sample_mode": trt.SampleMode.CLAMP}
    misread(trt, network, align_corners=True, **wrong)
    assert len(check_grid_samples(trt, network, made).repairs) == 7
    assert kinds(trt, network) == expected


@pytest.mark.parametrize("name", ["", "same"])
def test_a_layer_whose_node_is_not_known_is_refused(rtx, trt, name):
    made = model(OURS, "align_corners = 1")
    for node in made.graph.node:
        node.name = name
    with refused("sampler-mismatch", GraphError):
        check_grid_samples(trt, network_of(rtx, made), made)
    made.graph.node[2].CopyFrom(made.graph.node[1])  # now they are alike, and names don't matter
    made.graph.node[2].input[0], made.graph.node[2].output[0] = "t1", "t2"
    assert check_grid_samples(trt, network_of(rtx, made), made).layers == 2


def test_metadata_name_a_layer_whose_name_was_changed(rtx, trt):
    made = model(OURS, "align_corners = 1")
    network = network_of(rtx, made)
    for layer in grid_sample_layers(trt, network):
        assert re.fullmatch(r"\[ONNX Layer: GridSample\.[12]\]", layer.metadata)
        layer.metadata = layer.metadata.replace("]", " | scope]")
        layer.name += "_7"
    assert check_grid_samples(trt, network, made).layers == 2


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_another_number_of_layers_than_of_nodes_is_refused(rtx, trt, change):
    network, made = network_of(rtx, model(OURS, OURS)), model(*[OURS] * (3 if change == "more" else 1))
    with refused("sampler-mismatch", GraphError):
        check_grid_samples(trt, network, made)


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
    with refused("bad-attribute", GraphError):
        samplings(model('mode = "nicest"'))


def test_what_goes_in_and_out_of_grid_samples_can_be_kept_from_fusing(rtx, trt, monkeypatch):
    """Not the network's own inputs and outputs, and each tensor once."""
    network = network_of(rtx, model(OURS, OURS))
    assert keep_from_fusing(trt, network) == ("t0", "t1", "t2")
    monkeypatch.setattr(trt.INetworkDefinition, "mark_debug", lambda network, tensor: False)
    network = network_of(rtx, model(OURS))
    with refused("tensorrt-failed", UnavailableError):
        keep_from_fusing(trt, network)
