"""Runners: one interface, what is declared is what comes, what is used is what is reported."""

import numpy as np
import onnx
import pytest
import torch

from refine_export.data.feeds import feeds_for
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner


@pytest.fixture(scope="module")
def model(references):
    return onnx_from_network(references("IFNet"), "contextnet", ExportOptions(dynamic=True))


@pytest.fixture(scope="module")
def feed(references, pair_at):
    return next(feeds_for(references("IFNet"), "contextnet", pair_at(64, 96), kinds=("subpixel",))).inputs


@pytest.fixture(params=["torch", "float64", "onnxruntime", "file"])
def runner(request, references, model, tmp_path):
    if request.param in ("torch", "float64"):
        dtype = "float32" if request.param == "torch" else "float64"
        opened = TorchRunner(references("IFNet"), "contextnet", dtype=dtype)
    elif request.param == "file":
        onnx.save(model, tmp_path / "contextnet.onnx")
        opened = OrtRunner(tmp_path / "contextnet.onnx")
    else:
        opened = OrtRunner(model.SerializeToString())
    with opened:
        yield opened


def test_what_is_declared_is_what_comes(runner, feed):
    assert [info.name for info in runner.inputs] == ["image", "flow"]
    assert [info.shape for info in runner.inputs] == [("N", 3, "H", "W"), ("N", 2, "H", "W")]
    outputs = runner.run(feed)
    assert list(outputs) == ["f1", "f2", "f3", "f4"] == [info.name for info in runner.outputs]
    for info in runner.outputs:
        assert str(outputs[info.name].dtype) == info.dtype
        assert outputs[info.name].ndim == len(info.shape)
    assert runner.backend in ("torch", "onnxruntime")
    assert runner.device == "cpu"
    assert runner.provider in ("torch float32", "torch float64", "CPUExecutionProvider")
    assert runner.version


def test_a_run_leaves_feeds_and_earlier_outputs_alone(runner, feed):
    before = {name: array.copy() for name, array in feed.items()}
    first = runner.run(feed)
    kept = {name: array.copy() for name, array in first.items()}
    runner.run({"image": feed["image"] * 0, "flow": feed["flow"]})
    assert all(np.array_equal(feed[name], before[name]) for name in feed)
    assert all(np.array_equal(first[name], kept[name]) for name in first)


def test_feeds_are_checked(runner, feed):
    with pytest.raises(RequestError, match=r"feeds are named \['image'\]; this graph takes \['flow', 'image'\]"):
        runner.run({"image": feed["image"]})
    with pytest.raises(RequestError, match=r"the feed image is float64 .*; expected float32"):
        runner.run(feed | {"image": feed["image"].astype(np.float64)})
    with pytest.raises(RequestError, match=r"the feed flow is .*\[1, 3, 64, 96\]; expected .*\['N', 2, 'H', 'W'\]"):
        runner.run(feed | {"flow": np.zeros((1, 3, 64, 96), np.float32)})
    with pytest.raises(RequestError, match=r"the feed flow .* with \{'N': 1, 'H': 64, 'W': 96\}"):
        runner.run(feed | {"flow": np.zeros((1, 2, 64, 64), np.float32)})


def test_the_reference_network_is_not_modified(references, feed):
    with TorchRunner(references("IFNet"), "contextnet", dtype="float64") as runner:
        runner.run(feed)
    assert {str(value.dtype) for value in references("IFNet").state_dict().values()} == {"torch.float32"}


def test_float64_is_nearer_than_float32(references, feed):
    """The difference of the types is rounding, not zero and not large."""
    with (
        TorchRunner(references("IFNet"), "contextnet") as single,
        TorchRunner(references("IFNet"), "contextnet", dtype="float64") as double,
    ):
        difference = np.abs(single.run(feed)["f4"] - double.run(feed)["f4"]).max()
    assert 0 < difference < 1e-4


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows the fallback without a GPU, and this machine has one")
def test_cuda_is_never_the_cpu(model, capfd):
    """Where CUDA can't be loaded, ONNX Runtime falls back with a log line; here that is an error, without the line."""
    with pytest.raises(UnavailableError, match="CUDAExecutionProvider"):
        OrtRunner(model.SerializeToString(), provider="cuda")
    assert capfd.readouterr().err == ""


def test_torch_without_a_gpu_says_so(references, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UnavailableError, match="finds no cuda:0 here"):
        TorchRunner(references("IFNet"), "contextnet", device="cuda:0")


def test_a_file_that_onnxruntime_refuses(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x08\x07 no model")
    with pytest.raises(GraphError, match=r"can't load .*bad\.onnx"):
        OrtRunner(path)
