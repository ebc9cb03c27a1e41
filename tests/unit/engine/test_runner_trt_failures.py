"""What fails in TensorRT is told with the words of its log; against the fake."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from refine_export.engine.bindings import Log
from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import RequestError, UnavailableError
from tests.support.host_trt import feeds_of, middle, plan_fixture, trt_fixture  # noqa: F401 (fixtures)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("set_input_shape", r"take img\d of shape \[1, 3, 64, 64\]"),
        ("infer_shapes", "set the shapes of this run"),
        ("set_tensor_address", r"take the address of img\d"),
        ("execute_async_v3", "run the engine"),
    ],
)
def test_what_a_run_fails_with_is_in_the_message(trt, plan, call, what):
    with TrtRunner(plan) as runner:
        trt.fake.failing.add(call)
        for _ in range(2):
            with pytest.raises(
                RequestError, match=f"^TensorRT {trt.__version__} could not {what}.*{call}: Error Code 1"
            ):
                runner.run(feeds_of())
        trt.fake.failing.clear()
        assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))


def test_old_errors_are_not_told_again(trt, plan):
    with TrtRunner(plan) as runner:
        trt.fake.failing.add("set_input_shape")
        with pytest.raises(RequestError):
            runner.run(feeds_of())
        trt.fake.failing = {"execute_async_v3"}
        with pytest.raises(RequestError) as caught:
            runner.run(feeds_of())
        assert "set_input_shape" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [("deserialize_cuda_engine", "could not load .*m.plan with"), ("create_execution_context", "execution context of")],
)
def test_none_at_loading_is_said_with_the_log(trt, plan, call, words):
    trt.fake.failing.add(call)
    with pytest.raises(UnavailableError, match=f"{words}.*{call}: Error Code 1"):
        TrtRunner(plan)


def test_no_gpu_or_no_tensorrt(trt, plan, monkeypatch):
    trt.fake.gpu = False
    with pytest.raises(UnavailableError, match="TensorRT could not start: CUDA initialization failure"):
        TrtRunner(plan)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match=r"this needs tensorrt.*pip install 'refine-export\[trt\]'"):
        TrtRunner(plan)


def test_a_closed_runner_says_so(trt, plan):
    runner = TrtRunner(plan)
    runner.close()
    runner.close()
    with pytest.raises(RequestError, match="was closed"):
        runner.run(feeds_of())


def test_one_log_for_all_runners_of_a_process(trt, plan):
    assert TrtRunner(plan)._log is TrtRunner(plan)._log
    mine = Log(trt)
    assert TrtRunner(plan, log=mine)._log is mine
