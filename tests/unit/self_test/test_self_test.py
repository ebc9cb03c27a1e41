"""Limits that stop each known-bad file and pass the good one pass; any other is an error, with what to do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from refine_export.accuracy.limits import Limits
from refine_export.artifacts import artifact_from_file
from refine_export.data.feeds import feeds_for
from refine_export.errors import GraphError, RequestError
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import lower, prepare_model
from refine_export.runners.torch import TorchRunner
from refine_export.self_test import self_test as module
from refine_export.self_test.mutants import NotMade, mutants_of
from refine_export.self_test.self_test import self_test
from refine_export.validate.validate_options import ValidateOptions

FP32 = Limits(max_abs=2e-5, psnr_db=110.0)  # 1e-4 and 90 dB would let FP16 coordinates through at this size
OPTIONS = ValidateOptions()
NAMES = [
    *("nearest", "zeros-padding", "align-corners", "fp16-coordinates", "swapped-flows", "weight", "bgr"),
    "fixed-timestep",
]


@pytest.fixture(scope="module")
def files(references, tmp_path_factory):
    """An ONNX file of a graph at 64x96, by graph and precision."""
    folder: Path = tmp_path_factory.mktemp("files")

    def get(graph, precision="fp32"):
        path = folder / f"{graph}.{precision}.onnx"
        if not path.exists():
            architecture = "IFNet_m" if graph == "interpolator_m" else "IFNet"
            options = ExportOptions(dynamic=False, size="64x96")
            model = onnx_from_network(references(architecture), graph, options)
            if precision == "fp16":
                model = lower(prepare_model(ir.from_proto(model), LowerOptions(), graph), LowerOptions()).model
            onnx.save(model, path)
        return path

    return get


@pytest.fixture
def tested(files, references, pair_at):
    def call(graph, precision="fp32", limits=FP32, *, options=OPTIONS, **given):
        path = files(graph, precision)
        reference = references("IFNet_m" if graph == "interpolator_m" else "IFNet")
        feeds = feeds_for(reference, graph, pair_at(64, 96), **given)
        return self_test(path, artifact_from_file(path), reference, feeds, limits=limits, options=options)

    return call


@pytest.mark.parametrize(
    ("graph", "precision", "limits"),
    [
        ("refine", "fp32", FP32),
        ("interpolator_m", "fp32", FP32),
        ("interpolator_m", "fp16", Limits(max_abs=0.01, psnr_db=70.0)),
    ],
)
def test_limits_that_separate_pass(tested, graph, precision, limits):
    """Every fault fails, the good file passes, and the margins say by how much."""
    found = tested(graph, precision, limits, timesteps=(0.5, 0.2), kinds=("network", "outside"))
    assert found.problems == ()
    assert found.status == "passed"
    assert found.runtime == ("onnxruntime-cpu" if precision == "fp32" else "half")
    assert (found.good.outcome, found.good.feeds) == ("passed", 2)
    assert 0 < found.good.margin <= 1
    assert [trial.name for trial in found.mutants] == NAMES
    for trial in found.mutants:
        if trial.name == "fixed-timestep" and graph == "refine":
            assert (trial.outcome, trial.note) == ("no such fault", "it takes no timestep")
            continue
        assert trial.outcome == "failed"
        assert trial.margin > 1
        assert trial.limit in ("max_abs", "psnr_db")
        assert trial.first_bad_node
        assert trial.psnr_db < limits.psnr_db or trial.max_abs > limits.max_abs


def test_a_limit_that_lets_one_through_is_an_error(tested):
    """The error of a scaled weight lies between the good file and a limit of 20 dB."""
    found = tested("refine", limits=Limits(max_abs=0.9, psnr_db=20.0), kinds=("network",))
    weight = next(trial for trial in found.mutants if trial.name == "weight")
    assert found.status == "failed"
    assert weight.outcome == "passed"
    assert found.good.margin < weight.margin < 1
    [problem] = [problem for problem in found.problems if "weight" in problem]
    assert "the limits let weight through (the last convolution's weights times 1.05), PSNR" in problem
    assert problem.endswith("a limit between the two stops it")


def test_a_limit_that_stops_the_good_file_is_an_error(tested):
    found = tested("refine", limits=Limits(max_abs=1e-9, psnr_db=300.0), kinds=("network",))
    assert found.status == "failed"
    assert found.good.outcome == "failed"
    assert found.good.margin > 1
    assert found.problems[0].startswith("the good file fails its limits, PSNR 1")


def test_a_fault_that_the_feeds_never_show_is_said(tested):
    """With 0.5 alone, a timestep fixed at 0.5 gives the same bits."""
    found = tested("interpolator_m", timesteps=(0.5,))
    assert found.status == "failed"
    [trial] = [trial for trial in found.mutants if trial.outcome == "passed"]
    assert (trial.name, trial.as_good) == ("fixed-timestep", True)
    assert "gives exactly what the good file gives on these feeds" in found.problems[0]
    assert found.problems[0].endswith("such as a second timestep")


def test_the_reference_runs_once_for_each_feed(tested, monkeypatch):
    """F feeds and M files: F runs."""
    runs = []
    once = TorchRunner._run
    monkeypatch.setattr(TorchRunner, "_run", lambda self, feeds: (runs.append(feeds), once(self, feeds))[1])
    found = tested("refine", kinds=("network", "subpixel"))
    assert len(runs) == 2
    assert sum(trial.outcome == "failed" for trial in found.mutants) == 7


def test_a_file_is_fed_until_its_verdict_is_certain(tested):
    """One failure of three is allowed: it takes two to be sure."""
    kinds = ("network", "subpixel", "large")
    strict = tested("refine", kinds=kinds)
    lenient = tested("refine", kinds=kinds, options=ValidateOptions(share=0.5))
    assert strict.status == lenient.status == "passed"
    assert {trial.feeds for trial in strict.mutants if trial.outcome == "failed"} == {1}
    assert {trial.feeds for trial in lenient.mutants if trial.outcome == "failed"} == {2}


def test_what_cannot_be_tried_is_never_green(tested, monkeypatch):
    gap = NotMade(name="nearest", description="", reason="it is written out", applies=True)
    monkeypatch.setattr(module, "attempts_of", lambda model, graph: iter([gap]))
    found = tested("refine", kinds=("network",))
    assert found.status == "not compared"
    assert found.problems == ("nearest was not tried: it is written out",)


def test_a_mutant_that_does_not_run_proves_nothing(tested, monkeypatch):
    """A crash is no wrong picture."""

    def crashing(model, graph):
        mutant = next(mutant for mutant in mutants_of(model, graph) if mutant.name == "bgr")
        channels = next(node for node in mutant.model.graph.node if node.name == mutant.first_bad_node).input[1]
        for tensor in mutant.model.graph.initializer:
            if tensor.name == channels:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([7, 7, 7]), channels))
        yield mutant

    monkeypatch.setattr(module, "attempts_of", crashing)
    found = tested("refine", kinds=("network",))
    assert found.status == "not compared"
    assert found.mutants[0].outcome == "not made"
    assert "failed while it ran the graph" in found.problems[0]


def test_refusals(files, references, pair_at, tmp_path):
    path = files("refine")
    artifact, reference = artifact_from_file(path), references("IFNet")
    feeds = list(feeds_for(reference, "refine", pair_at(64, 96), kinds=("subpixel",)))
    engine = dataclasses.replace(artifact, engine="TensorRT 10")
    with pytest.raises(RequestError, match="is an engine; known-bad files are made of ONNX"):
        self_test(path, engine, reference, feeds, limits=FP32, options=OPTIONS)
    with pytest.raises(RequestError, match="there is nothing to feed"):
        self_test(path, artifact, reference, [], limits=FP32, options=OPTIONS)
    other = dataclasses.replace(artifact, sha256="0" * 64)
    with pytest.raises(GraphError, match="changed while it was being checked"):
        self_test(path, other, reference, feeds, limits=FP32, options=OPTIONS)
