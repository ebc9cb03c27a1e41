"""The TensorRT runner gives what the engine computes, from arrays and from tensors, and refuses what it cannot take.

Against the fake: host memory stands in for the GPU's, and ONNX Runtime for the engine.
"""

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
import torch

from refine_export.engine import engine_runner as runner_module
from refine_export.engine.bindings import Log
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import EngineError, GraphError, RequestError, UnavailableError
from refine_export.signature import SIGNATURES
from refine_export.support.manifest import manifest_path
from tests.support.engine_models import fail, machine_of, saved
from tests.support.host_device import tensors_of
from tests.support.host_trt import (  # noqa: F401 (fixtures)
    built,
    feeds_of,
    middle,
    model_text,
    plan_fixture,
    trt_fixture,
)
from tests.support.refusals import refused


def test_outputs_are_those_of_the_engine_at_every_shape(trt, plan):
    with TrtRunner(plan) as runner:
        for side in (32, 64, 96):
            feeds = feeds_of(side, seed=side)
            assert np.array_equal(runner.run(feeds)["frame"], middle(feeds))
        assert (runner.backend, runner.version, runner.provider) == (
            "tensorrt",
            trt.__version__,
            "engine, fallback native",
        )
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
        with refused("feed-type", RequestError):
            runner.run(feeds_of())


def test_an_engine_of_fixed_sizes(trt, tmp_path, monkeypatch):
    path = saved(tmp_path / "m.plan", built(trt, model_text(size="1, 3, 64, 64"), sides=()), trt.__version__)
    with monkeypatch.context() as patch:
        patch.setattr(trt.ICudaEngine, "get_tensor_profile_shape", None)  # it has no profile that was set
        runner = TrtRunner(path)
    with runner:
        assert runner.inputs[0].shape == (1, 3, 64, 64)
        assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))
        with refused("feed-shape", RequestError):
            runner.run(feeds_of(96))


def test_the_first_profile_that_fits_is_used(trt, tmp_path, monkeypatch):
    """Going back and forth between them, too."""
    sides = ((32, 32, 32), (32, 64, 96), (96, 128, 160))
    path = saved(tmp_path / "m.plan", built(trt, sides=sides), trt.__version__)
    with TrtRunner(path) as runner:
        for side, profile in ((32, 0), (96, 1), (128, 2), (64, 1), (32, 0)):
            feeds = feeds_of(side)
            assert np.array_equal(runner.run(feeds)["frame"], middle(feeds))
            assert runner._context.active_optimization_profile == profile
        with refused("outside-profile", RequestError):
            runner.run(feeds_of(192))
        error = RuntimeError("Error in set optimization profile async.")
        fail(monkeypatch, trt.IExecutionContext, "set_optimization_profile_async", runner._log, error)
        with pytest.raises(RequestError, match="the test asked for it"):
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
        assert "the host waits" not in runner._gpu.events
        mine = torch.empty(1, 3, 64, 64)
        assert runner.run_torch(tensors, {"frame": mine})["frame"] is mine
        assert torch.equal(mine, frame)


def test_the_manifest_is_checked_before_tensorrt_sees_the_engine(trt, plan, monkeypatch):
    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", None)
    content = plan.read_bytes()
    with monkeypatch.context() as patch:
        here = dataclasses.replace(machine_of("11.4.1"), gpu="NVIDIA L4", compute_capability=(8, 9))
        patch.setattr(runner_module, "this_machine", lambda version, library: here)
        with refused("wrong-machine", EngineError):
            TrtRunner(plan)
    plan.write_bytes(content[:-5])
    with refused("truncated", EngineError):
        TrtRunner(plan)
    plan.write_bytes(content)
    manifest_path(plan).unlink()
    with refused("unknown-engine", EngineError):
        TrtRunner(plan)


def test_an_unchecked_engine_is_named_so(trt, plan):
    manifest_path(plan).unlink()
    for source in (plan, plan.read_bytes()):
        with TrtRunner(source, unchecked=True) as runner:
            assert runner.provider == "engine, unchecked"
            assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))
    with refused("manifest-needed", RequestError):
        TrtRunner(plan.read_bytes())
    with refused("not-an-engine", EngineError):
        TrtRunner(b"nothing of the kind", unchecked=True)


