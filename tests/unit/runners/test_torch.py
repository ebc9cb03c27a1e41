"""The reference in torch, and what every runner has in common with it."""

import shutil

import numpy as np
import pytest

from refine_export.data.feeds import feeds_for
from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def feed(references, pair_at):
    return next(feeds_for(references("IFNet"), SIGNATURES["contextnet"], pair_at(64, 96), kinds=("subpixel",))).inputs


@pytest.fixture(params=["float32", "float64", "file"])
def runner(request, references, exports):
    if request.param == "file":
        opened = OrtRunner(exports.fp32("contextnet"))
    else:
        opened = TorchRunner(references("IFNet"), "contextnet", dtype=request.param)
    with opened:
        yield opened


def test_outputs_have_the_declared_names_types_and_shapes(runner, feed):
    assert [(info.name, info.shape) for info in runner.inputs] == [
        ("image", ("N", 3, "H", "W")),
        ("flow", ("N", 2, "H", "W")),
    ]
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
    for wrong, code in (
        ({"image": feed["image"]}, "feed-names"),
        (feed | {"image": feed["image"].astype(np.float16)}, "feed-type"),
        (feed | {"flow": np.zeros((1, 3, 64, 96), np.float32)}, "feed-shape"),
        (feed | {"flow": np.zeros((1, 2, 64, 64), np.float32)}, "feed-shape"),  # not the size of the image
    ):
        with refused(code, RequestError):
            runner.run(wrong)


def test_float64_is_nearer_than_float32_and_leaves_the_reference_alone(references, feed):
    """The difference of the types is rounding, not zero and not large."""
    with (
        TorchRunner(references("IFNet"), "contextnet") as single,
        TorchRunner(references("IFNet"), "contextnet", dtype="float64") as double,
    ):
        difference = np.abs(single.run(feed)["f4"] - double.run(feed)["f4"]).max()
    assert 0 < difference < 1e-4
    assert {str(value.dtype) for value in references("IFNet").state_dict().values()} == {"torch.float32"}


def test_a_device_that_is_not_there_is_refused(references, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for device, code in (("cuda:0", "no-cuda-device"), ("tpu", "unknown-device")):
        with refused(code, (UnavailableError, RequestError)):
            TorchRunner(references("IFNet"), "contextnet", device=device)


def test_a_compiler_that_fails_is_missing_and_an_error_of_torch_itself_is_not(references, feed, monkeypatch):
    def fails(*tensors):
        raise RuntimeError("No working C++ compiler found\nand a long trace")

    for compiled, error in ((True, UnavailableError), (False, RuntimeError)):
        with TorchRunner(references("IFNet"), "contextnet", compiled=compiled) as runner:
            assert runner.provider == ("torch float32, compiled" if compiled else "torch float32")
            monkeypatch.setattr(runner, "_network", fails)
            with pytest.raises(error) as caught:
                runner.run(feed)
            assert getattr(caught.value, "code", None) == ("cannot-compile" if compiled else None)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
@pytest.mark.filterwarnings("default")  # of torch's own compiler
def test_what_torch_compiles_agrees_with_torch(references, feed):
    with TorchRunner(references("IFNet"), "contextnet") as eager:
        expected = eager.run(feed)
    with TorchRunner(references("IFNet"), "contextnet", compiled=True) as compiled:
        actual = compiled.run(feed)
    assert all(np.abs(actual[name] - expected[name]).max() < 1e-5 for name in expected)
