"""Memory, stream and CUDA graphs of one GPU, by torch; all that the TensorRT runner needs of CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from refine_export.errors import UnavailableError
from refine_export.support.imports import require

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


class CudaDevice:
    """The current CUDA device, with a stream of its own (TensorRT slows down on the default one).

    Raises:
        UnavailableError: torch is missing, or finds no CUDA.
    """

    alignment = 256
    """Of the addresses that TensorRT takes, in bytes (`IExecutionContext::setTensorAddress`, 10.12 to 11.4)."""

    def __init__(self) -> None:
        torch = require("torch", extra="torch")
        if not torch.cuda.is_available():
            raise UnavailableError(
                f"torch {torch.__version__} finds no CUDA device here, which TensorRT needs; install the driver and a "
                "torch with CUDA: https://pytorch.org/get-started"
            )
        self._torch = torch
        self.device: Any = torch.device("cuda", torch.cuda.current_device())
        self._stream = torch.cuda.Stream(self.device)
        self.stream = int(self._stream.cuda_stream)
        """The handle that TensorRT takes."""
        self.name = f"{self.device} ({torch.cuda.get_device_name(self.device)})"

    @contextmanager
    def work(self, *, wait: bool) -> Iterator[None]:
        """For calls of TensorRT: on this device, after all that the caller's stream was given before.

        Args:
            wait: the host waits for the end; else the caller's stream does, and the host goes on.
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
        """New memory; `dtype` is a name that torch has, such as `float16`."""
        tensor: torch.Tensor = self._torch.empty(shape, dtype=getattr(self._torch, dtype), device=self.device)
        return tensor

    def upload(self, array: NDArray[Any], into: torch.Tensor) -> None:
        """Copy to the GPU, on the stream."""
        import numpy as np

        with self._torch.cuda.stream(self._stream):
            into.copy_(self._torch.from_numpy(np.require(array, requirements=["C", "W"])))

    def download(self, tensor: torch.Tensor) -> NDArray[Any]:
        """Copy to a new array, on the stream, and wait for it."""
        with self._torch.cuda.stream(self._stream):
            array: NDArray[Any] = tensor.to("cpu", copy=True).numpy()
        return array

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of what `enqueue` puts on the stream; nothing is run.

        Returns:
            What runs the graph, on the stream.

        Raises:
            RuntimeError: CUDA can't capture it.
        """
        cuda = self._torch.cuda
        graph = cuda.CUDAGraph()
        with (
            cuda.stream(self._stream),  # goes back to the caller's even where the end of the capture raises
            cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            enqueue()

        def replay() -> None:
            with cuda.stream(self._stream):
                graph.replay()

        return replay
