"""Candidates: a runtime that is missing, refuses the file or samples wrongly is named with the reason."""

import pytest

from refine_export.artifacts import artifact_from_file
from refine_export.errors import UnavailableError
from refine_export.lower.lower_options import LowerOptions
from refine_export.runners import open_onnx_runner
from refine_export.validate import runtimes
from refine_export.validate.validate_options import ValidateOptions
from tests.support.wrong_samplers import WRONG, WrongSampler


@pytest.fixture(scope="module")
def native(exports):
    return exports.fp32("contextnet", size="64x64")


@pytest.fixture(scope="module")
def gather(exports):
    return exports.lowered("contextnet", LowerOptions(precision="fp32", gridsample="gather"))


@pytest.fixture(autouse=True)
def fresh():
    open_onnx_runner.sampling_problems.cache_clear()
    yield
    open_onnx_runner.sampling_problems.cache_clear()


def candidate(path, **options):
    with runtimes.candidates_for(path, artifact_from_file(path), ValidateOptions(**options)) as [found]:
        return found


@pytest.mark.parametrize("problem", WRONG)
def test_a_runtime_that_samples_wrongly_fails_files_with_grid_sample(native, gather, monkeypatch, problem):
    monkeypatch.setattr(open_onnx_runner, "OrtRunner", WrongSampler)
    monkeypatch.setattr(WrongSampler, "wrong", WRONG[problem])
    assert open_onnx_runner.sampling_problems("onnxruntime-cpu") == (problem,)
    found = candidate(native)
    assert (found.runner, found.missing) == (None, None)
    assert problem in found.refused
    assert candidate(gather).runner is not None


def test_the_providers_of_gpus_are_probed_too(native, monkeypatch):
    """Doubles of both providers, one of which pads with zeros: it runs nothing else."""
    opened = []

    class Provider(WrongSampler):
        def __init__(self, model, *, provider, threads):
            opened.append(provider)
            self.wrong = WRONG["zeros padding"] if provider == "tensorrt" else ("mode", "bilinear")
            super().__init__(model)

    monkeypatch.setattr(open_onnx_runner, "OrtRunner", Provider)
    options = ValidateOptions(runtimes=("onnxruntime-cuda", "onnxruntime-tensorrt"))
    with runtimes.candidates_for(native, artifact_from_file(native), options) as [cuda, tensorrt]:
        assert (cuda.refused, cuda.runner is None) == (None, False)
        assert (tensorrt.runner, "zeros padding" in tensorrt.refused) == (None, True)
    assert opened == ["cuda", "cuda", "tensorrt"]


def test_a_file_is_opened_in_a_runtime_that_computes_its_types(native):
    found = candidate(native, ssim=True)
    assert (found.runtime, found.refused, found.with_ssim) == ("onnxruntime-cpu", None, True)
    assert open_onnx_runner.sampling_problems("onnxruntime-cpu") == open_onnx_runner.sampling_problems("half") == ()


def test_a_missing_runtime_is_not_a_refusal(native, monkeypatch):
    def missing(model, **given):
        raise UnavailableError("no GPU", code="no-gpu")

    monkeypatch.setattr(open_onnx_runner, "OrtRunner", missing)
    found = candidate(native, runtimes=("onnxruntime-cuda",))
    assert (found.runner, found.missing, found.refused) == (None, "no GPU", None)
