"""ONNX Runtime on a GPU: what is asked of it, what it may not fall back to, and tensors bound without a copy.

No GPU is here: ONNX Runtime's CPU provider computes what a GPU would, behind a session that says otherwise, and host
memory stands in for the GPU's. What ONNX Runtime does on a machine without a GPU is the real one's.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from onnx.parser import parse_model

from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.export import ExportOptions, onnx_from_network
from refine_export.runners import ort as runner_module
from refine_export.runners import ort_session
from refine_export.runners.ort import OrtRunner
from refine_export.runners.trt_device import CudaDevice

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
NAMES = {"cuda": CUDA, "tensorrt": TENSORRT}


class HostDevice(CudaDevice):
    """Host memory in place of the GPU's, and a note of each wait."""

    def __init__(self) -> None:
        self._torch = torch
        self.device = torch.device("cpu")
        self.stream, self.name = 7, "a host that stands in for a GPU"
        self.events: list[str] = []

    @contextmanager
    def work(self, *, wait):
        self.events.append("after the caller's stream")
        yield
        self.events.append("the host waits" if wait else "the caller's stream waits")


class Session(onnxruntime.InferenceSession):
    """The real session on the CPU, which says that it is on the provider it was asked for."""

    made: ClassVar[list[Session]] = []
    loaded: ClassVar[list[str] | None] = None
    raises: ClassVar[Exception | None] = None
    assigned: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, source, options, **arguments):
        sys.stdout.write("*************** EP Error ***************\n")  # as the real one does
        if self.raises is not None:
            raise self.raises
        self.options, self.arguments, self.events = options, arguments, []
        super().__init__(source, options, providers=[CPU])
        Session.made.append(self)

    def get_providers(self):
        return self.loaded or [one if isinstance(one, str) else one[0] for one in self.arguments["providers"]]

    def get_provider_graph_assignment_info(self):
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda nodes=nodes: [SimpleNamespace(op_type=n) for n in nodes])
            for name, nodes in self.assigned.items()
        ]

    def io_binding(self):
        binding = super().io_binding()

        def noted(name, real):
            return lambda: (self.events.append(name), real())

        for name in ("synchronize_inputs", "synchronize_outputs"):
            setattr(binding, name, noted(name, getattr(binding, name)))
        return binding

    def run_with_iobinding(self, *arguments):
        self.events.append("run")
        return super().run_with_iobinding(*arguments)


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose GPU is the host; `Session` keeps what was asked for."""
    for name, value in {"made": [], "loaded": None, "raises": None, "assigned": {}}.items():
        monkeypatch.setattr(Session, name, value)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load libcublas.so.13\n"))
    monkeypatch.setattr(runner_module, "CudaDevice", HostDevice)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")


def model_of(body="y = Add (a, b)", dtype="float", size='"N", 3, "H"', out=None):
    return parse_model(
        f"""
        <ir_version: 9, opset_import: ["" : 18]>
        sums ({dtype}[{size}] a, {dtype}[{size}] b) => ({dtype}[{out or size}] y) {{ {body} }}
        """
    ).SerializeToString()


def feeds_of(dtype=np.float32, rows=4, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal((2, 3, rows)).astype(dtype) for name in ("b", "a")}


def tensors_of(feeds):
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


# ------------------------------------------------------------------------------------------- what is asked for


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
    """Where the system's loader does not look: `import tensorrt` and `preload_dlls` load them by their path."""
    seen = []
    monkeypatch.setattr(ort_session, "installed", seen.append)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: seen.append("CUDA"))
    monkeypatch.setattr(Session, "raises", ValueError("too late"))
    with pytest.raises((UnavailableError, GraphError)):
        OrtRunner(model_of(), provider=provider)
    assert seen == packages


def test_the_cpu_is_asked_for_nothing_of_this(gpu):
    with OrtRunner(model_of()) as runner:
        (session,) = Session.made
        assert session.arguments == {"providers": [CPU], "enable_fallback": 0}
        assert runner._run_options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"
        assert np.array_equal(runner.run(feeds_of())["y"], sum(feeds_of().values()))
        assert session.events == []
        with pytest.raises(RequestError, match=r"on the CPU; use run, or .* provider='cuda' or 'tensorrt'"):
            runner.run_torch(tensors_of(feeds_of()))


