"""Exported files at the sizes that ship: good ones pass the default limits, known-bad ones miss them.

The same at 64x96, with the faults made of the exported file: tests/unit/self_test.
"""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from refine_export.data.feeds import feeds_for
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.self_test.mutants import mutants_of
from refine_export.signature import SIGNATURES
from refine_export.validate.comparison import compare_candidates, overall
from refine_export.validate.validate_options import ValidateOptions
from tests.support.candidates import candidate_of

pytestmark = pytest.mark.slow


@pytest.fixture
def statuses(references, pair_at):
    def call(graph, model, size, **given):
        reference = references(architecture_of(graph))
        with TorchRunner(reference, graph) as expected, OrtRunner(model) as actual:
            candidates = [candidate_of(runtime="onnxruntime-cpu", runner=actual)]
            feeds = feeds_for(reference, expected.signature, pair_at(*size), **given)
            compared = compare_candidates(expected.signature, expected, candidates, feeds)
            return [one.verdict.status for one in compared]

    return call


def architecture_of(graph):
    return "IFNet_m" if graph == "interpolator" else "IFNet"


@pytest.mark.parametrize("graph", list(SIGNATURES))
@pytest.mark.parametrize("size", ["256x448", None], ids=["static", "dynamic"])
def test_good_files_pass_at_256x448(exports, statuses, graph, size):
    path = exports.fp32(graph, architecture=architecture_of(graph), size=size)
    found = statuses(graph, path, (256, 448))
    assert found == ["passed"] * (1 if graph == "interpolator" else 6)


@pytest.mark.parametrize(("graph", "size"), [("refine", "1088x1920"), ("refine", None), ("interpolator", None)])
def test_good_files_pass_at_1088x1920(exports, statuses, graph, size):
    """The flow with the largest errors is enough, as every kind is measured by the main job."""
    path = exports.fp32(graph, architecture=architecture_of(graph), size=size)
    assert statuses(graph, path, (1088, 1920), kinds=("outside",)) == ["passed"]


def half_grid(model):
    """Round the grid alone to FP16 and back, as converters do that treat it like any tensor."""
    for at, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type == "GridSample":
            grid, rounded = node.input[1], f"{node.name}/single"
            half = helper.make_node("Cast", [grid], [f"{node.name}/half"], to=onnx.TensorProto.FLOAT16)
            single = helper.make_node("Cast", [f"{node.name}/half"], [rounded], to=onnx.TensorProto.FLOAT)
            node.input[1] = rounded
            model.graph.node.insert(at, single)
            model.graph.node.insert(at, half)
    return model


def one_wrong_weight(model):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "unet.down2.conv1.0.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.05), tensor.name))
    return model


def backwards(model):
    """1 - t where t was asked for."""
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    for node in model.graph.node:
        node.input[:] = ["backwards" if name == "timestep" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Sub", ["one", "timestep"], ["backwards"]))
    return model


def test_known_bad_files_fail(exports, statuses):
    """Every fault that the self-test makes, and two that it does not."""
    model = onnx.load(exports.fp32("refine"))
    bad = {mutant.name: mutant.model for mutant in mutants_of(model, "refine")}
    assert len(bad) == 7
    bad["half grid"] = half_grid(onnx.load(exports.fp32("refine")))
    bad["a weight in the middle"] = one_wrong_weight(onnx.load(exports.fp32("refine")))
    passed = [
        name
        for name, one in bad.items()
        if overall(statuses("refine", one.SerializeToString(), (256, 448))) != "failed"
    ]
    assert passed == []


def test_a_wrong_timestep_fails(exports, statuses):
    path = exports.fp32("interpolator", architecture="IFNet_m")
    fixed = next(one.model for one in mutants_of(onnx.load(path), "interpolator") if one.name == "fixed-timestep")
    for bad in (fixed, backwards(onnx.load(path))):
        found = statuses("interpolator", bad.SerializeToString(), (64, 96), timesteps=ValidateOptions().timesteps)
        assert found == ["passed", "failed"]
