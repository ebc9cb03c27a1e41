"""Candidates: a runtime that is missing, refuses the file or samples wrongly is named with the reason."""

import onnx
import pytest

from refine_export.artifacts import artifact_from_file
from refine_export.errors import UnavailableError
from refine_export.lower.lower_options import LowerOptions
from refine_export.runners import open_runner
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.validate import runtimes
from refine_export.validate.validate_options import ValidateOptions


class WrongSampler(OrtRunner):
    """ONNX Runtime that reads GridSample's attributes wrongly, as TensorRT's parser did."""

    wrong = ("mode", "nearest")

    def __init__(self, model, **given):
        proto = onnx.load_model_from_string(model)
        name, value = self.wrong
        for node in proto.graph.node:
            if node.op_type == "GridSample":
                kept = [one for one in node.attribute if one.name != name]
                del node.attribute[:]
                node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
        super().__init__(proto.SerializeToString(), **given)


@pytest.fixture(scope="module")
def native(exports):
    return exports.fp32("contextnet", size="64x64")


@pytest.fixture(scope="module")
def gather(exports):
    return exports.lowered("contextnet", LowerOptions(precision="fp32", gridsample="gather"))


@pytest.fixture(autouse=True)
def fresh():
    open_runner.sampling_problems.cache_clear()
    yield
    open_runner.sampling_problems.cache_clear()


def candidate(path, **options):
    with runtimes.candidates_for(path, artifact_from_file(path), ValidateOptions(**options)) as [found]:
        return found


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (("mode", "nearest"), "nearest"),
        (("padding_mode", "zeros"), "zeros padding"),
        (("align_corners", 0), "unaligned corners"),
    ],
)
def test_a_runtime_that_samples_wrongly_fails_files_with_grid_sample(native, gather, monkeypatch, wrong, problem):
    monkeypatch.setattr(open_runner, "OrtRunner", WrongSampler)
    monkeypatch.setattr(WrongSampler, "wrong", wrong)
    assert open_runner.sampling_problems("onnxruntime-cpu") == (problem,)
    found = candidate(native)
    assert (found.runner, found.missing) == (None, None)
    assert problem in found.refused
    assert candidate(gather).runner is not None


def test_a_file_is_opened_in_a_runtime_that_computes_its_types(native):
    found = candidate(native, ssim=True)
    assert (found.runtime, found.refused, found.with_ssim) == ("onnxruntime-cpu", None, True)
    assert open_runner.sampling_problems("onnxruntime-cpu") == open_runner.sampling_problems("half") == ()


def test_a_missing_runtime_is_not_a_refusal(native, monkeypatch):
    def missing(model, **given):
        raise UnavailableError("no GPU", code="no-gpu")

    monkeypatch.setattr(open_runner, "OrtRunner", missing)
    found = candidate(native, runtimes=("onnxruntime-cuda",))
    assert (found.runner, found.missing, found.refused) == (None, "no GPU", None)