# ------------------------------------------------------------------------------------------- what is no GPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU, and this machine has one")
@pytest.mark.parametrize(
    ("provider", "needs"),
    [
        ("cuda", r"CUDA 1\d and cuDNN 9: pip install 'onnxruntime-gpu\[cuda,cudnn\]'$"),
        ("tensorrt", r"CUDA 1\d, cuDNN 9 and TensorRT 10: pip install .* 'tensorrt-cu1\d==10\.\*'$"),
    ],
)
def test_without_a_gpu_the_missing_library_is_named_and_nothing_is_printed(provider, needs, capfd):
    """On the real ONNX Runtime: it would print, and compute on the CPU."""
    with pytest.raises(UnavailableError, match=rf"asked for {NAMES[provider]}, .*lib\w+\.so\.\d+: .*{needs}") as raised:
        OrtRunner(model_of(), provider=provider)
    assert raised.value.exit_code == 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("how", ["falls back", "RuntimeError", "ValueError"])
def test_another_provider_than_the_one_asked_for_is_none(gpu, monkeypatch, capsys, provider, how):
    monkeypatch.setattr(ort_session.ctypes, "CDLL", lambda path: None)  # its libraries can be loaded
    reason = "CUDA failure 100: no CUDA-capable device is detected"
    if how == "falls back":
        monkeypatch.setattr(Session, "loaded", [CUDA, CPU] if provider == "tensorrt" else [CPU])
        reason = "its libraries are there, but no GPU that it can use"
    else:
        monkeypatch.setattr(Session, "raises", {"RuntimeError": RuntimeError, "ValueError": ValueError}[how](reason))
    with pytest.raises(UnavailableError, match=f"asked for {NAMES[provider]}, .* can't load it: {reason}; expected an"):
        OrtRunner(model_of(), provider=provider)
    assert capsys.readouterr() == ("", "")


def test_a_model_that_onnxruntime_refuses_is_no_missing_gpu(gpu, monkeypatch):
    refusal = onnxruntime.capi.onnxruntime_pybind11_state.EPFail("TensorRT EP failed to create engine from network")
    monkeypatch.setattr(Session, "raises", refusal)
    with pytest.raises(GraphError, match="can't load the model: TensorRT EP failed to create engine"):
        OrtRunner(model_of(), provider="tensorrt")
    monkeypatch.setattr(Session, "raises", RuntimeError("no provider's"))
    with pytest.raises(GraphError, match="can't load the model: no provider's"):
        OrtRunner(model_of())


def test_a_build_without_the_provider_is_named(gpu, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(UnavailableError, match=f"built without {TENSORRT}; .*onnxruntime && pip install 'onnxruntime-"):
        OrtRunner(model_of(), provider="tensorrt")
    assert Session.made == []


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("libonnxruntime_providers_tensorrt.so", b"\0libnvinfer.so.11\0", "'tensorrt-cu12==11.*'"),
        ("onnxruntime_providers_tensorrt.dll", b"\0nvinfer_10.dll\0", "'tensorrt-cu12==10.*'"),
        ("other.so", b"\0libnvinfer.so.11\0", "'tensorrt-cu12'"),
    ],
)
def test_the_command_has_the_versions_that_the_build_was_made_for(tmp_path, name, content, command):
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / name).write_bytes(content)
    ort = SimpleNamespace(
        __file__=str(tmp_path / "__init__.py"), cuda_version="12.8", get_available_providers=lambda: [TENSORRT]
    )
    assert ort_session.command_for(ort, "tensorrt") == f"pip install 'onnxruntime-gpu[cuda,cudnn]' {command}"


# ------------------------------------------------------------------------------------------- what computes what


def test_operators_on_another_provider_are_told(gpu, monkeypatch):
    monkeypatch.setattr(Session, "assigned", {TENSORRT: ["Conv"], CUDA: ["GridSample"], CPU: ["Shape", "Gather"]})
    with OrtRunner(model_of(), provider="tensorrt") as runner:
        assert runner.provider == f"{TENSORRT}; GridSample on {CUDA}; Gather, Shape on {CPU}"


def test_a_provider_with_no_part_in_the_graph_is_refused(gpu, monkeypatch):
    monkeypatch.setattr(Session, "assigned", {CUDA: ["Conv"], CPU: ["Shape"]})
    with pytest.raises(GraphError, match=f"gives no node of this graph to {TENSORRT}, all to {CUDA}, {CPU}"):
        OrtRunner(model_of(), provider="tensorrt")
    with OrtRunner(model_of(), provider="cuda") as runner:
        assert runner.provider == f"{CUDA}; Shape on {CPU}"


