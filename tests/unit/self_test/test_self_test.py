"""Limits that stop each known-bad file and pass the good one pass; any other is an error, with what to do."""

import dataclasses

import numpy as np
import onnx
import pytest

from refine_export.accuracy.limits import Limits, LimitsOptions, limits_name
from refine_export.artifacts import artifact_from_file
from refine_export.data.feeds import feeds_for
from refine_export.errors import GraphError, RequestError
from refine_export.export.reference_network import signature_of_network
from refine_export.lower.lower_options import LowerOptions
from refine_export.runners.torch import TorchRunner
from refine_export.self_test import self_test as module
from refine_export.self_test.mutants import NotMade, mutants_of
from refine_export.self_test.self_test import self_test
from refine_export.signature import SIGNATURES
from refine_export.validate.validate_options import ValidateOptions
from tests.support.refusals import refused

FP32 = Limits(max_abs=2e-5, psnr_db=110.0)  # 1e-4 and 90 dB would let FP16 coordinates through at this size
OPTIONS = ValidateOptions()
FAULTS = ["nearest", "zeros-padding", "align-corners", "fp16-coordinates", "weight", "bgr"]


@pytest.fixture(scope="module")
def path(exports):
    return exports.fp32("contextnet", size="64x96")


@pytest.fixture
def tested(exports, path, references, pair_at):
    """Test contextnet, or another file; faults of two flows or a timestep need another graph."""

    def call(limits=FP32, *, options=OPTIONS, graph="contextnet", file=None, **given):
        reference = references("IFNet_m" if graph == "interpolator" else "IFNet")
        feeds = feeds_for(
            reference, signature_of_network(reference, graph), pair_at(64, 96), **{"kinds": ("subpixel",)} | given
        )
        file = file or path
        artifact = artifact_from_file(file)
        in_force = LimitsOptions(**{limits_name(artifact.graph, artifact.precision): limits})
        return self_test(file, artifact, reference, feeds, options=dataclasses.replace(options, limits=in_force))

    return call


def check_separates(found, limits):
    """Every fault fails, the good file passes, and the margins say by how much."""
    assert found.problems == ()
    assert found.passed
    assert found.status == found.to_dict()["status"] == "passed"
    assert (found.good.outcome, found.good.feeds) == ("passed", 2)
    assert 0 < found.good.margin <= 1
    for trial in found.mutants:
        if trial.outcome == "no such fault":
            continue
        assert trial.outcome == "failed"
        assert trial.margin > 1
        assert trial.limit in ("max_abs", "psnr_db")
        assert trial.first_bad_node
        assert trial.psnr_db < limits.psnr_db or trial.max_abs > limits.max_abs


def test_limits_that_separate_pass(tested):
    found = tested(kinds=("network", "outside"))
    check_separates(found, FP32)
    assert found.runtime == "onnxruntime-cpu"
    assert [trial.name for trial in found.mutants if trial.outcome == "failed"] == FAULTS
    assert {trial.name for trial in found.mutants if trial.outcome == "no such fault"} == {
        "swapped-flows",
        "fixed-timestep",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "precision", "limits"),
    [
        ("refine", "fp32", FP32),
        ("interpolator", "fp32", FP32),
        ("interpolator", "fp16", Limits(max_abs=0.01, psnr_db=70.0)),
    ],
)
def test_limits_that_separate_all_faults_pass(tested, exports, graph, precision, limits):
    architecture = "IFNet_m" if graph == "interpolator" else "IFNet"
    if precision == "fp16":
        file = exports.lowered(graph, LowerOptions(), architecture=architecture)
    else:
        file = exports.fp32(graph, architecture=architecture)
    found = tested(limits, graph=graph, file=file, timesteps=(0.5, 0.2), kinds=("network", "outside"))
    check_separates(found, limits)
    assert found.runtime == ("onnxruntime-cpu" if precision == "fp32" else "half")
    assert sum(trial.outcome == "failed" for trial in found.mutants) == (8 if graph == "interpolator" else 7)


