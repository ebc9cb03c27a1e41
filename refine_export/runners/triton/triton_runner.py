"""A model on a Triton server as a runner: the server computes, over gRPC, HTTP or shared memory.

with TritonRunner(ServerOptions(url="localhost:8001"), "refine") as runner:
    residual = runner.run(feeds)["residual"]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from refine_export.errors import RequestError
from refine_export.runners.base import Arrays, Runner
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.signature import TensorInfo, TensorSpec, signature_from_names


class TritonRunner(Runner):
    """One version of a served model, chosen when the runner is made; for one thread.

    Args:
        options: the server, the protocol, timeout and patience.
        model: its name.
        version: its number; empty for the newest that is ready.

    Raises:
        RequestError: the server does not have it.
        UnavailableError: the server stayed away, or tritonclient is missing.
    """

    backend = "triton"

    def __init__(self, options: ServerOptions, model: str, version: str = "") -> None:
        self._client = TritonClient(options)
        try:
            self._open(options, model, version)
        except BaseException:
            self._client.close()
            raise

    def _open(self, options: ServerOptions, model: str, version: str) -> None:
        served = self._client.metadata(model, version)
        if not version and not served.versions:
            message = f"the server at {options.url} has no version of {model} ready; load one"
            raise RequestError(message, code="model-not-served", url=options.url, model=model)
        self.model = model
        self.model_version = version or max(served.versions, key=int)
        """The version that runs, a number as text."""
        self.version = self._client.server().removeprefix("triton ")
        self.device = options.url
        self.provider = f"{served.platform or 'unknown platform'} over {options.channel}"
        self.config = self._client.config(model, self.model_version)
        """The config as the server has it."""
        names = [[tensor.name for tensor in tensors] for tensors in (served.inputs, served.outputs)]
        self.signature = signature_from_names(*names)
        """Signature with these names of inputs and outputs; None where it is not one of the graphs."""
        specs = () if self.signature is None else (*self.signature.inputs, *self.signature.outputs)
        known = {spec.name: spec for spec in specs}
        self.inputs = tuple(_named(tensor, known.get(tensor.name)) for tensor in served.inputs)
        self.outputs = tuple(_named(tensor, known.get(tensor.name)) for tensor in served.outputs)

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        names = [info.name for info in self.outputs]
        return self._client.infer(self.model, feeds, names, self.model_version)

    def close(self) -> None:
        """End the connection."""
        self._client.close()


def _named(info: TensorInfo, spec: TensorSpec | None) -> TensorInfo:
    """Name free dimensions as the signature of the graph does, if it is one of ours."""
    if spec is None or len(spec.shape) != len(info.shape):
        return info
    pairs = zip(info.shape, spec.shape, strict=True)
    return replace(info, shape=tuple(size if isinstance(size, int) else symbol for size, symbol in pairs))