@pytest.mark.parametrize(("tag", "module"), [(b"ftrt", "tensorrt"), (b"vtrt", "tensorrt_rtx")])
def test_an_engine_asks_for_its_library(plan, monkeypatch, tag, module):
    monkeypatch.setitem(sys.modules, module, None)
    content = tag + plan.read_bytes()[4:]
    with pytest.raises(UnavailableError, match=f"this needs {module},") as caught:
        TrtRunner(content, unchecked=True)
    assert caught.value.code == "missing-package"


def test_host_code_is_for_those_who_ask(trt, tmp_path, monkeypatch):
    content = built(trt, flags=("VERSION_COMPATIBLE",))
    path = saved(tmp_path / "m.plan", content, trt.__version__, version_compatible=True)
    with refused("host-code", RequestError):
        TrtRunner(path)
    with pytest.raises(UnavailableError, match="engine_host_code_allowed is False"):
        TrtRunner(path, unchecked=True)
    with TrtRunner(path, options=EngineRunOptions(allow_host_code=True)) as runner:
        assert runner._runtime.engine_host_code_allowed is True
        assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))
    lean = built(trt, flags=("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"))
    options: dict[str, Any] = {"version_compatible": True, "exclude_lean_runtime": True}
    with TrtRunner(saved(path, lean, trt.__version__, **options)) as runner:
        assert runner._runtime.engine_host_code_allowed is False


def test_a_plan_without_its_weights_is_refused(trt, tmp_path, monkeypatch):
    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", None)
    path = saved(tmp_path / "m.plan", built(trt, flags=("STRIP_PLAN",)), trt.__version__, strip_weights=True)
    with refused("stripped", EngineError):
        TrtRunner(path)


def test_shapes_are_refused_before_the_engine_is_asked(trt, tmp_path, monkeypatch):
    path = saved(tmp_path / "m.plan", built(trt, batch=2), trt.__version__)
    runner = TrtRunner(path)
    for call in ("set_input_shape", "infer_shapes", "execute_async_v3"):
        monkeypatch.setattr(trt.IExecutionContext, call, None)
    for feeds, code in (
        (feeds_of(48), "feed-size"),
        (feeds_of(128), "outside-profile"),
        (feeds_of(batch=3), "outside-profile"),
        ({"img0": feeds_of()["img0"]}, "feed-names"),
        ({**feeds_of(), "img1": feeds_of(32)["img1"]}, "feed-shape"),
        (feeds_of(dtype=np.float64), "feed-type"),
    ):
        with refused(code, RequestError):
            runner.run(feeds)
        with refused(code, RequestError):
            runner.run_torch(tensors_of(feeds))


def test_a_foreign_engine_has_profiles_but_no_stride(trt):
    content = built(trt, model_text(names=("a", "b", "c")), sides=((8, 8, 50),))
    with TrtRunner(content, unchecked=True) as runner:
        assert runner.graph is None
        assert runner.inputs[0].shape == ("a?0", 3, "a?2", "a?3")
        feeds = {"a": np.ones((1, 3, 9, 11), np.float32), "b": np.zeros((1, 3, 9, 11), np.float32)}
        assert (runner.run(feeds)["c"] == 0.5).all()


def test_bfloat16_is_for_tensors_only(trt, plan, monkeypatch):
    monkeypatch.setattr(trt.ICudaEngine, "get_tensor_dtype", lambda self, name: trt.DataType.BF16)
    with TrtRunner(plan) as runner:
        assert runner.inputs[0].dtype == "bfloat16"
        with refused("bfloat16-feed", RequestError):
            runner._run(feeds_of())


@pytest.mark.parametrize(
    ("call", "kind", "value"), [("dtype", "DataType", "FP8"), ("location", "TensorLocation", "HOST")]
)
def test_types_that_torch_lacks_and_shape_tensors_are_refused(trt, plan, monkeypatch, call, kind, value):
    gives = getattr(getattr(trt, kind), value)
    monkeypatch.setattr(trt.ICudaEngine, f"get_tensor_{call}", lambda self, name: gives)
    with refused("unsupported-tensor", GraphError):
        TrtRunner(plan)


def test_an_output_whose_shape_depends_on_values_is_refused(trt, plan, monkeypatch):
    runner = TrtRunner(plan)
    monkeypatch.setattr(trt.IExecutionContext, "get_tensor_shape", lambda self, name: trt.Dims((1, 3, -1, 64)))
    with refused("run-failed", RequestError):
        runner.run(feeds_of())


