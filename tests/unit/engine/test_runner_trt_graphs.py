"""The TensorRT runner captures a CUDA graph after a warm-up, and anew on any change; against the fake."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import RequestError
from tests.support.host_trt import built, feeds_of, middle, plan_fixture, saved, tensors_of, trt_fixture  # noqa: F401 (fixtures)


def test_a_graph_is_captured_after_a_warm_up_and_again_on_any_change(trt, tmp_path):
    path = saved(tmp_path / "m.plan", built(trt, sides=((32, 64, 96), (32, 64, 128))), trt.__version__)
    with TrtRunner(path, cuda_graph=True) as runner:
        assert runner.provider == "engine, rung native, CUDA graph"
        done = []
        for side in (64, 64, 64, 96, 96, 64, 128, 128, 64, 64):
            feeds = feeds_of(side, seed=len(done))
            assert np.array_equal(runner.run(feeds)["frame"], middle(feeds))
            done.append((runner._gpu.captures, runner._gpu.replays))
        assert done == [(0, 0), (1, 1), (1, 2), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4), (3, 4), (4, 5)]


def test_a_graph_follows_the_addresses(trt, plan):
    with TrtRunner(plan, cuda_graph=True) as runner:
        tensors, out = tensors_of(feeds_of()), {"frame": torch.empty(1, 3, 64, 64)}
        others, other_out = tensors_of(feeds_of(seed=5)), {"frame": torch.empty(1, 3, 64, 64)}
        done = []
        for feeds, outputs in (
            (tensors, out),
            (tensors, out),
            (tensors, out),
            (others, out),
            (others, out),
            (others, other_out),
            (tensors, out),
        ):
            outputs["frame"].zero_()
            assert torch.equal(runner.run_torch(feeds, outputs)["frame"], (feeds["img0"] + feeds["img1"]) * 0.5)
            done.append((runner._gpu.captures, runner._gpu.replays))
        assert done == [(0, 0), (1, 1), (1, 2), (1, 2), (2, 3), (2, 3), (2, 3)]


def test_without_the_option_there_is_no_graph(trt, plan):
    with TrtRunner(plan) as runner:
        for _ in range(3):
            runner.run(feeds_of())
        assert runner._gpu.captures == 0


def test_an_engine_that_can_not_be_captured(trt, plan):
    with TrtRunner(plan, cuda_graph=True) as runner:
        runner.run(feeds_of())
        runner._gpu.refuses_capture = True
        with pytest.raises(RequestError, match="could not be captured .*not permitted.*cuda_graph=False"):
            runner.run(feeds_of())
        runner._gpu.refuses_capture = False
        runner.run(feeds_of())
        assert runner._gpu.captures == 0  # a failure makes the next run a warm-up


def test_a_failure_makes_the_next_run_a_warm_up(trt, plan):
    """TensorRT does at the first run after a change what a capture can't."""
    feeds, outputs = tensors_of(feeds_of()), {"frame": torch.empty(1, 3, 64, 64)}
    with TrtRunner(plan, cuda_graph=True) as runner:
        runner.run_torch(feeds, outputs)
        trt.fake.failing.add("set_input_shape")
        with pytest.raises(RequestError):
            runner.run_torch(tensors_of(feeds_of(96)))
        trt.fake.failing.clear()
        runner.run_torch(feeds, outputs)
        assert runner._gpu.captures == 0
        runner.run_torch(feeds, outputs)
        assert runner._gpu.captures == 1