def test_an_onnxruntime_that_can_not_tell_is_believed(gpu, monkeypatch):
    monkeypatch.delattr(Session, "get_provider_graph_assignment_info")
    monkeypatch.delattr(Session.__mro__[2], "get_provider_graph_assignment_info")
    with OrtRunner(model_of(), provider="cuda") as runner:
        assert runner.provider == CUDA


@pytest.mark.parametrize("value", [None, "1"])
def test_tf32_is_told_where_the_environment_does_not_forbid_it(gpu, monkeypatch, value):
    if value is None:
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    else:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    with OrtRunner(model_of(), provider="tensorrt") as tensorrt, OrtRunner(model_of(), provider="cuda") as cuda:
        assert (tensorrt.provider, cuda.provider) == (f"{TENSORRT} with TF32 allowed", CUDA)


# ------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_arrays_go_in_and_out_through_bound_memory(gpu, provider, dtype):
    with OrtRunner(model_of(dtype={4: "float", 2: "float16"}[dtype().itemsize]), provider=provider) as runner:
        first, second = feeds_of(dtype), feeds_of(dtype, rows=9, seed=1)
        output = runner.run(first)["y"]
        assert (output.dtype, output.flags.writeable) == (dtype, True)
        assert np.array_equal(runner.run(second)["y"], second["a"] + second["b"])
        assert np.array_equal(output, first["a"] + first["b"])  # still
        strided = {name: array[:, ::-1, ::2] for name, array in first.items()}
        assert np.array_equal(runner.run(strided)["y"], strided["a"] + strided["b"])
        assert Session.made[0].events == ["synchronize_inputs", "run", "synchronize_outputs"] * 3
        assert runner._gpu.events == ["after the caller's stream", "the host waits"] * 3


def test_arrays_need_no_torch_with_cuda(gpu, monkeypatch):
    def missing():
        raise UnavailableError("torch finds no CUDA device here")

    monkeypatch.setattr(runner_module, "CudaDevice", missing)
    with OrtRunner(model_of(), provider="cuda") as runner:
        assert Session.made[0].arguments["providers"][0] == (CUDA, {"device_id": "0", "use_tf32": "0"})
        assert runner.device == "cuda:0 (name not known)"
        assert runner._place == ("cuda", 0)
        runner._place = ("cpu", 0)
        assert np.array_equal(runner.run(feeds_of())["y"], sum(feeds_of().values()))
        with pytest.raises(UnavailableError, match="a torch that finds a CUDA device: https://pytorch.org"):
            runner.run_torch(tensors_of(feeds_of()))


def test_what_fails_in_a_run_is_told(gpu):
    body = "size = Constant <value_ints = [7]> () z = Reshape (b, size) w = ReduceSum <keepdims = 0> (z) y = Add (a, w)"
    with OrtRunner(model_of(body), provider="cuda") as runner:
        with pytest.raises(RequestError, match=r"onnxruntime \S+ failed while it ran the graph: .*Reshape"):
            runner.run(feeds_of())
        with pytest.raises(RequestError, match=r"onnxruntime \S+ failed while it ran the graph: .*Reshape"):
            runner.run_torch(tensors_of(feeds_of()))


def test_bfloat16_has_no_array(gpu):
    with OrtRunner(model_of("y = Identity (a) unused = Identity (b)", "bfloat16"), provider="cuda") as runner:
        with pytest.raises(RequestError, match="a is bfloat16, which numpy has not; use run_torch"):
            runner.run({name: SimpleNamespace(shape=(2, 3, 4), dtype="bfloat16") for name in ("a", "b")})
        feeds = {name: tensor.bfloat16() for name, tensor in tensors_of(feeds_of()).items()}
        assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"])


# ------------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_tensors_are_used_where_they_are(gpu, provider):
    with OrtRunner(model_of(), provider=provider) as runner:
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
        assert runner._gpu.events == ["after the caller's stream", "the caller's stream waits"] * 3


def test_the_run_lies_between_the_streams_waits(gpu):
    with OrtRunner(model_of(), provider="cuda") as runner:
        Session.made[0].events = runner._gpu.events
        runner.run_torch(tensors_of(feeds_of()))
        assert runner._gpu.events == ["after the caller's stream", "run", "the caller's stream waits"]


