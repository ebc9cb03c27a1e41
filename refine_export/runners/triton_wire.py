"""One connection to a Triton server, over gRPC or HTTP, on tritonclient; its errors become a few kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from refine_export.optional import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

Protocol = Literal["grpc", "http"]
Failure = Literal["away", "slow", "unknown", "unhealthy", "region", "refused"]

LARGEST_MESSAGE_BYTES = 2**31 - 1
_BUSY = ("429", "502", "503", "504")  # of the server, or of what stands before it
_LOST = ("RST_STREAM", "GOAWAY", "Socket closed", "Connection reset")


class WireError(Exception):
    """What went wrong with one request; it never leaves `TritonClient`."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        """`away`: no server, or one that stops; `slow`: no answer in time; `unknown`: model or version not ready;
        `unhealthy`: a Python model's process is gone; `region`: the shared memory is not registered, or too small;
        `refused`: the request itself."""


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
    def server(self) -> dict[str, Any]:
        """Name and version of the server."""

    @abstractmethod
    def metadata(self, model: str, version: str) -> dict[str, Any]:
        """Names, types and shapes."""

    @abstractmethod
    def config(self, model: str, version: str) -> dict[str, Any]:
        """What config.pbtxt became."""

    @abstractmethod
    def ready(self, model: str, version: str) -> bool:
        """Whether the model can be asked."""

    @abstractmethod
    def index(self) -> list[dict[str, Any]]:
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

    def server(self) -> dict[str, Any]:
        return dict(self._ask(self._client.get_server_metadata, **self._plain))

    def metadata(self, model: str, version: str) -> dict[str, Any]:
        return dict(self._ask(self._client.get_model_metadata, model, version, **self._plain))

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
        ]
        self._client = self._module.InferenceServerClient(url, channel_args=channel)
        self._timeout_s = timeout_s

    def _ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        with _translated(_failure_of_grpc):
            return call(*arguments, client_timeout=self._timeout_s, **more)

    def config(self, model: str, version: str) -> dict[str, Any]:
        return dict(self._ask(self._client.get_model_config, model, version, **self._plain)["config"])

    def index(self) -> list[dict[str, Any]]:
        return list(self._ask(self._client.get_model_repository_index, **self._plain).get("models", []))

    def _described(self, response: Any) -> dict[str, tuple[str, Sequence[int]]]:
        return {output.name: (output.datatype, output.shape) for output in response.outputs}


class _Http(_Client):
    def __init__(self, url: str, timeout_s: float) -> None:
        self._module = require("tritonclient.http", extra="triton")
        self._client = self._module.InferenceServerClient(url, connection_timeout=timeout_s, network_timeout=timeout_s)

    def _ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        with _translated(_failure_of_http):
            return call(*arguments, **more)

    def config(self, model: str, version: str) -> dict[str, Any]:
        return dict(self._ask(self._client.get_model_config, model, version))

    def index(self) -> list[dict[str, Any]]:
        return list(self._ask(self._client.get_model_repository_index))

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
    arrays = {name: result.as_numpy(name) for name in shapes if outputs.get(name) is None}
    for name, array in arrays.items():
        if array is None:
            raise WireError("refused", f"the output {name} came back without values")
    return Answer(
        shapes=shapes, dtypes={name: numpy_name(datatype) for name, (datatype, _) in described.items()}, arrays=arrays
    )


@contextmanager
def _translated(failure_of: Callable[[str, str], Failure]) -> Iterator[None]:
    """Foreign errors as `WireError`; nothing of their text is lost."""
    from http.client import HTTPException

    utils = require("tritonclient.utils", extra="triton")
    try:
        yield
    except utils.InferenceServerException as error:
        status, message = str(error.status() or ""), str(error.message() or error)
        raise WireError(failure_of(status, message), message) from error
    except TimeoutError as error:
        raise WireError("slow", str(error) or "timed out") from error
    except OSError as error:  # refused, reset, no such host
        raise WireError("away", str(error)) from error
    except HTTPException as error:
        raise WireError("away", f"the answer is no HTTP ({error}); is this the gRPC port?") from error


def _failure_of_grpc(status: str, message: str) -> Failure:
    code = status.removeprefix("StatusCode.")
    if code == "DEADLINE_EXCEEDED":
        return "slow"
    if code in ("UNAVAILABLE", "CANCELLED") or any(sign in message for sign in _LOST):
        return "away"
    return _failure_of(message, not_found=code == "NOT_FOUND")


def _failure_of_http(status: str, message: str) -> Failure:
    if status in _BUSY:
        return "away"
    return _failure_of(message, not_found=status == "404")


def _failure_of(message: str, *, not_found: bool) -> Failure:
    """What Triton says in both protocols."""
    if "shared memory region" in message and "Unable to find" in message:
        return "region"
    if "shared memory size specified" in message:
        return "region"
    if "is not healthy" in message:
        return "unhealthy"
    if "unknown model" in message or not_found:
        return "unknown"
    return "refused"
