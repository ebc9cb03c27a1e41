"""The TensorRT runner gives what the engine computes, and says in words what the engine, the plan or a feed lacks.

Against the fake: host memory stands in for the GPU's, and ONNX Runtime for the engine.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from fake_tensorrt import make_fake
from onnx.parser import parse_model

from refine_export.engine.engine_manifest import sealed
from refine_export.engine.key import Machine, engine_key
from refine_export.engine.options import BuildOptions
from refine_export.engine.plan import KEY, KIND
from refine_export.engine.trt import Log
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.manifest import Manifest, manifest_path, write_manifest
from refine_export.runners import trt as runner_module
from refine_export.runners.trt import TrtRunner
from refine_export.runners.trt_device import CudaDevice
from refine_export.runners.trt_shapes import check_sizes
from refine_export.signature import SIGNATURES

SIDES = (32, 64, 96)


class HostDevice(CudaDevice):
    """Host memory in place of the GPU's, and a note of each graph."""

    alignment = 16  # what numpy's memory has

    def __init__(self) -> None:
        self._torch = torch
        self.device = torch.device("cpu")
        self.stream, self.name = 7, "a host that stands in for a GPU"
        self.captures = self.replays = self.waits = 0
        self.refuses_capture = False

    @contextmanager
    def work(self, *, wait):
        self.waits += wait
        yield

    def upload(self, array, into):
        into.copy_(torch.from_numpy(np.require(array, requirements=["C", "W"])))

    def download(self, tensor):
        return tensor.to("cpu", copy=True).numpy()

    def capture(self, enqueue):
        if self.refuses_capture:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.captures += 1

        def replay():
            self.replays += 1
            enqueue()

        return replay


def machine_of(version):
    return Machine(
        tensorrt=version,
        gpu="NVIDIA H200",
        compute_capability=(9, 0),
        cuda=13,
        system=platform.system(),
        architecture=platform.machine(),
    )


