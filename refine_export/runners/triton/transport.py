"""One connection to a Triton server, over gRPC or HTTP, on tritonclient; its errors become a few kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from refine_export.runners.triton.bounds import Bounds
from refine_export.runners.triton.failures import WireError, error_of_grpc, error_of_http, translated
from refine_export.support.imports import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

Protocol = Literal["grpc", "http"]

__all__ = ["Answer", "Protocol", "Slot", "Wire", "WireError", "connect", "numpy_name"]

LARGEST_MESSAGE_BYTES = 2**31 - 1
"""Of one request or answer: gRPC has no larger ones."""
_NUMBERS = {"bool", "float16", "float32", "float64", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64))}


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where a tensor lies in a shared region."""

    region: str
    offset: int
    byte_size: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: the shape of every output, and the values of those that did not come through shared memory."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    """numpy's names."""
    arrays: Mapping[str, NDArray[Any]]


class Wire(ABC):
    """The calls that both protocols have; every one ends after the timeout, and raises nothing but `WireError`."""

    @abstractmethod
    def server(self) -> Any:
        """Name and version of the server; this and the next ones as they came, for `triton_served`."""

    @abstractmethod
    def metadata(self, model: str, version: str) -> Any:
        """Names, types and shapes."""

    @abstractmethod
    def config(self, model: str, version: str) -> Any:
        """What config.pbtxt became."""

    @abstractmethod
    def ready(self, model: str, version: str) -> bool:
        """Whether the model can be asked."""

    @abstractmethod
    def index(self) -> Any:
        """Name, version and state of every model of the repository."""

    @abstractmethod
    def register(self, region: str, key: str, byte_size: int) -> None:
        """Let the server map a region of shared memory."""

    @abstractmethod
    def unregister(self, region: str) -> None:
        """Undo `register`."""

    @abstractmethod
    def infer(
        self,
        model: str,
        version: str,
        inputs: Mapping[str, tuple[NDArray[Any], Slot | None]],
        outputs: Mapping[str, Slot | None],
    ) -> Answer:
        """Ask once; a tensor with a slot lies there already, or is to be put there."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""


def connect(protocol: Protocol, url: str, timeout_s: float) -> Wire:
    """A connection; nothing is sent yet.

    Raises:
        UnavailableError: tritonclient is missing.
    """
    return _Grpc(url, timeout_s) if protocol == "grpc" else _Http(url, timeout_s)


class _Client(Wire):
    """What tritonclient's two clients have in common."""

    _module: Any
    _client: Any
    _plain: Mapping[str, Any] = MappingProxyType({})
    """Options that ask for dictionaries."""

    @abstractmethod
    def _ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any: ...

    @abstractmethod
    def _translated(self) -> AbstractContextManager[None]: ...

    def server(self) -> Any:
        return self._ask(self._client.get_server_metadata, **self._plain)

    def metadata(self, model: str, version: str) -> Any:
        return self._ask(self._client.get_model_metadata, model, version, **self._plain)

    def ready(self, model: str, version: str) -> bool:
        return bool(self._ask(self._client.is_model_ready, model, version))

    def register(self, region: str, key: str, byte_size: int) -> None:
        self._ask(self._client.register_system_shared_memory, region, key, byte_size)

    def unregister(self, region: str) -> None:
        self._ask(self._client.unregister_system_shared_memory, region)

    def infer(
        self,
        model: str,
        version: str,
        inputs: Mapping[str, tuple[NDArray[Any], Slot | None]],
        outputs: Mapping[str, Slot | None],
    ) -> Answer:
        sent, wanted = _tensors(self._module, inputs, outputs)
        result = self._ask(self._client.infer, model, sent, model_version=version, outputs=wanted or None)
        with self._translated():
            return _answer(result, self._described(result.get_response()), outputs)

    @abstractmethod
    def _described(self, response: Any) -> dict[str, tuple[str, Sequence[int]]]:
        """Type and shape of each output."""

    def close(self) -> None:
        self._client.close()


