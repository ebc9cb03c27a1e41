"""A session of ONNX Runtime on the provider that was asked for, or the reason why there is none.

Checked for onnxruntime-gpu 1.22 to 1.31: the Python layer in the wheels, the options in the providers' sources.

- What Python calls fallback (another provider, and a message on standard output) is off, and what loaded is looked at:
  a CUDA provider that can't be loaded is replaced by the CPU with no more than a log line.
- `session.disable_cpu_ep_fallback` stays off. It refuses a session as soon as one node is on the CPU, and CUDA's
  provider puts Shape and what follows from it there on purpose, so no file of free sizes would load. Instead
  `provider_in_words` tells which operators another provider computes, and refuses a file that the one asked for has
  no part in.
- TensorRT's provider builds strongly typed engines as long as no option asks for FP16, BF16 or INT8. Options that are
  given also keep the `ORT_TENSORRT_...` variables of the environment from mattering. It has no option for TF32
  (onnxruntime#26029): the process has to be started with NVIDIA_TF32_OVERRIDE=0.
"""

from __future__ import annotations

import ctypes
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refine_export.errors import GraphError, UnavailableError
from refine_export.support.imports import installed

if TYPE_CHECKING:
    from refine_export.runners.cuda import CudaDevice

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: Mapping[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_OFF_IN_TENSORRT = ("trt_fp16_enable", "trt_int8_enable", "trt_engine_cache_enable", "trt_timing_cache_enable")
_RECORD = "session.record_ep_graph_assignment_info"  # from 1.24 on; older versions take it and do nothing


def session_from_model(
    ort: Any, model: Path | bytes, provider: Provider, *, optimize: bool, gpu: CudaDevice | None
) -> Any:
    """An `onnxruntime.InferenceSession` whose first provider is the one asked for.

    Args:
        gpu: where to run and on which stream; without, the first GPU and a stream of ONNX Runtime's own.

    Raises:
        UnavailableError: the provider is missing or can't be loaded.
        GraphError: ONNX Runtime refuses the model.
    """
    wanted = PROVIDERS[provider]
    if wanted not in ort.get_available_providers():
        raise UnavailableError(
            f"onnxruntime {ort.__version__} was built without {wanted}; install one that has it: "
            f"{command_for(ort, provider)}"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions, what loaded is looked at below
    options.enable_mem_pattern = False  # a pattern keeps a second copy of the activations
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if provider != "cpu":
        options.add_session_config_entry(_RECORD, "1")
    source = str(model) if isinstance(model, Path) else model
    try:
        with quiet_loading(ort):
            if provider != "cpu":
                _load_libraries(ort, provider)
            session = ort.InferenceSession(source, options, providers=_with_options(provider, gpu), enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no base class but this one
        if provider != "cpu" and isinstance(error, RuntimeError | ValueError):  # as its Python layer tells providers'
            raise _not_loaded(ort, provider, error) from error
        name = model if isinstance(model, Path) else "the model"
        raise GraphError(f"onnxruntime {ort.__version__} can't load {name}: {error}") from error
    if session.get_providers()[0] != wanted:
        raise _not_loaded(ort, provider)
    session.disable_fallback()  # of later runs; 1.22 and 1.23 do not know the argument above
    return session


def provider_in_words(ort: Any, session: Any, provider: Provider) -> str:
    """What computes: the provider's name, whether it may use TF32, and what another one computes (from 1.24 on).

    Raises:
        GraphError: another one computes all of it.
    """
    wanted = PROVIDERS[provider]
    if provider == "cpu":
        return wanted
    tf32 = provider == "tensorrt" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
    said = wanted + (" with TF32 allowed" if tf32 else "")
    operators: dict[str, set[str]] = {}
    if hasattr(session, "get_provider_graph_assignment_info"):
        for part in session.get_provider_graph_assignment_info():
            operators.setdefault(part.ep_name, set()).update(node.op_type for node in part.get_nodes())
    if operators and wanted not in operators:
        raise GraphError(
            f"onnxruntime {ort.__version__} gives no node of this graph to {wanted}, all to {', '.join(operators)}; "
            "expected a graph that it can compute a part of: look at the file with refine-export lint"
        )
    elsewhere = [f"{', '.join(sorted(names))} on {name}" for name, names in operators.items() if name != wanted]
    return "; ".join([said, *elsewhere])


def why_not_loaded(ort: Any, provider: Provider, error: BaseException | None = None) -> str:
    """What keeps a provider from loading, by the loader of the system: ONNX Runtime tells it to its log only."""
    prefix, suffix = ("", ".dll") if sys.platform == "win32" else ("lib", ".so")
    try:
        ctypes.CDLL(str(_libraries(ort) / f"{prefix}onnxruntime_providers_{provider}{suffix}"))
    except OSError as reason:
        return str(reason)
    return str(error).strip() if error else "its libraries are there, but no GPU that it can use"


def command_for(ort: Any, provider: Provider) -> str:
    """The pip command that installs what a provider needs besides a GPU and its driver."""
    if PROVIDERS[provider] not in ort.get_available_providers():
        return "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
    command = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    if provider != "tensorrt":
        return command
    major = _tensorrt_major(ort)
    return f"{command} 'tensorrt-cu{_cuda_major(ort)}{f'=={major}.*' if major else ''}'"


@contextmanager
def quiet_loading(ort: Any) -> Iterator[None]:
    """Without the lines that ONNX Runtime itself prints when a provider's library is missing."""
    ort.set_default_logger_severity(4)
    try:
        with redirect_stdout(io.StringIO()):  # its Python layer has no log
            yield
    finally:
        ort.set_default_logger_severity(2)  # ONNX Runtime's own default; it can't be asked for the one before


def _with_options(provider: Provider, gpu: CudaDevice | None) -> list[Any]:
    """The providers in order, each taking what those before it can't compute."""
    if provider == "cpu":
        return [PROVIDERS["cpu"]]
    place = {"device_id": "0"}
    if gpu is not None:
        place = {"device_id": str(gpu.device.index or 0), "user_compute_stream": str(gpu.stream)}
    # TF32 is on by default: an FP32 comparison on a GPU would not be one.
    providers: list[Any] = [(PROVIDERS["cuda"], place | {"use_tf32": "0"}), PROVIDERS["cpu"]]
    if provider == "tensorrt":
        providers.insert(0, (PROVIDERS["tensorrt"], place | dict.fromkeys(_OFF_IN_TENSORRT, "False")))
    return providers


def _load_libraries(ort: Any, provider: Provider) -> None:
    """Load what lies in Python packages, where the system does not look for it."""
    if provider == "tensorrt":
        installed("tensorrt")  # its import loads libnvinfer and libnvonnxparser
    ort.preload_dlls()  # CUDA and cuDNN


def _not_loaded(ort: Any, provider: Provider, error: BaseException | None = None) -> UnavailableError:
    needs = ["an NVIDIA GPU with its driver", f"CUDA {_cuda_major(ort)}", "cuDNN 9"]
    if provider == "tensorrt":
        needs.append(f"TensorRT {_tensorrt_major(ort)}".strip())
    return UnavailableError(
        f"asked for {PROVIDERS[provider]}, onnxruntime {ort.__version__} can't load it: "
        f"{why_not_loaded(ort, provider, error)}; expected {', '.join(needs[:-1])} and {needs[-1]}: "
        f"{command_for(ort, provider)}"
    )


def _libraries(ort: Any) -> Path:
    return Path(ort.__file__).parent / "capi"


def _cuda_major(ort: Any) -> str:
    """Of the CUDA that this build is for, such as `13`."""
    return str(getattr(ort, "cuda_version", "")).partition(".")[0]


def _tensorrt_major(ort: Any) -> str:
    """Of the TensorRT that this build is linked against, such as `10`; empty where that is not found."""
    for file in _libraries(ort).glob("*onnxruntime_providers_tensorrt.*"):
        if found := re.search(rb"nvinfer(?:\.so\.|_)(\d+)", file.read_bytes()):
            return found[1].decode()
    return ""