@pytest.fixture(params=["10.16.1", "11.4.0"])
def trt(request, monkeypatch):
    fake = make_fake(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(runner_module, "CudaDevice", HostDevice)
    monkeypatch.setattr(runner_module, "this_machine", lambda module: machine_of(module.__version__))
    return fake


def model_text(dtype="float", size='"N", 3, "H", "W"', names=("img0", "img1", "frame")):
    first, second, out = names
    return f"""
        <ir_version: 9, opset_import: ["" : 18]>
        middle ({dtype}[{size}] {first}, {dtype}[{size}] {second}) => ({dtype}[{size}] {out})
        <float half = {{0.5}}>
        {{
            both = Add ({first}, {second})
            weight = Cast <to = {10 if dtype == "float16" else 1}> (half)
            {out} = Mul (both, weight)
        }}
    """


def built(trt, text=None, *, sides=((32, 64, 96),), batch=1, flags=()):
    """The bytes of a plan, one profile for each of `sides`; none for a model of fixed sizes."""
    log = Log(trt)
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    assert parser.parse(parse_model(text or model_text()).SerializeToString()), log.errors()
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    for low, best, high in sides:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            shapes = [(1, 3, low, low), (1, 3, best, best), (batch, 3, high, high)]
            profile.set_shape(network.get_input(index).name, *shapes)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.errors()
    return bytes(plan)


def saved(path, content, version, rung="native", **options):
    options = BuildOptions(**options)
    key = engine_key(machine_of(version), onnx_sha256="a" * 64, profiles=(), options=options, rung=rung)
    path.write_bytes(content)
    manifest = Manifest(
        artifact=path.name,
        kind=KIND,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        inputs={},
        options={},
        versions={},
        signature={},
        fingerprint=key.fingerprint(),
        seconds=1.0,
        details={KEY: key.described()},
    )
    write_manifest(path, sealed(manifest))
    return path


@pytest.fixture
def plan(trt, tmp_path):
    return saved(tmp_path / "m.plan", built(trt), trt.__version__)


def feeds_of(side=64, batch=1, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.uniform(size=(batch, 3, side, side)).astype(dtype) for name in ("img1", "img0")}


def middle(feeds):
    return (feeds["img0"] + feeds["img1"]) * feeds["img0"].dtype.type(0.5)


# ------------------------------------------------------------------------------------------- what it computes


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


# ------------------------------------------------------------------------------------------- feeds


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


# ------------------------------------------------------------------------------------------- tensors of torch


def tensors_of(feeds):
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


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


# ------------------------------------------------------------------------------------------- CUDA graphs


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


# ------------------------------------------------------------------------------------------- failures of TensorRT


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_torch_without_cuda_is_said():
    with pytest.raises(UnavailableError, match="finds no CUDA device here, which TensorRT needs; install"):
        CudaDevice()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")
def test_the_device_copies_orders_and_captures():
    """The stand-in's original, without TensorRT: copies, order between the streams, a graph that is replayed."""
    device = CudaDevice()
    memory, doubled = device.empty((64, 64), "float16"), device.empty((64, 64), "float16")
    array = np.random.default_rng(0).uniform(size=(64, 64)).astype(np.float16)

    def enqueue():
        with torch.cuda.stream(device._stream):
            torch.add(memory, memory, out=doubled)

    with device.work(wait=True):
        device.upload(array, memory)
        enqueue()
        assert np.array_equal(device.download(doubled), array + array)
        replay = device.capture(enqueue)
        device.upload(array * np.float16(2), memory)
        replay()
    assert np.array_equal(device.download(doubled), array * np.float16(4))
    large = torch.ones(4096, 4096, device=device.device)
    for _ in range(50):
        large = large @ large / 4096
    memory.copy_(large[:64, :64])  # still under way on the caller's stream
    with device.work(wait=False):
        enqueue()
    assert (doubled == 2).all()


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


# ------------------------------------------------------------------------------------------- plans


def no_loading(trt, monkeypatch):
    def never(*_):
        raise AssertionError("TensorRT saw the plan")

    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", never)


def test_the_manifest_is_checked_before_tensorrt_sees_the_plan(trt, plan, monkeypatch):
    no_loading(trt, monkeypatch)
    here = Machine(
        tensorrt="11.4.1", gpu="NVIDIA L4", compute_capability=(8, 9), cuda=12, system="Linux", architecture="x86_64"
    )
    monkeypatch.setattr(runner_module, "this_machine", lambda module: here)
    with pytest.raises(GraphError, match=rf"built for TensorRT {trt.__version__} on H200 \(9.0\).*, this is 11.4.1 on"):
        TrtRunner(plan)
    content = plan.read_bytes()
    for damaged, words in ((b"", "is empty"), (content[:-5], "truncated"), (b"PK" * 99, "no TensorRT plan")):
        plan.write_bytes(damaged)
        with pytest.raises(GraphError, match=words):
            TrtRunner(plan)
    plan.write_bytes(content)
    manifest_path(plan).unlink()
    with pytest.raises(GraphError, match="is missing"):
        TrtRunner(plan)


def test_an_unchecked_plan_is_said_to_be_one(trt, plan):
    manifest_path(plan).unlink()
    for source in (plan, plan.read_bytes()):
        with TrtRunner(source, unchecked=True) as runner:
            assert runner.provider == "engine, unchecked plan"
            assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))
    with pytest.raises(RequestError, match="bytes of a plan have no manifest"):
        TrtRunner(plan.read_bytes())
    with pytest.raises(GraphError, match="no TensorRT plan"):
        TrtRunner(b"nothing of the kind", unchecked=True)


def test_an_unchecked_plan_of_another_version_shows_tensorrts_words(trt, tmp_path):
    other = make_fake("10.13.0")
    with pytest.raises(UnavailableError, match="could not load the plan with .*got 10.13.0"):
        TrtRunner(built(other), unchecked=True)


def test_host_code_is_for_those_who_ask(trt, tmp_path, monkeypatch):
    content = built(trt, flags=("VERSION_COMPATIBLE",))
    path = saved(tmp_path / "m.plan", content, trt.__version__, version_compatible=True)
    with pytest.raises(
        RequestError, match="lean runtime, which is code that runs on this host; expected allow_host_code"
    ):
        TrtRunner(path)
    with pytest.raises(UnavailableError, match="engine_host_code_allowed is False"):
        TrtRunner(path, unchecked=True)
    with TrtRunner(path, allow_host_code=True) as runner:
        assert runner._runtime.engine_host_code_allowed is True
        assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))
    lean = built(trt, flags=("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"))
    options: dict[str, Any] = {"version_compatible": True, "exclude_lean_runtime": True}
    with TrtRunner(saved(path, lean, trt.__version__, **options)) as runner:
        assert runner._runtime.engine_host_code_allowed is False


def test_a_plan_without_its_weights_is_refused(trt, tmp_path, monkeypatch):
    no_loading(trt, monkeypatch)
    path = saved(tmp_path / "m.plan", built(trt, flags=("STRIP_PLAN",)), trt.__version__, strip_weights=True)
    with pytest.raises(GraphError, match="was built without its weights; refit it first"):
        TrtRunner(path)