class _Grpc(_Client):
    _plain = MappingProxyType({"as_json": True})

    def __init__(self, url: str, timeout_s: float) -> None:
        self._module = require("tritonclient.grpc", extra="triton")
        channel = [
            ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.use_local_subchannel_pool", 1),  # a new connection never waits for the back-off of an old one
            ("grpc.enable_http_proxy", 0),  # which `http_proxy` would put even before this machine
        ]
        with self._translated():  # a name such as `unix` is no scheme
            self._client = self._module.InferenceServerClient(f"dns:///{url}", channel_args=channel)
        self._timeout_s = timeout_s

    def _translated(self) -> AbstractContextManager[None]:
        return translated(error_of_grpc)

    def _ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        with self._translated():
            return call(*arguments, client_timeout=self._timeout_s, **more)

    def config(self, model: str, version: str) -> Any:
        with self._translated():
            return self._ask(self._client.get_model_config, model, version, **self._plain)["config"]

    def index(self) -> Any:
        with self._translated():
            return self._ask(self._client.get_model_repository_index, **self._plain).get("models", [])

    def _described(self, response: Any) -> dict[str, tuple[str, Sequence[int]]]:
        return {output.name: (output.datatype, output.shape) for output in response.outputs}


class _Http(_Client):
    def __init__(self, url: str, timeout_s: float) -> None:
        self._module = require("tritonclient.http", extra="triton")
        with self._translated():
            self._client = self._module.InferenceServerClient(
                url, connection_timeout=timeout_s, network_timeout=timeout_s
            )
            self._bounds = Bounds(self._client, timeout_s, LARGEST_MESSAGE_BYTES)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(error_of_http)

    def _ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        with self._translated(), self._bounds.request():
            return call(*arguments, **more)

    def config(self, model: str, version: str) -> Any:
        return self._ask(self._client.get_model_config, model, version)

    def index(self) -> Any:
        return self._ask(self._client.get_model_repository_index)

    def _described(self, response: Any) -> dict[str, tuple[str, Sequence[int]]]:
        return {one["name"]: (one["datatype"], one["shape"]) for one in response["outputs"]}


def numpy_name(datatype: str) -> str:
    """`FP32` to `float32`; a type that numpy has no name for stays as it is."""
    import numpy as np

    dtype = require("tritonclient.utils", extra="triton").triton_to_np_dtype(datatype)
    return datatype if dtype is None else str(np.dtype(dtype))


def _tensors(
    module: Any, inputs: Mapping[str, tuple[NDArray[Any], Slot | None]], outputs: Mapping[str, Slot | None]
) -> tuple[list[Any], list[Any]]:
    utils = require("tritonclient.utils", extra="triton")
    sent, wanted = [], []
    for name, (array, slot) in inputs.items():
        datatype = utils.np_to_triton_dtype(array.dtype)
        if datatype is None:
            raise WireError("refused", f"the input {name} is {array.dtype}, which Triton has no type for")
        tensor = module.InferInput(name, list(array.shape), datatype)
        if slot is None:
            tensor.set_data_from_numpy(array)
        else:
            tensor.set_shared_memory(slot.region, slot.byte_size, slot.offset)
        sent.append(tensor)
    for name, slot in outputs.items():
        requested = module.InferRequestedOutput(name)
        if slot is not None:
            requested.set_shared_memory(slot.region, slot.byte_size, slot.offset)
        wanted.append(requested)
    return sent, wanted


def _answer(
    result: Any, described: Mapping[str, tuple[str, Sequence[int]]], outputs: Mapping[str, Slot | None]
) -> Answer:
    shapes = {name: tuple(map(int, shape)) for name, (_, shape) in described.items()}
    dtypes = {name: numpy_name(datatype) for name, (datatype, _) in described.items()}
    arrays = {}
    for name, dtype in dtypes.items():
        if dtype not in _NUMBERS:
            raise TypeError(f"the output {name} is {described[name][0]!r}")
        if outputs.get(name) is None:
            arrays[name] = result.as_numpy(name)
            if arrays[name].shape != shapes[name]:
                raise ValueError(f"the output {name} is {list(shapes[name])}")
    return Answer(shapes=shapes, dtypes=dtypes, arrays=arrays)
