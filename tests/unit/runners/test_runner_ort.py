"""ONNX Runtime on a GPU: what is asked of it, what it may not fall back to, and what computes what.

No GPU is here: ONNX Runtime's CPU provider computes what a GPU would, behind a session that says otherwise, and host
memory stands in for the GPU's. What ONNX Runtime does on a machine without a GPU is the real one's.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch

from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.runners import ort_session
from refine_export.runners.onnxruntime import OrtRunner
from tests.support.host_ort import CPU, CUDA, TENSORRT, Session, feeds_of, gpu_fixture, model_of, tensors_of  # noqa: F401 (fixtures)

NAMES = {"cuda": CUDA, "tensorrt": TENSORRT}

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