def test_tensors_that_the_engine_cannot_use_in_place(trt, plan):
    runner, tensors = TrtRunner(plan), tensors_of(feeds_of())
    shifted = torch.empty(1 + 3 * 64 * 64)[1:].view(1, 3, 64, 64)
    frame = torch.empty(1, 3, 64, 64)
    for image in (frame.to("meta"), frame.transpose(2, 3), shifted):
        with refused("bad-tensor", RequestError):
            runner.run_torch({**tensors, "img0": image})
    for output in (frame.to("meta"), frame.transpose(2, 3), shifted, frame.half(), torch.empty(1, 3, 64, 32)):
        outputs = {"frame": output}
        with refused("bad-tensor", RequestError):
            runner.run_torch(tensors, outputs)
    with refused("bad-tensor", RequestError):
        runner.run_torch(tensors, {"other": frame})


def test_a_graph_is_captured_after_a_warm_up_and_again_on_any_change(trt, tmp_path):
    path = saved(tmp_path / "m.plan", built(trt, sides=((32, 64, 96), (32, 64, 128))), trt.__version__)
    with TrtRunner(path, options=EngineRunOptions(cuda_graph=True)) as runner:
        assert runner.provider == "engine, fallback native, CUDA graph"
        done = []
        for side in (64, 64, 64, 96, 96, 64, 128, 128, 64, 64):
            feeds = feeds_of(side, seed=len(done))
            assert np.array_equal(runner.run(feeds)["frame"], middle(feeds))
            done.append((runner._gpu.captures, runner._gpu.replays))
        assert done == [(0, 0), (1, 1), (1, 2), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4), (3, 4), (4, 5)]


def test_a_graph_follows_the_addresses(trt, plan):
    with TrtRunner(plan, options=EngineRunOptions(cuda_graph=True)) as runner:
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


def test_an_engine_that_can_not_be_captured(trt, plan):
    with TrtRunner(plan, options=EngineRunOptions(cuda_graph=True)) as runner:
        runner.run(feeds_of())
        runner._gpu.refuses_capture = True
        with pytest.raises(RequestError, match="not permitted"):
            runner.run(feeds_of())
        runner._gpu.refuses_capture = False
        runner.run(feeds_of())
        assert runner._gpu.captures == 0  # a failure makes the next run a warm-up


@pytest.mark.parametrize(
    ("call", "gives"),
    [
        ("set_input_shape", False),
        ("infer_shapes", RuntimeError("infer_shapes error code: -1")),
        ("set_tensor_address", False),
        ("execute_async_v3", False),
    ],
)
def test_what_a_run_fails_with_is_in_the_message_and_not_repeated(trt, plan, monkeypatch, call, gives):
    with TrtRunner(plan) as runner:
        runner._log.logger.log(trt.ILogger.ERROR, "of an earlier run")
        with monkeypatch.context() as patch:
            fail(patch, trt.IExecutionContext, call, runner._log, gives)
            with pytest.raises(RequestError, match=f"{call}: Error Code 1") as caught:
                runner.run(feeds_of())
        assert "earlier" not in str(caught.value)
        assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))


@pytest.mark.parametrize(
    ("kind", "call", "gives"),
    [
        ("Runtime", "__init__", TypeError("pybind11::init(): factory function returned nullptr")),  # no GPU
        ("Runtime", "deserialize_cuda_engine", None),
        ("ICudaEngine", "create_execution_context", None),
    ],
)
def test_null_at_loading_is_an_error_with_the_log(trt, plan, monkeypatch, kind, call, gives):
    log = Log(trt)
    fail(monkeypatch, getattr(trt, kind), call, log, gives)
    with pytest.raises(UnavailableError, match=f"{call}: Error Code 1") as caught:
        TrtRunner(plan, log=log)
    assert caught.value.code == "tensorrt-failed"


def test_a_closed_runner_is_refused(trt, plan):
    runner = TrtRunner(plan)
    runner.close()
    runner.close()
    with refused("closed", RequestError):
        runner.run(feeds_of())


def test_one_log_for_all_runners_of_a_process(trt, plan):
    assert TrtRunner(plan)._log is TrtRunner(plan)._log
    mine = Log(trt)
    assert TrtRunner(plan, log=mine)._log is mine
