"""Memory, stream and CUDA graphs of one GPU, by torch; all that the GPU runners need of CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refine_export.errors import RequestError, UnavailableError
from refine_export.signature import TensorInfo
from refine_export.support.imports import require

if TYPE_CHECKING:  # torch is optional, and this module is imported without it
    import torch

    Tensors = Mapping[str, torch.Tensor]


class CudaDevice:
    """The current CUDA device, with a stream of its own (TensorRT slows down on the default one).

    Raises:
        UnavailableError: torch is missing, or finds no CUDA device.
    """

    alignment = 256
    """Alignment of the addresses that TensorRT takes, in bytes (`IExecutionContext::setTensorAddress`)."""

    def __init__(self) -> None:
        torch = require("torch", extra="torch")
        if not torch.cuda.is_available():
            raise UnavailableError(
                f"torch {torch.__version__} finds no CUDA device here, which TensorRT needs; install the driver and a "
                "torch with CUDA: https://pytorch.org/get-started",
                code="no-cuda-device",
            )
        self._torch = torch
        self.device: Any = torch.device("cuda", torch.cuda.current_device())
        self._stream = torch.cuda.Stream(self.device)
        self.stream = int(self._stream.cuda_stream)
        """Handle of the stream, as TensorRT and ONNX Runtime take it."""
        self.name = f"{self.device} ({torch.cuda.get_device_name(self.device)})"

    @contextmanager
    def work(self, *, wait: bool) -> Iterator[None]:
        """Order the calls in the block after all that the caller's stream was given before.

        Args:
            wait: the host waits for the end; else only the caller's stream does, and the host goes on.
        """
        cuda = self._torch.cuda
        with cuda.device(self.device):
            caller = cuda.current_stream(self.device)
            self._stream.wait_stream(caller)
            try:
                yield
            finally:
                if wait:
                    self._stream.synchronize()
                else:
                    caller.wait_stream(self._stream)

    def empty(self, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        """Allocate memory; `dtype` is a name that torch has, such as `float16`."""
        tensor: torch.Tensor = self._torch.empty(shape, dtype=getattr(self._torch, dtype), device=self.device)
        return tensor

    def upload(self, array: NDArray[Any], into: torch.Tensor) -> None:
        """Copy to the GPU, on the stream."""
        with self._torch.cuda.stream(self._stream):
            # torch takes neither negative strides nor, without a warning, read-only memory
            into.copy_(self._torch.from_numpy(np.require(array, requirements=["C", "W"])))

    def download(self, tensor: torch.Tensor) -> NDArray[Any]:
        """Copy to a new array, on the stream, and wait for it."""
        with self._torch.cuda.stream(self._stream):
            array: NDArray[Any] = tensor.to("cpu", copy=True).numpy()
        return array

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Capture what `enqueue` puts on the stream as a CUDA graph; nothing is run.

        Returns:
            A function that runs the graph, on the stream.

        Raises:
            RuntimeError: CUDA cannot capture it.
        """
        cuda = self._torch.cuda
        graph = cuda.CUDAGraph()
        with (
            cuda.stream(self._stream),  # goes back to the caller's even where the end of the capture raises
            # other threads may call CUDA meanwhile, which the default mode takes for a fault of this capture
            cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            enqueue()

        def replay() -> None:
            with cuda.stream(self._stream):
                graph.replay()

        return replay


def array_like(tensor: torch.Tensor) -> Any:
    """Return shape and type of a tensor as numpy names them, for checks that are made for arrays."""
    return SimpleNamespace(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


def check_tensors(tensors: Tensors, device: torch.device, alignment: int = 1) -> None:
    """Check that all tensors are on the device, without gaps, at addresses that are multiples of `alignment` bytes.

    Raises:
        RequestError: `bad-tensor`.
    """
    for name, tensor in tensors.items():
        problem = None
        if tensor.device != device:
            problem = f"is on {tensor.device}; expected {device}: use .to()"
        elif not tensor.is_contiguous():
            problem = f"has strides {tuple(tensor.stride())}; expected .contiguous()"
        elif tensor.data_ptr() % alignment:
            problem = (
                f"begins at an address that is not a multiple of {alignment}, as a part of a larger tensor may; "
                "TensorRT needs one: use .clone()"
            )
        if problem:
            raise RequestError(f"{name} {problem}", code="bad-tensor", tensor=name)


def check_outputs(given: Tensors, outputs: Sequence[TensorInfo], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the tensors that outputs are written to have their names, types and shapes.

    Raises:
        RequestError: `bad-tensor`.
    """
    if set(given) != set(shapes):
        raise RequestError(f"outputs are named {sorted(given)}; this graph has {sorted(shapes)}", code="bad-tensor")
    for info in outputs:
        found = array_like(given[info.name])
        if (found.shape, found.dtype) != (shapes[info.name], info.dtype):
            raise RequestError(
                f"the output {info.name} is {found.dtype} {list(found.shape)}; expected {info.dtype} "
                f"{list(shapes[info.name])}",
                code="bad-tensor",
                tensor=info.name,
            )
