"""ONNX Runtime on a GPU: what is asked of it, what it may not fall back to, what computes what, bound memory.

No GPU is here: ONNX Runtime's CPU provider computes what a GPU would, behind a session that says otherwise, and host
memory stands in for the GPU's. What ONNX Runtime does on a machine without a GPU is the real one's.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import parser

from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.runners import onnxruntime as module
from refine_export.runners.onnxruntime import OrtRunner
from tests.support import foreign
from tests.support.host_device import tensors_of
from tests.support.host_ort import CPU, CUDA, TENSORRT, Session, feeds_of, gpu_fixture, model_of  # noqa: F401 (fixtures)
from tests.support.refusals import refused

NAMES = {"cuda": CUDA, "tensorrt": TENSORRT}


def test_cuda_is_asked_for_without_tf32_on_the_runners_stream(gpu):
    with OrtRunner(model_of(), provider="cuda") as runner:
        cuda = (CUDA, {"device_id": "0", "user_compute_stream": "7", "use_tf32": "0"})
        (session,) = Session.made
        assert session.arguments == {"providers": [cuda, CPU], "enable_fallback": 0}
        assert not session._enable_fallback
        assert session.options.get_session_config_entry("session.record_ep_graph_assignment_info") == "1"
        assert (runner.provider, runner.device) == (CUDA, "a host that stands in for a GPU")


def test_tensorrt_is_asked_for_strongly_typed_and_without_caches_before_cuda(gpu):
    with OrtRunner(model_of(), provider="tensorrt", optimize=False) as runner:
        place = {"device_id": "0", "user_compute_stream": "7"}
        off = ("trt_fp16_enable", "trt_int8_enable", "trt_engine_cache_enable", "trt_timing_cache_enable")
        (session,) = Session.made
        assert session.arguments["providers"] == [
            (TENSORRT, place | dict.fromkeys(off, "False")),
            (CUDA, place | {"use_tf32": "0"}),
            CPU,
        ]
        assert session.options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        assert runner.provider == TENSORRT


@pytest.mark.parametrize(
    ("provider", "packages"), [("cpu", []), ("cuda", ["CUDA"]), ("tensorrt", ["tensorrt", "CUDA"])]
)
def test_libraries_in_python_packages_are_loaded_first(gpu, monkeypatch, provider, packages):
    loaded = []
    monkeypatch.setattr(module, "import_if_installed", loaded.append)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append("CUDA"))
    monkeypatch.setattr(Session, "raises", ValueError("too late"))
    with pytest.raises((UnavailableError, GraphError)):
        OrtRunner(model_of(), provider=provider)
    assert loaded == packages


def test_the_cpu_is_asked_for_nothing_of_this(gpu):
    with OrtRunner(model_of()) as runner:
        (session,) = Session.made
        assert session.arguments == {"providers": [CPU], "enable_fallback": 0}
        assert runner._run_options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"
        assert np.array_equal(runner.run(feeds_of())["y"], sum(feeds_of().values()))
        with refused("not-on-gpu", RequestError):
            runner.run_torch(tensors_of(feeds_of()))


@pytest.mark.parametrize(("output", "size", "bound"), [("frame", 32, True), ("frame", 30, False), ("other", 32, False)])
def test_outputs_of_the_five_graphs_do_not_lie_in_onnxruntimes_memory(output, size, bound):
    """They would keep a piece of its arena; shapes that other files declare may be wrong."""
    inputs = f"{foreign.IMAGE[:-1]}img0, {foreign.IMAGE[:-1]}img1"
    model = foreign.model_of(f"{output} = Add (img0, img1)", inputs, f"{foreign.IMAGE[:-1]}{output}")
    shape = (2, 3, size, size)
    with OrtRunner(model.SerializeToString()) as runner:
        found = runner.run({"img0": np.full(shape, 0.25, np.float32), "img1": np.ones(shape, np.float32)})[output]
    assert (found == 1.25).all()
    assert found.flags.owndata == bound


def test_sessions_made_in_several_threads_leave_standard_output_as_it_was():
    before = sys.stdout
    with ThreadPoolExecutor(8) as pool:
        for runner in pool.map(OrtRunner, [model_of()] * 64):
            runner.close()
    assert sys.stdout is before


def test_threads_do_not_spin_after_a_run():
    with OrtRunner(model_of()) as runner:
        options = runner._session.get_session_options()
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU, and this machine has one")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_without_a_gpu_the_missing_library_is_named_and_nothing_is_printed(provider, capfd):
    """On the real ONNX Runtime, which would print, and compute on the CPU."""
    with pytest.raises(UnavailableError) as caught:
        OrtRunner(model_of(), provider=provider)
    error = caught.value
    assert (error.code, error.fields["provider"]) == ("provider-not-loaded", NAMES[provider])
    assert ".so." in error.fields["reason"]
    assert error.fields["install"].startswith("pip install 'onnxruntime-gpu[cuda,cudnn]'")
    assert ("tensorrt-cu1" in error.fields["install"]) == (provider == "tensorrt")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("how", ["falls back", "RuntimeError", "ValueError"])
def test_another_provider_is_not_taken_for_the_one_asked_for(gpu, monkeypatch, capsys, provider, how):
    monkeypatch.setattr(module.ctypes, "CDLL", lambda path: None)  # its libraries can be loaded
    reason = "CUDA failure 100: no CUDA-capable device is detected"
    if how == "falls back":
        monkeypatch.setattr(Session, "loaded", [CUDA, CPU] if provider == "tensorrt" else [CPU])
        reason = "its libraries are there, but no GPU that it can use"
    else:
        monkeypatch.setattr(Session, "raises", {"RuntimeError": RuntimeError, "ValueError": ValueError}[how](reason))
    with refused("provider-not-loaded", UnavailableError, reason=reason):
        OrtRunner(model_of(), provider=provider)
    assert capsys.readouterr() == ("", "")


def test_a_model_that_onnxruntime_refuses_is_not_a_missing_gpu(gpu, monkeypatch, tmp_path):
    refusal = onnxruntime.capi.onnxruntime_pybind11_state.EPFail("TensorRT EP failed to create engine from network")
    monkeypatch.setattr(Session, "raises", refusal)
    with refused("backend-refuses-graph", GraphError):
        OrtRunner(model_of(), provider="tensorrt")
    monkeypatch.setattr(Session, "raises", None)
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07 no model")
    with refused("backend-refuses-graph", GraphError):
        OrtRunner(tmp_path / "bad.onnx")


def test_a_build_without_the_provider_is_named(gpu, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with refused("provider-not-built", UnavailableError, provider=TENSORRT):
        OrtRunner(model_of(), provider="tensorrt")
    assert Session.made == []


@pytest.mark.parametrize(
    ("name", "content", "major"),
    [
        ("libonnxruntime_providers_tensorrt.so", b"\0libnvinfer.so.11\0", "11"),
        ("onnxruntime_providers_tensorrt.dll", b"\0nvinfer_10.dll\0", "10"),
        ("other.so", b"\0libnvinfer.so.11\0", ""),
    ],
)
def test_the_version_of_tensorrt_is_the_one_that_the_build_was_made_for(tmp_path, name, content, major):
    (tmp_path / name).write_bytes(content)
    assert module._tensorrt_major(tmp_path) == major


def test_operators_on_another_provider_are_reported(gpu, monkeypatch):
    monkeypatch.setattr(Session, "assigned", {TENSORRT: ["Conv"], CUDA: ["GridSample"], CPU: ["Shape", "Gather"]})
    with OrtRunner(model_of(), provider="tensorrt") as runner:
        assert runner.provider == f"{TENSORRT}; GridSample on {CUDA}; Gather, Shape on {CPU}"
    monkeypatch.setattr(Session, "assigned", {CUDA: ["Conv"], CPU: ["Shape"]})
    with refused("provider-without-nodes", GraphError):
        OrtRunner(model_of(), provider="tensorrt")


@pytest.mark.parametrize("value", [None, "1"])
def test_tf32_is_reported_where_the_environment_does_not_forbid_it(gpu, monkeypatch, value):
    if value is None:
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    else:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    with OrtRunner(model_of(), provider="tensorrt") as tensorrt, OrtRunner(model_of(), provider="cuda") as cuda:
        assert (tensorrt.provider, cuda.provider) == (f"{TENSORRT} with TF32 allowed", CUDA)


# Memory


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_arrays_go_in_and_out_of_the_gpu(gpu, dtype):
    with OrtRunner(model_of(dtype={4: "float", 2: "float16"}[dtype().itemsize]), provider="cuda") as runner:
        first, second = feeds_of(dtype), feeds_of(dtype, rows=9, seed=1)
        output = runner.run(first)["y"]
        assert (output.dtype, output.flags.writeable) == (dtype, True)
        assert np.array_equal(runner.run(second)["y"], second["a"] + second["b"])
        assert np.array_equal(output, first["a"] + first["b"])  # still
        strided = {name: array[:, ::-1, ::2] for name, array in first.items()}
        assert np.array_equal(runner.run(strided)["y"], strided["a"] + strided["b"])
        assert runner._gpu.events == ["after the caller's stream", "the host waits"] * 3


def test_arrays_need_no_torch_with_cuda(gpu, monkeypatch):
    def missing():
        raise UnavailableError("torch finds no CUDA device here")

    monkeypatch.setattr(module, "CudaDevice", missing)
    with OrtRunner(model_of(), provider="cuda") as runner:
        assert Session.made[0].arguments["providers"][0] == (CUDA, {"device_id": "0", "use_tf32": "0"})
        assert runner.device == "cuda:0 (name not known)"
        assert np.array_equal(runner.run(feeds_of())["y"], sum(feeds_of().values()))
        with refused("no-cuda-device", UnavailableError):
            runner.run_torch(tensors_of(feeds_of()))


def test_failures_in_a_run_are_translated(gpu):
    body = "size = Constant <value_ints = [7]> () z = Reshape (b, size) w = ReduceSum <keepdims = 0> (z) y = Add (a, w)"
    with OrtRunner(model_of(body), provider="cuda") as runner:
        with refused("run-failed", RequestError):
            runner.run(feeds_of())
        with refused("run-failed", RequestError):
            runner.run_torch(tensors_of(feeds_of()))


def test_a_run_without_an_end_is_stopped(monkeypatch):
    """A loop whose condition never becomes false."""
    monkeypatch.setattr(module, "LONGEST_RUN_S", 0.3)
    body = "k = Constant <value_float = -1.0> () r = Abs (s) m = ReduceMin <keepdims = 0> (r) d = Greater (m, k)"
    text = (
        '<ir_version: 8, opset_import: ["": 18]> main (float[1,3,8,8] x) => (float[1,3,8,8] y) { '
        "n = Constant <value = int64 {9223372036854775807}> () t = Constant <value = bool {1}> () y = Loop (n, t, x) "
        f"<body = body (int64 i, bool c, float[1,3,8,8] s) => (bool d, float[1,3,8,8] r) {{ {body} }}> }}"
    )
    with OrtRunner(parser.parse_model(text).SerializeToString()) as runner:
        for _ in range(2):
            with refused("run-too-long", RequestError):
                runner.run({"x": np.ones((1, 3, 8, 8), np.float32)})


def test_tensors_are_used_where_they_are(gpu):
    with OrtRunner(model_of(), provider="tensorrt") as runner:
        Session.made[0].events = runner._gpu.events
        feeds = tensors_of(feeds_of())
        place = torch.zeros(2, 3, 4)
        address = place.data_ptr()
        outputs = runner.run_torch(feeds, {"y": place})
        assert outputs["y"] is place
        assert place.data_ptr() == address
        assert torch.equal(place, feeds["a"] + feeds["b"])
        new = runner.run_torch(feeds)["y"]
        feeds["a"].zero_()
        assert torch.equal(runner.run_torch(feeds)["y"], feeds["b"])
        assert not torch.equal(new, feeds["b"])  # of its own run
        assert runner._gpu.events == ["after the caller's stream", "run", "the caller's stream waits"] * 3


def test_every_type_is_bound_as_what_it_is(gpu):
    for name, dtype in (("float", torch.float32), ("double", torch.float64), ("int64", torch.int64)):
        with OrtRunner(model_of(dtype=name), provider="cuda") as runner:
            feeds = {key: (tensor * 100).to(dtype) for key, tensor in tensors_of(feeds_of()).items()}
            assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"] + feeds["b"])
    with OrtRunner(model_of("y = And (a, b)", "bool"), provider="cuda") as runner:
        feeds = {key: tensor > 0 for key, tensor in tensors_of(feeds_of()).items()}
        assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"] & feeds["b"])
    with OrtRunner(model_of("y = Identity (a) unused = Identity (b)", "bfloat16"), provider="cuda") as runner:
        feeds = {key: tensor.bfloat16() for key, tensor in tensors_of(feeds_of()).items()}
        assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"])


def test_tensors_are_checked(gpu):
    feeds = tensors_of(feeds_of())
    strided = torch.zeros(2, 4, 3).transpose(1, 2)
    with OrtRunner(model_of(), provider="cuda") as runner:
        for given, outputs, code in (
            ({"a": feeds["a"]}, None, "feed-names"),
            (feeds | {"a": feeds["a"].double()}, None, "feed-type"),
            (feeds | {"b": torch.zeros(2, 3, 5)}, None, "feed-shape"),
            (feeds | {"a": feeds["a"].to("meta")}, None, "bad-tensor"),
            (feeds | {"a": strided}, None, "bad-tensor"),
            (feeds, {"z": torch.zeros(2, 3, 4)}, "bad-tensor"),
            (feeds, {"y": torch.zeros(2, 3, 5)}, "bad-tensor"),
            (feeds, {"y": torch.zeros(2, 3, 4).half()}, "bad-tensor"),
            (feeds, {"y": torch.zeros(2, 3, 4, device="meta")}, "bad-tensor"),
            (feeds, {"y": strided}, "bad-tensor"),
        ):
            with refused(code, RequestError):
                runner.run_torch(given, outputs)
        assert runner._gpu.events == []


def test_an_output_whose_size_the_file_does_not_tell_has_no_memory(gpu):
    body = "y = NonZero (a) unused = Add (a, b)"
    with OrtRunner(model_of(body, "int64", out='3, "found"'), provider="cuda") as runner:
        feeds = {name: array.round().astype(np.int64) for name, array in feeds_of().items()}
        assert np.array_equal(runner.run(feeds)["y"], np.nonzero(feeds["a"]))
        with refused("output-shape-unknown", RequestError):
            runner.run_torch(tensors_of(feeds))


def test_the_five_graphs_have_known_output_sizes_and_a_stride(gpu, exports):
    """Outputs of Contextnet have half the size and less, which no name of a dimension says."""
    path = exports.fp32("contextnet")
    generator = np.random.default_rng(0)
    shapes = {info.name: (1, info.shape[1], 32, 64) for info in OrtRunner(path).inputs}
    feeds = {name: generator.uniform(size=shape).astype(np.float32) for name, shape in shapes.items()}
    with OrtRunner(path, provider="tensorrt") as bound, OrtRunner(path) as plain:
        expected = plain.run(feeds)
        given = bound.run_torch(tensors_of(feeds))
        assert list(given) == list(expected) == ["f1", "f2", "f3", "f4"]
        for name, array in expected.items():
            assert np.array_equal(given[name].numpy(), array), name
        odd = {name: torch.zeros(1, array.shape[1], 32, 40) for name, array in feeds.items()}
        with refused("feed-size", RequestError, multiple_of=32):
            bound.run_torch(odd)
