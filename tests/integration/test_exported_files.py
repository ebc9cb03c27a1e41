"""Exported files at the sizes that ship: good ones pass the default limits, known-bad ones miss them.

The same at 64x96, with the faults made of the exported file: tests/unit/self_test.
"""

from contextlib import ExitStack

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from refine_export.data.feeds import feeds_for
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.self_test.mutants import mutants_of
from refine_export.validate.comparison import compare_candidates
from refine_export.validate.validate_options import ValidateOptions
from tests.support.candidates import candidate_of


@pytest.fixture
def statuses(references, pair_at):
    def call(graph, models, size, **given):
        """Return the status of each feed by model; all are held against one run of the reference."""
        reference = references(architecture_of(graph))
        with ExitStack() as stack:
            expected = stack.enter_context(TorchRunner(reference, graph))
            runners = {name: stack.enter_context(OrtRunner(model)) for name, model in models.items()}
            candidates = [candidate_of(runtime=name, runner=runner) for name, runner in runners.items()]
            feeds = feeds_for(reference, expected.signature, pair_at(*size), **given)
            found = {name: [] for name in models}
            for one in compare_candidates(expected.signature, expected, candidates, feeds):
                found[one.candidate.runtime].append(one.verdict.status)
            return found

    return call


def architecture_of(graph):
    return "IFNet_m" if graph == "interpolator" else "IFNet"


@pytest.mark.parametrize("graph", ["contextnet", "unet", "refine"])
def test_good_files_pass_at_256x448(exports, statuses, graph):
    found = statuses(graph, {"good": exports.fp32(graph)}, (256, 448))
    assert found == {"good": ["passed"] * 6}


@pytest.mark.parametrize(
    ("graph", "size"), [("refine", "1088x1920"), ("interpolator", None)], ids=["static", "dynamic"]
)
def test_good_files_pass_at_1088x1920(exports, statuses, graph, size):
    """The flow with the largest errors is enough, as every kind is measured by the main job."""
    path = exports.fp32(graph, architecture=architecture_of(graph), size=size)
    assert statuses(graph, {"good": path}, (1088, 1920), kinds=("outside",)) == {"good": ["passed"]}


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
    files = {name: one.SerializeToString() for name, one in bad.items()}
    found = statuses("refine", files, (256, 448), kinds=("subpixel",))
    assert found == {name: ["failed"] for name in bad}


def test_a_wrong_timestep_fails(exports, statuses):
    path = exports.fp32("interpolator", architecture="IFNet_m")
    fixed = next(one.model for one in mutants_of(onnx.load(path), "interpolator") if one.name == "fixed-timestep")
    bad = {"fixed": fixed.SerializeToString(), "backwards": backwards(onnx.load(path)).SerializeToString()}
    found = statuses("interpolator", bad, (64, 96), timesteps=ValidateOptions().timesteps)
    assert found == {name: ["passed", "failed"] for name in bad}
