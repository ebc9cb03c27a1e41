"""The TensorRT runner gives what the engine computes, from arrays and from tensors.

Against the fake: host memory stands in for the GPU's, and ONNX Runtime for the engine.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES
from tests.support.host_trt import built, feeds_of, middle, model_text, plan_fixture, saved, tensors_of, trt_fixture  # noqa: F401 (fixtures)

SIDES = (32, 64, 96)


def test_outputs_are_those_of_the_engine_at_every_shape(trt, plan):
    with TrtRunner(plan) as runner:
        for side in SIDES:
            feeds = feeds_of(side, seed=side)
            assert np.array_equal(runner.run(feeds)["frame"], middle(feeds))
        assert (runner.backend, runner.version, runner.provider) == ("tensorrt", trt.__version__, "engine, rung native")
        assert runner.device == "a host that stands in for a GPU"
        assert [info.name for info in runner.inputs] == ["img0", "img1"]
        assert runner.inputs[0].shape == ("N", 3, "H", "W")
        assert runner.graph is SIGNATURES["interpolator"]


def test_outputs_are_copies_and_feeds_are_left_alone(trt, plan):
    with TrtRunner(plan) as runner:
        first, second = feeds_of(seed=1), feeds_of(seed=2)
        for array in first.values():
            array.flags.writeable = False
        outputs = runner.run(first)["frame"]
        before = outputs.copy()
        runner.run(second)
        assert np.array_equal(outputs, before)
        strided = {name: np.asfortranarray(array[:, :, ::-1]) for name, array in first.items()}
        assert np.array_equal(runner.run(strided)["frame"], middle(strided))


def test_float16_goes_in_and_out(trt, tmp_path):
    path = saved(tmp_path / "m.plan", built(trt, model_text("float16")), trt.__version__)
    with TrtRunner(path) as runner:
        feeds = feeds_of(dtype=np.float16)
        outputs = runner.run(feeds)["frame"]
        assert outputs.dtype == np.float16
        assert np.array_equal(outputs, middle(feeds))
        with pytest.raises(RequestError, match="img0 is float32 .*expected float16"):
            runner.run(feeds_of())


def test_an_engine_of_fixed_sizes(trt, tmp_path, monkeypatch):
    path = saved(tmp_path / "m.plan", built(trt, model_text(size="1, 3, 64, 64"), sides=()), trt.__version__)
    with monkeypatch.context() as patch:
        patch.setattr(trt.ICudaEngine, "get_tensor_profile_shape", None)  # it has no profile that was set
        runner = TrtRunner(path)
    with runner:
        assert runner.inputs[0].shape == (1, 3, 64, 64)
        assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))
        with pytest.raises(RequestError, match="img0 is float32"):
            runner.run(feeds_of(96))


def test_the_first_profile_that_fits_is_used(trt, tmp_path):
    """Going back and forth between them, too."""
    sides = ((32, 32, 32), (32, 64, 96), (96, 128, 160))
    path = saved(tmp_path / "m.plan", built(trt, sides=sides), trt.__version__)
    with TrtRunner(path) as runner:
        for side, profile in ((32, 0), (96, 1), (128, 2), (64, 1), (32, 0)):
            feeds = feeds_of(side)
            assert np.array_equal(runner.run(feeds)["frame"], middle(feeds))
            assert runner._context.active_optimization_profile == profile
        with pytest.raises(RequestError, match=r"\[1, 3, 32, 32\] to \[1, 3, 32, 32\] \(profile 0\).*\(profile 2\)"):
            runner.run(feeds_of(192))
        trt.fake.failing.add("set_optimization_profile_async")
        with pytest.raises(RequestError, match="could not set the shapes.*the test asked for it"):
            runner.run(feeds_of(128))


def test_tensors_go_in_and_out_without_a_copy(trt, plan, monkeypatch):
    feeds = feeds_of()
    with TrtRunner(plan) as runner:
        monkeypatch.setattr(runner._gpu, "upload", None)
        monkeypatch.setattr(runner._gpu, "download", None)
        tensors = tensors_of(feeds)
        frame = runner.run_torch(tensors)["frame"]
        assert np.array_equal(frame.numpy(), middle(feeds))
        assert runner._context.get_tensor_address("frame") == frame.data_ptr()
        assert runner._context.get_tensor_address("img0") == tensors["img0"].data_ptr()
        assert runner._gpu.waits == 0
        mine = torch.empty(1, 3, 64, 64)
        assert runner.run_torch(tensors, {"frame": mine})["frame"] is mine
        assert torch.equal(mine, frame)
