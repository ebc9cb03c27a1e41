"""Engines of TensorRT for RTX on a GPU that they are for: exact, in every way of running, with kept kernels."""

import numpy as np
import pytest
import torch
from PIL import Image

import refine_export as rx
from refine_export.engine.bindings import load_library
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.rtx_runtime import kernels_path
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.rtx_provider import INSTALL, NAME
from tests.support.real_tensorrt import copied

pytestmark = pytest.mark.rtx_gpu

FREE = {"min_size": "32x32", "opt_size": "64x96", "max_size": "96x128", "max_batch": 2}


@pytest.fixture(scope="module")
def made(workshop):
    """A dynamic engine of `contextnet`, compared with torch as it was built."""
    return workshop.engine(export={"dynamic": True}, target="rtx", **FREE)


def test_an_engine_is_run_where_it_is_built(made):
    assert made.passed
    assert {one["feed"].partition(",")[0] for one in made.manifest.details["fallbacks"][-1]["numbers"]} == {
        "contextnet 32x32",
        "contextnet 64x96",
        "contextnet 2x96x128",
    }


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("rtx_kernels", ["eager", "lazy", "none"])
def test_every_strategy_is_exact(workshop, made, rtx_kernels, cuda_graph):
    precision = artifact_from_engine(made.path).precision
    options = EngineRunOptions(cuda_graph=cuda_graph, rtx_kernels=rtx_kernels, rtx_cache=False)
    with TrtRunner(made.path, options=options) as runner:
        assert runner.version == load_library("rtx").version
        for batch, *size in ((1, 64, 96), (2, 96, 128), (1, 64, 96), (1, 64, 96)):
            workshop.assert_exact(runner, workshop.feeds(size=tuple(size), batch=batch), precision)


def test_kernels_are_kept_beside_the_engine(workshop, made, tmp_path):
    plan = copied(made, tmp_path / "engine")
    feed = workshop.feeds()[0].inputs
    with TrtRunner(plan) as runner:
        first = runner.run(feed)
    kernels = kernels_path(plan).read_bytes()
    with TrtRunner(plan) as runner:
        again = runner.run(feed)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert kernels_path(plan).read_bytes() == kernels  # nothing was compiled again
    kernels_path(plan).write_bytes(kernels[: len(kernels) // 2])
    with TrtRunner(plan) as runner:
        assert runner.run(feed).keys() == first.keys()
    assert len(kernels_path(plan).read_bytes()) > len(kernels) // 2


def test_tensors_stay_on_the_gpu(workshop, made, monkeypatch):
    first, second = workshop.feeds()
    with TrtRunner(made.path) as runner:
        expected = [runner.run(feed.inputs) for feed in (first, second)]
        monkeypatch.setattr(runner._gpu, "upload", None)
        monkeypatch.setattr(runner._gpu, "download", None)
        for feed, arrays in zip((first, second), expected, strict=True):
            tensors = {name: torch.from_numpy(array).to(runner._gpu.device) for name, array in feed.inputs.items()}
            outputs = runner.run_torch(tensors)
            assert {tensor.device for tensor in outputs.values()} == {runner._gpu.device}
            for name, array in arrays.items():
                assert np.allclose(outputs[name].cpu().numpy(), array, rtol=0, atol=1e-3)


def test_validate_and_interpolate_run_an_engine(workshop, tmp_path):
    made = workshop.engine("interpolator", export={"dynamic": True}, target="rtx", **FREE)
    assert rx.validate(made, recipe=workshop.recipe("interpolator", target="rtx")).passed
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for place, path in enumerate(pictures):
        Image.fromarray(np.full((64, 96, 3), 100 + 20 * place, np.uint8)).save(path)
    rx.interpolate(pictures, output=tmp_path / "between.png", file=made)
    with Image.open(tmp_path / "between.png") as between:
        assert between.size == (96, 64)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnxruntime_runs_a_file_by_its_plugin(workshop, precision):
    pytest.importorskip("onnxruntime_ep_nv_tensorrt_rtx", reason=f"the plugin is not installed: {INSTALL}")
    with OrtRunner(workshop.file(precision=precision), provider="rtx") as runner:
        assert runner.provider.startswith(NAME)
        workshop.assert_exact(runner, workshop.feeds(), precision)
