"""ONNX Runtime, on the provider that was asked for or not at all.

Checked for onnxruntime-gpu 1.22 to 1.31, against the Python layer in the wheels and the providers' sources:

- What Python calls fallback (another provider, and a message on standard output) is off, and the provider that loaded
  is checked: one that cannot be loaded is replaced by the CPU with no more than a log line.
- `session.disable_cpu_ep_fallback` stays off. It refuses a session as soon as one node is on the CPU, and CUDA's
  provider puts Shape and what follows from it there on purpose, so no file of free sizes would load. Instead
  `_description` names the operators that another provider computes, and refuses a file that the wanted one has no
  part in.
- TensorRT's provider builds strongly typed engines as long as no option asks for FP16, BF16 or INT8. Options that are
  given also keep the `ORT_TENSORRT_...` variables of the environment from mattering. It has no option for TF32
  (onnxruntime#26029): the process has to be started with NVIDIA_TF32_OVERRIDE=0.
- A session with `user_compute_stream` puts all its kernels on that stream. Before a run ONNX Runtime waits for nothing,
  so whoever fills an input has to be ordered before that stream. At the end of a run the host waits for the stream;
  that could be turned off, but nodes on the CPU would then release host memory that copies may still be reading
  (onnxruntime#28539, #19229, #32673).
"""

from __future__ import annotations

import ctypes
import io
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.runners import rtx_provider
from refine_export.runners.base import Arrays, Runner, check_sizes
from refine_export.runners.cuda_device import CudaDevice, array_like, check_outputs, check_tensors
from refine_export.signature import TensorInfo, signature_from_names
from refine_export.support.environment import gpu_name
from refine_export.support.imports import import_if_installed, require

if TYPE_CHECKING:  # torch is optional, and only `run_torch` takes its tensors
    import torch

    from refine_export.runners.cuda_device import Tensors

Provider = Literal["cpu", "cuda", "tensorrt", "rtx"]

PROVIDERS: Mapping[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rtx": rtx_provider.NAME,
}
LONGEST_RUN_S = 1800
"""Seconds after which a run is stopped: a loop in a stranger's file may have no end. 4K takes two minutes in FP32."""
_LOADING = threading.Lock()
"""Held while a session is made: what that does to standard output is for the whole process."""
_OFF_IN_TENSORRT = ("trt_fp16_enable", "trt_int8_enable", "trt_engine_cache_enable", "trt_timing_cache_enable")


