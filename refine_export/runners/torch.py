"""The reference: a graph in torch."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from refine_export.errors import RequestError, UnavailableError
from refine_export.export.reference_network import graph_network, signature_of_network
from refine_export.runners.base import Arrays, Runner
from refine_export.signature import FilePrecision, GraphName, TensorInfo, TensorSpec
from refine_export.support.imports import require

if TYPE_CHECKING:  # torch is optional, and this module is imported without it
    import torch
    from torch import nn

    from refine_export.runners.cuda_device import Tensors


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads in this thread, and in those that begin to use it meanwhile."""
    torch = require("torch", extra="torch")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchRunner(Runner):
    """A graph of a reference network; feeds are FP32, and outputs too, except for float64.

    Args:
        reference: what `reference_network` returns; not modified. FP32 shares its weights.
        graph: one that the network has.
        dtype: type of the arithmetic.
        rounded_to: round FP32 convolutions and warps to the precision of a file (see `rounded_arithmetic`).
        device: `cpu` or a CUDA device, such as `cuda:0`.
        compiled: run what `torch.compile` makes of the graph, for each size anew, in its first run.

    Raises:
        RequestError: `device` is not a device.
        UnavailableError: torch is missing, or it has no such device.
    """

    backend = "torch"

    def __init__(
        self,
        reference: nn.Module,
        graph: GraphName,
        *,
        dtype: Literal["float32", "float64"] = "float32",
        rounded_to: FilePrecision | None = None,
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        torch = require("torch", extra="torch")
        if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", device):
            raise RequestError(f"device is {device!r}; expected cpu, cuda or such as cuda:0", code="unknown-device")
        if device.startswith("cuda") and int(device[5:] or 0) >= torch.cuda.device_count():
            message = f"torch {torch.__version__} finds no {device} here; use the device cpu"
            raise UnavailableError(message, code="no-cuda-device", device=device)
        self._torch = torch
        self._dtype = getattr(torch, dtype)
        self._rounded_to = rounded_to
        self._device = torch.device(device)
        network = graph_network(reference, graph)
        if dtype != "float32" or self._device.type != "cpu":
            network = copy.deepcopy(network).to(self._device, self._dtype)
        # Of one size each, without parts that stay uncompiled: those would be measured as compiled.
        self._network = torch.compile(network, dynamic=False, fullgraph=True) if compiled else network
        self._compiled = compiled
        self.version = torch.__version__
        name = f" ({torch.cuda.get_device_name(self._device)})" if self._device.type == "cuda" else ""
        self.device = f"{self._device}{name}"
        self.provider = f"torch {dtype}" + (f", rounded to {rounded_to}" if rounded_to else "")
        self.provider += ", compiled" if compiled else ""
        self.signature = signature_of_network(reference, graph)
        self.inputs = tuple(_info(spec, "float32") for spec in self.signature.inputs)
        self.outputs = tuple(_info(spec, dtype) for spec in self.signature.outputs)

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        tensors = {name: self._torch.from_numpy(array) for name, array in feeds.items()}
        return {name: value.cpu().numpy() for name, value in self.run_torch(tensors).items()}

    def run_torch(self, feeds: Tensors, outputs: Tensors | None = None) -> dict[str, torch.Tensor]:
        """Compute the outputs on the runner's device, without waiting for a GPU.

        Args:
            feeds: one FP32 tensor per input, of its shape.
            outputs: not used; the other runners write to them.

        Raises:
            UnavailableError: `cannot-compile`; `torch.compile` fails, such as without a C++ compiler.
        """
        tensors = [feeds[info.name].to(self._device, self._dtype) for info in self.inputs]
        try:
            with self._torch.inference_mode(), self._rounding():
                result = self._network(*tensors)
        except Exception as error:  # the compiler's stages have errors of their own
            if not self._compiled:
                raise
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UnavailableError(
                f"torch.compile {self.version} fails here: {first}; on a CPU it needs a C++ compiler, on a GPU Triton",
                code="cannot-compile",
            ) from error
        values = result if isinstance(result, tuple) else (result,)
        return {info.name: value for info, value in zip(self.outputs, values, strict=True)}

    def _rounding(self) -> AbstractContextManager[object]:
        if self._rounded_to is None:
            return nullcontext()
        from refine_export.runners.rounded_arithmetic import RoundedArithmetic  # needs torch at import

        return RoundedArithmetic(self._rounded_to)


def _info(spec: TensorSpec, dtype: str) -> TensorInfo:
    return TensorInfo(name=spec.name, dtype=dtype, shape=spec.shape)