def test_a_limit_that_lets_one_through_is_an_error(tested):
    """The error of a scaled weight lies between the good file and a limit of 20 dB."""
    found = tested(Limits(max_abs=0.9, psnr_db=20.0))
    weight = next(trial for trial in found.mutants if trial.name == "weight")
    assert found.status == "failed"
    assert weight.outcome == "passed"
    assert found.good.margin < weight.margin < 1
    [problem] = [problem for problem in found.problems if "let weight through" in problem]
    assert weight.measured in problem


def test_a_limit_that_stops_the_good_file_is_an_error(tested):
    found = tested(Limits(max_abs=1e-9, psnr_db=300.0))
    assert (found.status, found.passed) == ("failed", False)
    assert found.good.outcome == "failed"
    assert found.good.margin > 1
    assert found.good.measured in found.problems[0]


def test_a_fault_that_the_feeds_never_show_is_told_apart(tested):
    """Without a flow, no position is outside of the frame: zeros and the border give the same bits."""
    found = tested(kinds=("zero",))
    assert found.status == "failed"
    as_good = {trial.name for trial in found.mutants if trial.as_good}
    assert "zeros-padding" in as_good
    assert {trial.name for trial in found.mutants if trial.outcome == "passed"} >= as_good
    assert len(found.problems) == sum(trial.outcome == "passed" for trial in found.mutants)


def test_the_reference_runs_once_for_each_feed(tested, monkeypatch):
    """F feeds and M files: F runs."""
    runs = []
    once = TorchRunner._run
    monkeypatch.setattr(TorchRunner, "_run", lambda self, feeds: (runs.append(feeds), once(self, feeds))[1])
    tested(kinds=("large", "subpixel"))
    assert len(runs) == 2


def test_a_file_is_fed_until_its_verdict_is_certain(tested):
    """One failure of three is allowed: it takes two to be sure."""
    kinds = ("discontinuous", "subpixel", "large")
    strict = tested(kinds=kinds)
    lenient = tested(kinds=kinds, options=ValidateOptions(share=0.5))
    assert strict.status == lenient.status == "passed"
    assert {trial.feeds for trial in strict.mutants if trial.outcome == "failed"} == {1}
    assert {trial.feeds for trial in lenient.mutants if trial.outcome == "failed"} == {2}


def test_what_cannot_be_tried_is_never_green(tested, monkeypatch):
    gap = NotMade(name="nearest", description="", reason="it is written out", applies=True)
    monkeypatch.setattr(module, "attempts_of", lambda model, graph, names: iter([gap]))
    found = tested()
    assert (found.status, len(found.problems)) == ("not compared", 1)


def test_a_mutant_that_does_not_run_proves_nothing(tested, monkeypatch):
    """A crash is no wrong picture."""

    def crashing(model, graph, names):
        mutant = next(mutant for mutant in mutants_of(model, graph) if mutant.name == "bgr")
        channels = next(node for node in mutant.model.graph.node if node.name == mutant.first_bad_node).input[1]
        for tensor in mutant.model.graph.initializer:
            if tensor.name == channels:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([7, 7, 7]), channels))
        yield mutant

    monkeypatch.setattr(module, "attempts_of", crashing)
    found = tested()
    assert (found.status, found.mutants[0].outcome, found.mutants[0].limit) == ("not compared", "not made", "run")


def test_refusals(path, references, pair_at):
    artifact, reference = artifact_from_file(path), references("IFNet")
    feeds = list(feeds_for(reference, SIGNATURES["contextnet"], pair_at(64, 96), kinds=("subpixel",)))
    for given, fed, error, code in (
        (dataclasses.replace(artifact, engine="TensorRT 10"), feeds, RequestError, "not-onnx"),
        (artifact, [], RequestError, "no-feeds"),
        (dataclasses.replace(artifact, sha256="0" * 64), feeds, GraphError, "file-changed"),
    ):
        with refused(code, error):
            self_test(path, given, reference, fed, options=OPTIONS)
