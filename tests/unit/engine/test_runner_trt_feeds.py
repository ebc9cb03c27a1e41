"""The TensorRT runner says in words which feeds, outputs and types an engine can't take; against the fake."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import GraphError, RequestError
from refine_export.runners.base import check_sizes
from refine_export.signature import SIGNATURES
from tests.support.host_trt import built, feeds_of, model_text, plan_fixture, saved, tensors_of, trt_fixture  # noqa: F401 (fixtures)


def test_shapes_are_refused_before_the_engine_is_asked(trt, tmp_path, monkeypatch):
    path = saved(tmp_path / "m.plan", built(trt, batch=2), trt.__version__)
    runner = TrtRunner(path)

    def never(*_):
        raise AssertionError("TensorRT was asked")

    for call in ("set_input_shape", "infer_shapes", "execute_async_v3"):
        monkeypatch.setattr(trt.IExecutionContext, call, never)
    for feeds, words in (
        (feeds_of(48), r"img0 is 48x48; interpolator takes multiples of 32: pad the frames"),
        (feeds_of(128), r"\[1, 3, 128, 128\]; this engine takes \[1, 3, 32, 32\] to \[2, 3, 96, 96\] \(profile 0\)"),
        (feeds_of(batch=3), r"is \[3, 3, 64, 64\]; this engine takes"),
        ({"img0": feeds_of()["img0"]}, r"feeds are named \['img0'\]; this graph takes \['img0', 'img1'\]"),
        ({**feeds_of(), "img1": feeds_of(32)["img1"]}, "the feed img1 is"),
        (feeds_of(dtype=np.float64), "img0 is float64 .*expected float32"),
    ):
        with pytest.raises(RequestError, match=words):
            runner.run(feeds)
        with pytest.raises(RequestError, match=words):
            runner.run_torch({name: torch.from_numpy(array) for name, array in feeds.items()})


def test_a_foreign_engine_has_profiles_but_no_stride(trt):
    content = built(trt, model_text(names=("a", "b", "c")), sides=((8, 8, 50),))
    with TrtRunner(content, unchecked=True) as runner:
        assert runner.graph is None
        assert runner.inputs[0].shape == ("a?0", 3, "a?2", "a?3")
        feeds = {"a": np.ones((1, 3, 9, 11), np.float32), "b": np.zeros((1, 3, 9, 11), np.float32)}
        assert (runner.run(feeds)["c"] == 0.5).all()


def test_both_sides_have_a_stride_and_a_smallest_size(trt):
    with TrtRunner(built(trt, sides=((64, 64, 96),)), unchecked=True) as runner:
        narrow = {name: array[..., :48] for name, array in feeds_of().items()}
        with pytest.raises(RequestError, match="img0 is 64x48; interpolator takes multiples of 32"):
            runner.run(narrow)
        with pytest.raises(RequestError, match=r"\[1, 3, 32, 32\]; this engine takes \[1, 3, 64, 64\] to"):
            runner.run(feeds_of(32))


def test_inputs_of_one_graph_are_of_one_size():
    shapes = {spec.name: spec.shape_at(1, 64, 96) for spec in SIGNATURES["unet"].inputs}
    check_sizes(SIGNATURES["unet"], shapes)
    with pytest.raises(RequestError, match=r"c1_3 is \[1, 64, 8, 8\]; expected \[1, 64, 8, 12\], as img0 is"):
        check_sizes(SIGNATURES["unet"], {**shapes, "c1_3": (1, 64, 8, 8)})


def test_types_that_numpy_or_torch_lack(trt, plan, monkeypatch):
    monkeypatch.setattr(trt.ICudaEngine, "get_tensor_dtype", lambda self, name: trt.DataType.BF16)
    with TrtRunner(plan) as runner:
        assert runner.inputs[0].dtype == "bfloat16"
        with pytest.raises(RequestError, match="img0 is float32"):
            runner.run(feeds_of())
        with pytest.raises(RequestError, match="img0 is bfloat16, which numpy has not; use run_torch"):
            runner._run(feeds_of())
    monkeypatch.setattr(trt.ICudaEngine, "get_tensor_dtype", lambda self, name: trt.DataType.FP8)
    with pytest.raises(GraphError, match="img0 is FP8; expected an engine with inputs and outputs of FLOAT, HALF"):
        TrtRunner(plan)


def test_shape_tensors_are_refused(trt, plan, monkeypatch):
    monkeypatch.setattr(trt.ICudaEngine, "get_tensor_location", lambda self, name: trt.TensorLocation.HOST)
    with pytest.raises(GraphError, match="img0 is a shape tensor in host memory"):
        TrtRunner(plan)


def test_an_output_whose_shape_depends_on_values_is_refused(trt, plan, monkeypatch):
    runner = TrtRunner(plan)
    monkeypatch.setattr(trt.IExecutionContext, "get_tensor_shape", lambda self, name: trt.Dims((1, 3, -1, 64)))
    with pytest.raises(RequestError, match=r"could not tell the shape of \['frame'\]"):
        runner.run(feeds_of())


def test_tensors_that_the_engine_can_not_use_in_place(trt, plan):
    runner, tensors = TrtRunner(plan), tensors_of(feeds_of())
    with pytest.raises(RequestError, match=r"img1 is on meta; expected cpu: use \.to\(\)"):
        runner.run_torch({**tensors, "img1": tensors["img1"].to("meta")})
    with pytest.raises(RequestError, match=r"img0 has strides .*expected \.contiguous\(\)"):
        runner.run_torch({**tensors, "img0": tensors["img0"].transpose(2, 3)})
    with pytest.raises(RequestError, match=r"img0 begins at .*use \.clone\(\)"):
        runner.run_torch({**tensors, "img0": torch.empty(1 + 3 * 64 * 64)[1:].view(1, 3, 64, 64)})
    for outputs, words in (
        ({"other": torch.empty(1)}, r"outputs are named \['other'\]; this engine has \['frame'\]"),
        ({"frame": torch.empty(1, 3, 64, 32)}, r"frame is float32 \[1, 3, 64, 32\]; expected float32 \[1, 3, 64, 64\]"),
        ({"frame": torch.empty(1, 3, 64, 64).half()}, "frame is float16"),
        ({"frame": torch.empty(1, 3, 64, 64).to("meta")}, "frame is on meta"),
        ({"frame": torch.empty(1, 3, 64, 64).transpose(2, 3)}, "frame has strides"),
        ({"frame": torch.empty(1 + 3 * 64 * 64)[1:].view(1, 3, 64, 64)}, "frame begins at .* no multiple of 16"),
    ):
        with pytest.raises(RequestError, match=words):
            runner.run_torch(tensors, outputs)