class OrtRunner(Runner):
    """An ONNX file in ONNX Runtime, on the CPU or the current CUDA device; for one thread at a time.

    Asked for a GPU that cannot be used, ONNX Runtime falls back to the CPU with no more than a log line; here that is
    an error, so that no result of a CPU is taken for a GPU's. `provider` names what another provider computes.

    TensorRT builds an engine when a file of one size is loaded, and for one of free sizes in the first run, and again
    in each run at a size outside of those before. Nothing of it is kept on disk.

    Args:
        model: path of the file (external data lies beside it), or the serialized model.
        provider: `cpu`; `cuda`; `tensorrt`, with CUDA for what TensorRT cannot compute; or `rtx`, TensorRT for RTX. The
            CPU takes what is left.
        optimize: let ONNX Runtime rewrite the graph; otherwise it runs the file node by node.
        threads: that compute on the CPU. Defaults to one for each core.

    Raises:
        UnavailableError: ONNX Runtime or the provider is missing; the fields `reason` and `install` say why, and what
            adds it.
        GraphError: ONNX Runtime refuses the file, or the provider has no part in it.
    """

    backend = "onnxruntime"

    def __init__(
        self, model: Path | bytes, *, provider: Provider = "cpu", optimize: bool = True, threads: int | None = None
    ) -> None:
        ort = require("onnxruntime", extra="ort")
        self._gpu = None if provider == "cpu" else _torch_device()
        self._session = _session(ort, model, provider, optimize=optimize, gpu=self._gpu, threads=threads)
        self._run_options = ort.RunOptions()
        if provider == "cpu":
            # Activations of 1088 x 1920 are over 1 GiB: they go back to the system after each run.
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.version = ort.__version__
        self.provider = _description(ort, self._session, provider)
        if provider == "cpu":
            self.device = "cpu"
        else:
            self.device = self._gpu.name if self._gpu else f"cuda:0 ({gpu_name() or 'name not known'})"
        self.inputs = tuple(_info(value) for value in self._session.get_inputs())
        self.outputs = tuple(_info(value) for value in self._session.get_outputs())

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        outputs = self._new_outputs(feeds) if self.device == "cpu" else None
        timer = threading.Timer(LONGEST_RUN_S, setattr, (self._run_options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            with self._gpu.work(wait=True) if self._gpu else nullcontext():
                if outputs is None:
                    names = [info.name for info in self.outputs]
                    return dict(zip(names, self._session.run(names, dict(feeds), self._run_options), strict=True))
                binding = self._session.io_binding()
                for name, array in feeds.items():
                    binding.bind_cpu_input(name, array)
                for name, array in outputs.items():
                    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
                self._session.run_with_iobinding(binding, self._run_options)
                return outputs
        except Exception as error:  # onnxruntime's own exceptions share no base class but this one
            if self._run_options.terminate:
                self._run_options.terminate = False
                raise RequestError(
                    f"onnxruntime {self.version} was stopped after {LONGEST_RUN_S} s; expected a graph whose loops "
                    "end: export it again, or take a smaller size",
                    code="run-too-long",
                ) from error
            raise self._failed(error) from error
        finally:
            timer.cancel()

    def _new_outputs(self, feeds: Arrays) -> dict[str, NDArray[Any]] | None:
        """Make arrays for the outputs of one of our graphs, outside of ONNX Runtime's arena.

        An output of 25 MiB in the arena would keep a piece of up to 256 MiB from the system.

        Returns:
            None for other files: their shapes may be misdeclared, and an output that is an input too is not written.
        """
        signature = signature_from_names([info.name for info in self.inputs], [info.name for info in self.outputs])
        if signature is None or any(info.dtype not in ("float32", "float16") for info in self.outputs):
            return None
        try:
            shapes = _output_shapes(self.inputs, self.outputs, {name: array.shape for name, array in feeds.items()})
        except RequestError:  # a file of the same names that takes other sizes
            return None
        return {info.name: np.empty(shapes[info.name], info.dtype) for info in self.outputs}

    def run_torch(self, feeds: Tensors, outputs: Tensors | None = None) -> dict[str, torch.Tensor]:
        """Compute the outputs from and into memory of the GPU, without a copy.

        The graph starts after what torch's current stream was given before. When this returns, the outputs are there:
        unlike the TensorRT runner's, the host waits for them (see the top of this module).

        Args:
            feeds: one contiguous tensor per input, of its type and shape, on the runner's device.
            outputs: tensors to write the outputs to, likewise. Defaults to new tensors.

        Returns:
            One tensor per output; those of `outputs` where given.

        Raises:
            RequestError: as `run`; or a tensor is on another device or not contiguous, or is not one of the outputs.
            UnavailableError: torch finds no CUDA device.
        """
        if self.device == "cpu":
            raise RequestError(
                "this runner is on the CPU; use run, or make one with provider='cuda' or 'tensorrt'", code="not-on-gpu"
            )
        if self._gpu is None:
            raise UnavailableError(
                "run_torch needs a torch that finds a CUDA device: https://pytorch.org/get-started; run needs none",
                code="no-cuda-device",
            )
        check_tensors(feeds, self._gpu.device)
        self._check({name: array_like(tensor) for name, tensor in feeds.items()})
        shapes = _output_shapes(self.inputs, self.outputs, {name: tuple(one.shape) for name, one in feeds.items()})
        if outputs is not None:
            check_tensors(outputs, self._gpu.device)
            check_outputs(outputs, self.outputs, shapes)
        with self._gpu.work(wait=False):
            if outputs is None:
                outputs = {info.name: self._gpu.empty(shapes[info.name], info.dtype) for info in self.outputs}
            place = self._gpu.device.type, self._gpu.device.index or 0
            try:
                binding = self._session.io_binding()
                for bind, tensors in ((binding.bind_input, feeds), (binding.bind_output, outputs)):
                    for name, tensor in tensors.items():
                        bind(name, *place, _element_type(tensor), tuple(tensor.shape), tensor.data_ptr())
                self._session.run_with_iobinding(binding, self._run_options)
            except Exception as error:  # as in `_run`
                raise self._failed(error) from error
        return dict(outputs)

    def close(self) -> None:
        """Release the session."""
        del self._session

    def _failed(self, error: Exception) -> RequestError:
        return RequestError(f"onnxruntime {self.version} failed while it ran the graph: {error}", code="run-failed")


def _session(
    ort: Any,
    model: Path | bytes,
    provider: Provider,
    *,
    optimize: bool,
    gpu: CudaDevice | None,
    threads: int | None,
) -> Any:
    """Make an `onnxruntime.InferenceSession` whose first provider is the one asked for.

    Args:
        gpu: device and stream to run on. Defaults to the first GPU and a stream of ONNX Runtime's own.
    """
    wanted = PROVIDERS[provider]
    if provider != "rtx" and wanted not in ort.get_available_providers():  # a plugin is registered later
        install = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
        raise UnavailableError(
            f"onnxruntime {ort.__version__} was built without {wanted}; install one that has it: {install}",
            code="provider-not-built",
            provider=wanted,
            reason="it was built without it",
            install=install,
        )
    options = _session_options(ort, provider, optimize=optimize, threads=threads)
    source = str(model) if isinstance(model, Path) else model
    if provider == "rtx":
        place = () if gpu is None else (gpu.device.index or 0, gpu.stream)
        rtx_provider.add_provider(ort, options, *place)
    try:
        with _without_output(ort):
            if provider != "cpu":
                # Libraries in Python packages are not where the system looks for them. The import of tensorrt loads
                # libnvinfer and libnvonnxparser, `preload_dlls` CUDA and cuDNN.
                if provider == "tensorrt":
                    import_if_installed("tensorrt")
                ort.preload_dlls()
            providers = None if provider == "rtx" else _providers(provider, gpu)
            session = ort.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no base class but this one
        if provider != "cpu" and isinstance(error, RuntimeError | ValueError):  # what its Python layer takes for it
            raise _not_loaded(ort, provider, error) from error
        name = model if isinstance(model, Path) else "the model"
        raise GraphError(
            f"onnxruntime {ort.__version__} cannot load {name}: {error}", code="backend-refuses-graph"
        ) from error
    if session.get_providers()[0] != wanted:
        raise _not_loaded(ort, provider)
    session.disable_fallback()  # of later runs; 1.22 and 1.23 do not know the argument above
    session._model_bytes = None  # a copy for that fallback
    return session


def _session_options(ort: Any, provider: Provider, *, optimize: bool, threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions, and `_session` checks the loaded provider
    options.enable_mem_pattern = False  # a pattern keeps a second copy of the activations
    # By default threads wait in a busy loop for tens of milliseconds after a run, and take the cores of what runs next:
    # torch, another session, the encoder of a video.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.intra_op_num_threads = threads or 0  # 0: one for each core
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if provider != "cpu":  # for `_description`; versions before 1.24 take it and do nothing
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


@contextmanager
def _without_output(ort: Any) -> Iterator[None]:
    """Drop the lines that ONNX Runtime prints when a provider's library is missing."""
    with _LOADING:
        ort.set_default_logger_severity(4)
        try:
            with redirect_stdout(io.StringIO()):  # its Python layer prints instead of logging
                yield
        finally:
            ort.set_default_logger_severity(2)  # ONNX Runtime's own default; the value before cannot be read


def _providers(provider: Provider, gpu: CudaDevice | None) -> list[Any]:
    """List the providers in order, each taking what those before it cannot compute."""
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


def _description(ort: Any, session: Any, provider: Provider) -> str:
    """Describe what computes: the provider, whether it may use TF32, and what another one computes (from 1.24 on).

    Raises:
        GraphError: another provider computes all of it.
    """
    wanted = PROVIDERS[provider]
    if provider == "cpu":
        return wanted
    tf32 = provider in ("tensorrt", "rtx") and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
    operators: dict[str, set[str]] = {}
    if hasattr(session, "get_provider_graph_assignment_info"):
        for part in session.get_provider_graph_assignment_info():
            operators.setdefault(part.ep_name, set()).update(node.op_type for node in part.get_nodes())
    if operators and wanted not in operators:
        raise GraphError(
            f"onnxruntime {ort.__version__} gives no node of this graph to {wanted}, all to {', '.join(operators)}; "
            "expected a graph that it can compute a part of: look at the file with refine-export lint",
            code="provider-without-nodes",
            provider=wanted,
        )
    elsewhere = [f"{', '.join(sorted(names))} on {name}" for name, names in operators.items() if name != wanted]
    return "; ".join([wanted + (" with TF32 allowed" if tf32 else ""), *elsewhere])


def _not_loaded(ort: Any, provider: Provider, error: Exception | None = None) -> UnavailableError:
    """Say why a provider that this build has does not load, and what it needs."""
    libraries = Path(ort.__file__).parent / "capi"
    prefix, suffix = ("", ".dll") if sys.platform == "win32" else ("lib", ".so")
    reason = str(error).strip() if error else "its libraries are there, but no GPU that it can use"
    try:  # ONNX Runtime logs the missing library and does not raise it, so the system's loader is asked again
        ctypes.CDLL(str(libraries / f"{prefix}onnxruntime_providers_{provider}{suffix}"))
    except OSError as missing:
        reason = str(missing)
    cuda = str(getattr(ort, "cuda_version", "")).partition(".")[0]
    needs, packages = ["an NVIDIA GPU with its driver", f"CUDA {cuda}", "cuDNN 9"], "'onnxruntime-gpu[cuda,cudnn]'"
    if provider == "tensorrt":
        major = _tensorrt_major(libraries)
        needs.append(f"TensorRT {major}".strip())
        packages += f" 'tensorrt-cu{cuda}{f'=={major}.*' if major else ''}'"
    install = f"pip install {packages}"
    return UnavailableError(
        f"asked for {PROVIDERS[provider]}, onnxruntime {ort.__version__} cannot load it: {reason}; expected "
        f"{', '.join(needs[:-1])} and {needs[-1]}: {install}",
        code="provider-not-loaded",
        provider=PROVIDERS[provider],
        reason=reason,
        install=install,
    )


def _tensorrt_major(libraries: Path) -> str:
    """Read the major version of the TensorRT that this build is linked against; empty where it is not found."""
    for file in libraries.glob("*onnxruntime_providers_tensorrt.*"):
        if found := re.search(rb"nvinfer(?:\.so\.|_)(\d+)", file.read_bytes()):
            return found[1].decode()
    return ""


def _output_shapes(
    inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Compute the shapes of the outputs from those of the feeds.

    Raises:
        RequestError: frames that the graph (one of ours) does not take, or a size that the file does not tell.
    """
    signature = signature_from_names([info.name for info in inputs], [info.name for info in outputs])
    if signature is not None:  # outputs of half the size and less, which the file's own symbols do not tell
        check_sizes(signature, shapes)
        batch, _, height, width = shapes[signature.inputs[0].name]
        return {spec.name: spec.shape_at(batch, height, width) for spec in signature.outputs}
    sizes: dict[int | str, int] = {}
    for info in inputs:
        sizes.update(zip(info.shape, shapes[info.name], strict=True))
    for info in outputs:
        if missing := [dim for dim in info.shape if isinstance(dim, str) and dim not in sizes]:
            message = f"the file does not tell {missing} of the output {info.name} before it runs: use run"
            raise RequestError(message, code="output-shape-unknown", output=info.name)
    return {info.name: tuple(dim if isinstance(dim, int) else sizes[dim] for dim in info.shape) for info in outputs}


def _torch_device() -> CudaDevice | None:
    """Find the GPU by torch, which then orders this runner's work after its own; None where torch finds none."""
    try:
        return CudaDevice()
    except UnavailableError:
        return None


def _info(value: Any) -> TensorInfo:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(dim if isinstance(dim, int | str) else f"{value.name}?{k}" for k, dim in enumerate(value.shape))
    return TensorInfo(name=value.name, dtype={"float": "float32", "double": "float64"}.get(kind, kind), shape=shape)


def _element_type(tensor: torch.Tensor) -> int:
    """Return the number of a tensor's type in `onnx.TensorProto.DataType`; numpy has no bfloat16 to give instead."""
    name = array_like(tensor).dtype
    return int(TensorProto.DataType.Value({"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper())))
