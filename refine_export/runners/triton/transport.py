"""One connection to a Triton server, over gRPC or HTTP, on tritonclient; foreign errors become a few kinds here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refine_export.runners.base import Arrays
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.signature import TensorInfo
from refine_export.support.imports import require

Failure = Literal["away", "slow", "unknown", "unhealthy", "region", "refused", "foreign"]

LARGEST_MESSAGE_BYTES = 2**31 - 1
"""Upper bound of one request or answer over gRPC; its default of 4 MiB is less than one frame."""
LONGEST_SHOWN = 200
"""Characters that an error shows of a page that is not Triton's."""

_BUSY = ("429", "502", "503", "504")  # HTTP: the server, or a proxy before it, has nobody who answers now
_LOST = ("RST_STREAM", "GOAWAY", "Socket closed", "Connection reset")  # gRPC: the server ended during the request
_NOT_GRPC = ("http2 header with status", "content-type", "deserializing response")  # a web server, or other bytes
_NOT_JSON = ("client received an empty response", "an exception occurred in the client while decoding the response")
"""Messages of tritonclient for an HTTP error whose body does not have Triton's JSON."""


class ConnectionFailure(Exception):  # noqa: N818 (it never leaves `TritonClient`, which decides what is an error)
    """Failure of one request."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        """`away`: no server, or one that stops; `slow`: no answer in time; `unknown`: model or version not ready;
        `unhealthy`: the process of a Python model is gone; `region`: the shared memory is not registered, or too
        small; `refused`: the request itself; `foreign`: an answer that is not Triton's."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model as its server describes it."""

    name: str
    versions: tuple[str, ...]
    """Versions that are ready."""
    platform: str
    """`onnxruntime_onnx`, `tensorrt_plan`, `ensemble`, ..."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Place of a tensor in a region of shared memory."""

    region: str
    offset: int
    byte_size: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Outputs of a model."""

    layouts: dict[str, tuple[str, tuple[int, ...]]]
    """Type (numpy's name) and shape of every output."""
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Values of the outputs that did not come through shared memory."""


class Connection:
    """Calls that both protocols have; each ends after the timeout, and raises nothing but `ConnectionFailure`.

    Nothing is sent before the first call.

    Raises:
        UnavailableError: tritonclient is missing.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._grpc = options.protocol == "grpc"
        self._module = require(f"tritonclient.{options.protocol}", extra="triton")
        self._utils = require("tritonclient.utils", extra="triton")
        if self._grpc:
            channel = [
                ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
                ("grpc.use_local_subchannel_pool", 1),  # a new connection does not wait for the back-off of an old one
                ("grpc.enable_http_proxy", 0),  # `http_proxy` would put a proxy even before this machine
            ]
            self._client = self._module.InferenceServerClient(options.url, channel_args=channel)
            self._limits = {"client_timeout": options.timeout_s}
        else:
            self._client = self._module.InferenceServerClient(
                options.url, connection_timeout=options.timeout_s, network_timeout=options.timeout_s
            )
            self._limits = {}  # the socket has them

    def server(self) -> str:
        """Return name and version of the server, such as `triton 2.51.0`."""
        with self._translated():
            found = self._query("get_server_metadata")
            return f"{found['name']} {found['version']}"

    def metadata(self, model: str, version: str) -> ServedModel:
        """Return versions, platform, names, types and shapes of a model."""
        with self._translated():
            found = self._query("get_model_metadata", model, version)
            return ServedModel(
                name=found["name"],
                versions=tuple(found.get("versions", ())),
                platform=found.get("platform", ""),
                inputs=tuple(map(_tensor_info, found.get("inputs", ()))),
                outputs=tuple(map(_tensor_info, found.get("outputs", ()))),
            )

    def config(self, model: str, version: str) -> dict[str, Any]:
        """Return the config as the server has it, as JSON of Triton's `ModelConfig`."""
        with self._translated():
            found = self._query("get_model_config", model, version)
            return dict(found["config"] if self._grpc else found)

    def index(self) -> list[tuple[str, str, str]]:
        """Return name, state (empty where it was never loaded) and reason of every version in the repository."""
        with self._translated():
            found = self._query("get_model_repository_index")
            models = found.get("models", ()) if self._grpc else found
            return [(one["name"], one.get("state", ""), one.get("reason", "")) for one in models]

    def register(self, region: str, key: str, byte_size: int) -> None:
        """Let the server map a region of shared memory."""
        self._call("register_system_shared_memory", region, key, byte_size)

    def unregister(self, region: str) -> None:
        """Undo `register`."""
        self._call("unregister_system_shared_memory", region)

    def infer(
        self,
        model: str,
        version: str,
        inputs: Arrays,
        outputs: Sequence[str],
        *,
        input_slots: Mapping[str, Slot] | None = None,
        output_slots: Mapping[str, Slot] | None = None,
    ) -> Answer:
        """Send one request; a tensor with a slot lies in shared memory already, or is to be put there.

        Args:
            model: name of the model.
            version: its number; empty for the server's choice.
            inputs: one array per input.
            outputs: names of the outputs; empty for all.
            input_slots: by the names of inputs.
            output_slots: by the names of outputs.
        """
        sent, requested = [], []
        for name, array in inputs.items():
            datatype = self._utils.np_to_triton_dtype(array.dtype)
            if datatype is None:
                raise ConnectionFailure("refused", f"the input {name} is {array.dtype}, which Triton has no type for")
            tensor = self._module.InferInput(name, list(array.shape), datatype)
            if (slot := (input_slots or {}).get(name)) is None:
                tensor.set_data_from_numpy(array)
            else:
                tensor.set_shared_memory(slot.region, slot.byte_size, slot.offset)
            sent.append(tensor)
        for name in outputs:
            wanted = self._module.InferRequestedOutput(name)
            if (slot := (output_slots or {}).get(name)) is not None:
                wanted.set_shared_memory(slot.region, slot.byte_size, slot.offset)
            requested.append(wanted)
        result = self._call("infer", model, sent, model_version=version, outputs=requested or None)
        with self._translated():
            response = result.get_response()
            if self._grpc:
                layouts = {one.name: (numpy_name(one.datatype), tuple(one.shape)) for one in response.outputs}
            else:
                described = response["outputs"]
                layouts = {one["name"]: (numpy_name(one["datatype"]), tuple(one["shape"])) for one in described}
            if missing := set(outputs) - set(layouts):
                raise ConnectionFailure("foreign", f"the output {min(missing)} is missing")
            by_value = [name for name in layouts if name not in (output_slots or {})]
            return Answer(layouts=layouts, arrays={name: result.as_numpy(name) for name in by_value})

    def close(self) -> None:
        """End the connection."""
        with suppress(OSError):
            self._client.close()

    def _query(self, method: str, *arguments: Any) -> Any:
        """Call a method that returns a description; over gRPC it is a message unless JSON is asked for."""
        return self._call(method, *arguments, **({"as_json": True} if self._grpc else {}))

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        with self._translated():
            return getattr(self._client, method)(*arguments, **options, **self._limits)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate foreign errors to `ConnectionFailure`."""
        try:
            yield
        except self._utils.InferenceServerException as error:
            failure_of = failure_of_grpc if self._grpc else failure_of_http
            raise failure_of(str(error.status() or ""), str(error.message() or error)) from error
        except TimeoutError as error:
            raise ConnectionFailure("slow", str(error) or "timed out") from error
        except OSError as error:  # refused, reset, no such host
            raise ConnectionFailure("away", str(error)) from error
        except HTTPException as error:
            raise ConnectionFailure("away", f"the answer is not HTTP ({error}); is this the gRPC port?") from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # tritonclient reads a proxy's login page, or another server's JSON, as if it were Triton's
            raise ConnectionFailure("foreign", _shown(f"{type(error).__name__}: {error}")) from error


def numpy_name(datatype: str) -> str:
    """Convert `FP32` to `float32`; a type that numpy has no name for stays as it is."""
    dtype = require("tritonclient.utils", extra="triton").triton_to_np_dtype(datatype)
    return datatype if dtype is None else str(np.dtype(dtype))


def _tensor_info(found: Mapping[str, Any]) -> TensorInfo:
    """Read a tensor's description; a dimension that takes any size is called after it."""
    name = found["name"]
    sizes = map(int, found.get("shape", ()))  # gRPC's JSON has text
    shape = tuple(size if size >= 0 else f"{name}_{axis}" for axis, size in enumerate(sizes))
    return TensorInfo(name=name, dtype=numpy_name(found["datatype"]), shape=shape)


def failure_of_grpc(status: str, message: str) -> ConnectionFailure:
    """Classify an error by gRPC's code, such as `StatusCode.UNAVAILABLE`."""
    code = status.removeprefix("StatusCode.")
    if code == "DEADLINE_EXCEEDED":
        return ConnectionFailure("slow", message)
    if code in ("UNAVAILABLE", "CANCELLED") or any(sign in message for sign in _LOST):
        return ConnectionFailure("away", message)
    if any(sign in message for sign in _NOT_GRPC):
        return ConnectionFailure("foreign", _shown(message))
    return _failure_of_message(message, not_found=code == "NOT_FOUND")


def failure_of_http(status: str, message: str) -> ConnectionFailure:
    """Classify an error by its HTTP status; Triton's own errors have a message, those of a proxy a page or nothing."""
    foreign = not status or message.startswith(_NOT_JSON)
    if foreign:
        page = _shown(message.partition("\nresponse: ")[2])
        message = f"HTTP {status or '200'}: {page or 'an empty answer'}"
    if status in _BUSY:
        return ConnectionFailure("away", message)
    if status == "413":  # Triton ends the connection without a message where a request is too long
        return ConnectionFailure("refused", message)
    if foreign:
        return ConnectionFailure("foreign", message)
    return _failure_of_message(message, not_found=status == "404")


def _failure_of_message(message: str, *, not_found: bool) -> ConnectionFailure:
    """Classify one of Triton's own errors, whose messages are the same in both protocols."""
    failure: Failure = "refused"
    if "shared memory size specified" in message or ("shared memory region" in message and "Unable to find" in message):
        failure = "region"
    elif "is not healthy" in message:
        failure = "unhealthy"
    elif "unknown model" in message or not_found:
        failure = "unknown"
    return ConnectionFailure(failure, message)


def _shown(text: str) -> str:
    """Shorten a text to one line that can be read."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]}..."
