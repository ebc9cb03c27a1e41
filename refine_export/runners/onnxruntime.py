"""ONNX Runtime, on the provider that was asked for or not at all."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.base import Runner
from refine_export.runners.cuda import CudaDevice
from refine_export.runners.ort_binding import (
    Place,
    as_array,
    check_outputs,
    check_tensors,
    output_shapes,
    run_arrays,
    run_tensors,
)
from refine_export.runners.ort_session import Provider as Provider
from refine_export.runners.ort_session import provider_in_words, session_from_model
from refine_export.signature import TensorInfo
from refine_export.support.environment import gpu_name
from refine_export.support.imports import require

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from refine_export.runners.base import Arrays
    from refine_export.runners.ort_binding import Tensors

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


class OrtRunner(Runner):
    """An ONNX file in ONNX Runtime, on the CPU or the current CUDA device; there for one thread at a time.

    Asked for a GPU where it can't be used, ONNX Runtime falls back to the CPU with no more than a log line; here
    that is an error, so that no CPU result is ever taken for a GPU's. `provider` tells what another provider computes.

    TensorRT builds an engine when a file of one size is loaded, and for one of free sizes in the first run, and again
    in each run at a size outside of those before. Nothing of it is kept on disk.

    Args:
        model: path of the file (external data lies beside it), or the serialised model.
        provider: `cpu`; `cuda`; or `tensorrt`, with CUDA for what TensorRT can't compute. The CPU takes what is left.
        optimize: let ONNX Runtime rewrite the graph; without, it computes node by node what the file says.

    Raises:
        UnavailableError: ONNX Runtime or the provider is missing.
        GraphError: ONNX Runtime refuses the file, or the provider has no part in it.
    """

    backend = "onnxruntime"

    def __init__(self, model: Path | bytes, *, provider: Provider = "cpu", optimize: bool = True) -> None:
        ort = require("onnxruntime", extra="ort")
        self._ort = ort
        self._gpu = None if provider == "cpu" else _torch_device()
        self._session = session_from_model(ort, model, provider, optimize=optimize, gpu=self._gpu)
        self._run_options = ort.RunOptions()
        if provider == "cpu":
            # Activations of 1088 x 1920 are over 1 GiB: they go back to the system after each run.
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._place: Place | None = None if provider == "cpu" else _place(self._gpu)
        self.version = ort.__version__
        self.provider = provider_in_words(ort, self._session, provider)
        self.device = "cpu" if provider == "cpu" else f"cuda:0 ({gpu_name() or 'name not known'})"
        if self._gpu is not None:
            self.device = self._gpu.name
        self.inputs = tuple(_info(value) for value in self._session.get_inputs())
        self.outputs = tuple(_info(value) for value in self._session.get_outputs())

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        try:
            if self._place is None:
                names = [info.name for info in self.outputs]
                values = self._session.run(names, dict(feeds), self._run_options)
                return dict(zip(names, values, strict=True))
            for info in (*self.inputs, *self.outputs):
                if info.dtype == "bfloat16":
                    raise RequestError(f"{info.name} is bfloat16, which numpy has not; use run_torch with CUDA tensors")
            with self._gpu.work(wait=True) if self._gpu else nullcontext():
                return run_arrays(self._ort, self._session, self._run_options, self._place, feeds, self.outputs)
        except RequestError:
            raise
        except Exception as error:  # onnxruntime's own exceptions share no base class but this one
            raise self._failed(error) from error

    def run_torch(self, feeds: Tensors, outputs: Tensors | None = None) -> dict[str, torch.Tensor]:
        """Compute the outputs from and into memory of the GPU, without a copy.

        The graph starts after what torch's current stream was given before. When this returns, the outputs are there:
        unlike the TensorRT runner's, the host waits for them (see `ort_binding`).

        Args:
            feeds: one contiguous tensor per input, of its type and shape, on the runner's device.
            outputs: where the outputs go, likewise; without, into new tensors.

        Returns:
            One tensor per output; those of `outputs` where given.

        Raises:
            RequestError: as `run`; or a tensor is on another device or not contiguous, or is none of the outputs.
            UnavailableError: torch finds no CUDA.
        """
        if self._place is None:
            raise RequestError("this runner is on the CPU; use run, or make one with provider='cuda' or 'tensorrt'")
        if self._gpu is None:
            raise UnavailableError(
                "run_torch needs a torch that finds a CUDA device: https://pytorch.org/get-started; run needs none"
            )
        check_tensors(feeds, self._gpu.device)
        self._check(cast("Arrays", {name: as_array(tensor) for name, tensor in feeds.items()}))
        shapes = output_shapes(self.inputs, self.outputs, {name: tuple(one.shape) for name, one in feeds.items()})
        if outputs is not None:
            check_tensors(outputs, self._gpu.device)
            check_outputs(outputs, self.outputs, shapes)
        with self._gpu.work(wait=False):
            if outputs is None:
                outputs = {info.name: self._gpu.empty(shapes[info.name], info.dtype) for info in self.outputs}
            try:
                run_tensors(self._session, self._run_options, self._place, feeds, outputs)
            except Exception as error:  # as above
                raise self._failed(error) from error
        return dict(outputs)

    def close(self) -> None:
        """Release the session."""
        del self._session

    def _failed(self, error: Exception) -> RequestError:
        return RequestError(f"onnxruntime {self.version} failed while it ran the graph: {error}")


def _torch_device() -> CudaDevice | None:
    """The GPU by torch, which then orders this runner's work after its own; None where torch finds none."""
    try:
        return CudaDevice()
    except UnavailableError:
        return None


def _place(gpu: CudaDevice | None) -> Place:
    return ("cuda", 0) if gpu is None else (gpu.device.type, gpu.device.index or 0)


def _info(value: Any) -> TensorInfo:
    shape = tuple(dim if isinstance(dim, int | str) else f"{value.name}?{k}" for k, dim in enumerate(value.shape))
    return TensorInfo(name=value.name, dtype=_DTYPES.get(value.type, value.type), shape=shape)