def test_every_type_is_bound_as_what_it_is(gpu):
    for name, dtype in (("float", torch.float32), ("double", torch.float64), ("int64", torch.int64)):
        with OrtRunner(model_of(dtype=name), provider="cuda") as runner:
            feeds = {key: (tensor * 100).to(dtype) for key, tensor in tensors_of(feeds_of()).items()}
            assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"] + feeds["b"])
    with OrtRunner(model_of("y = And (a, b)", "bool"), provider="cuda") as runner:
        feeds = {key: tensor > 0 for key, tensor in tensors_of(feeds_of()).items()}
        assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"] & feeds["b"])


def test_tensors_are_checked(gpu):
    feeds = tensors_of(feeds_of())
    with OrtRunner(model_of(), provider="cuda") as runner:
        with pytest.raises(RequestError, match=r"feeds are named \['a'\]; this graph takes \['a', 'b'\]"):
            runner.run_torch({"a": feeds["a"]})
        with pytest.raises(RequestError, match="the feed a is float64 .*; expected float32"):
            runner.run_torch(feeds | {"a": feeds["a"].double()})
        with pytest.raises(RequestError, match=r"the feed b .*\[2, 3, 5\]; expected .* with \{'N': 2, 'H': 4\}"):
            runner.run_torch(feeds | {"b": torch.zeros(2, 3, 5)})
        with pytest.raises(RequestError, match=r"a is on meta; expected cpu: use \.to"):
            runner.run_torch(feeds | {"a": feeds["a"].to("meta")})
        with pytest.raises(RequestError, match=r"a has strides \(12, 1, 3\); expected \.contiguous\(\)"):
            runner.run_torch(feeds | {"a": torch.zeros(2, 4, 3).transpose(1, 2)})
        with pytest.raises(RequestError, match=r"outputs are named \['z'\]; this graph has \['y'\]"):
            runner.run_torch(feeds, {"z": torch.zeros(2, 3, 4)})
        with pytest.raises(RequestError, match=r"the output y is float32 \[2, 3, 5\]; expected float32 \[2, 3, 4\]"):
            runner.run_torch(feeds, {"y": torch.zeros(2, 3, 5)})
        with pytest.raises(RequestError, match=r"the output y is float16 .*; expected float32"):
            runner.run_torch(feeds, {"y": torch.zeros(2, 3, 4).half()})
        with pytest.raises(RequestError, match="y is on meta; expected cpu"):
            runner.run_torch(feeds, {"y": torch.zeros(2, 3, 4, device="meta")})
        with pytest.raises(RequestError, match="y has strides"):
            runner.run_torch(feeds, {"y": torch.zeros(2, 4, 3).transpose(1, 2)})
    assert Session.made[0].events == []


def test_an_output_whose_size_the_file_does_not_tell_has_no_place(gpu):
    with OrtRunner(
        model_of("y = NonZero (a) unused = Add (a, b)", "int64", out='3, "found"'), provider="cuda"
    ) as runner:
        feeds = {name: array.round().astype(np.int64) for name, array in feeds_of().items()}
        assert np.array_equal(runner.run(feeds)["y"], np.nonzero(feeds["a"]))
        with pytest.raises(RequestError, match=r"does not tell \['found'\] of the output y before it runs: use run"):
            runner.run_torch(tensors_of(feeds))


def test_the_five_graphs_tell_their_sizes_and_keep_their_stride(gpu, references, tmp_path):
    """Outputs of Contextnet are of half the size and less, which no name of a dimension says."""
    model = onnx_from_network(references("IFNet"), "contextnet", ExportOptions(dynamic=True))
    path = Path(tmp_path / "contextnet.onnx")
    path.write_bytes(model.SerializeToString())
    generator = np.random.default_rng(0)
    feeds = {
        name: generator.uniform(size=(1, channels, 32, 64)).astype(np.float32)
        for name, channels in {"image": 3, "flow": 2}.items()
    }
    with OrtRunner(path, provider="tensorrt") as bound, OrtRunner(path) as plain:
        expected = plain.run(feeds)
        given = bound.run_torch(tensors_of(feeds))
        assert list(given) == list(expected) == ["f1", "f2", "f3", "f4"]
        for name, array in expected.items():
            assert np.array_equal(given[name].numpy(), array), name
        odd = {name: torch.zeros(1, array.shape[1], 32, 40) for name, array in feeds.items()}
        with pytest.raises(RequestError, match="32x40; contextnet takes multiples of 32: pad the frames"):
            bound.run_torch(odd)
