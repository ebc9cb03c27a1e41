"""Exported files: good ones pass, known-bad ones fail."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from refine_export.data.feeds import feeds_for
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES
from refine_export.validate.comparison import overall, validate
from refine_export.validate.validate_options import ValidateOptions
from tests.support.candidates import candidate_of

OPTIONS = ValidateOptions()


def architecture_of(graph):
    return "IFNet_m" if graph == "interpolator_m" else "IFNet"


def verdicts(reference, graph, model, pair, options=OPTIONS):
    with TorchRunner(reference, graph) as expected, OrtRunner(model.SerializeToString()) as actual:
        candidates = [candidate_of(runtime="onnxruntime-cpu", runner=actual)]
        feeds = feeds_for(reference, graph, pair, kinds=options.flows)
        return [found.verdict for found in validate(SIGNATURES[graph], expected, candidates, feeds)]


@pytest.fixture(scope="module")
def models(references):
    known = {}

    def get(graph, size=None):
        if (graph, size) not in known:
            options = ExportOptions(dynamic=size is None, size=size)
            known[graph, size] = onnx_from_network(references(architecture_of(graph)), graph, options)
        copy = onnx.ModelProto()
        copy.CopyFrom(known[graph, size])
        return copy

    return get


@pytest.mark.parametrize("graph", list(SIGNATURES))
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_good_files_pass_at_256x448(references, models, pair_at, graph, dynamic):
    found = verdicts(
        references(architecture_of(graph)), graph, models(graph, None if dynamic else "256x448"), pair_at(256, 448)
    )
    assert [verdict.status for verdict in found] == ["passed"] * len(found)
    assert len(found) == (1 if graph.startswith("interpolator") else 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "dynamic"), [("refine", False), ("refine", True), ("interpolator", True), ("interpolator_m", True)]
)
def test_good_files_pass_at_1088x1920(references, models, pair_at, graph, dynamic):
    """The size that ships; the flow with the largest errors is enough, as every kind is measured by the main job."""
    options = ValidateOptions(flows=("outside",))
    model = models(graph, None if dynamic else "1088x1920")
    found = verdicts(references(architecture_of(graph)), graph, model, pair_at(1088, 1920), options)
    assert [verdict.status for verdict in found] == ["passed"]


def grid_samples(model):
    return [node for node in model.graph.node if node.op_type == "GridSample"]


def with_attribute(model, name, value):
    for node in grid_samples(model):
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return model


def nearest(model):
    return with_attribute(model, "mode", "nearest")


def zeros_padding(model):
    return with_attribute(model, "padding_mode", "zeros")


def unaligned(model):
    return with_attribute(model, "align_corners", 0)


def half_coordinates(model):
    """Round the grid to FP16 and back, as converters do that treat it like any tensor."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "GridSample":
            grid = node.input[1]
            nodes.append(helper.make_node("Cast", [grid], [f"{grid}/half"], to=onnx.TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{grid}/half"], [f"{grid}/single"], to=onnx.TensorProto.FLOAT))
            node.input[1] = f"{grid}/single"
        nodes.append(node)
    unique = list({node.output[0]: node for node in nodes}.values())
    del model.graph.node[:]
    model.graph.node.extend(unique)
    return model


def swapped_flows(model):
    """Each half of the flow warps the other image's features."""
    slices = [node for node in model.graph.node if node.op_type == "Slice" and node.input[0] == "flow"]
    first, second = slices
    for one, other in ((1, 1), (2, 2)):
        first.input[one], second.input[other] = second.input[other], first.input[one]
    return model


def one_wrong_weight(model):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "unet.down2.conv1.0.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.05), tensor.name))
    return model


@pytest.mark.parametrize(
    "spoil", [nearest, zeros_padding, unaligned, half_coordinates, swapped_flows, one_wrong_weight]
)
def test_known_bad_files_fail(references, models, pair_at, spoil):
    """The gate is shown to fail on each of the errors that it is there for."""
    bad = spoil(models("refine"))
    found = verdicts(references("IFNet"), "refine", bad, pair_at(256, 448))
    assert overall(verdict.status for verdict in found) == "failed"
    assert any("largest error" in reason for verdict in found for reason in verdict.reasons)


def fixed_timestep(model):
    """The timestep that was asked for is not looked at."""
    half = numpy_helper.from_array(np.full((1, 1, 1, 1), 0.5, np.float32), "fixed")
    model.graph.initializer.append(half)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "timestep":
                node.input[index] = "fixed"
    return model


def backwards(model):
    """1 - t where t was asked for."""
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    for node in model.graph.node:
        node.input[:] = ["backwards" if name == "timestep" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Sub", ["one", "timestep"], ["backwards"]))
    return model


@pytest.mark.parametrize("spoil", [fixed_timestep, backwards])
def test_a_wrong_timestep_fails(references, models, pair_at, spoil):
    reference = references("IFNet_m")
    with (
        TorchRunner(reference, "interpolator_m") as expected,
        OrtRunner(spoil(models("interpolator_m")).SerializeToString()) as actual,
    ):
        feeds = feeds_for(reference, "interpolator_m", pair_at(64, 96), timesteps=OPTIONS.timesteps)
        candidates = [candidate_of(runtime="onnxruntime-cpu", runner=actual)]
        found = list(validate(SIGNATURES["interpolator_m"], expected, candidates, feeds))
    assert [compared.verdict.status for compared in found] == ["passed", "failed"]
