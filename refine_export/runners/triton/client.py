"""A client of a Triton server that outlives restarts, slow answers and models that are loaded again.

with TritonClient(ServerOptions(url="localhost:8001")) as client:
    frame = client.infer("interpolate", {"frame0": a, "frame1": b, "timestep": t})["frame"]
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.base import Arrays
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.runners.triton.shared_memory import SharedTensors
from refine_export.runners.triton.transport import Connection, ConnectionFailure, Failure, ServedModel
from refine_export.support.imports import require

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
UNREGISTER_S = 2.0
"""Timeout of a request that gives shared memory back to a server that was slow."""

_AFTER_PATIENCE: Mapping[Failure, tuple[str, str]] = {
    "away": ("server-away", "start it, or check the address and that this is its {protocol} port"),
    "slow": ("server-slow", "it did not answer in {timeout_s:g} s: give a longer timeout, or look into its log"),
    "unhealthy": (
        "model-unhealthy",
        "the process of a Python model is gone, and the server does not start it again: unload the model and load it, "
        "or restart the server",
    ),
    "unknown": ("model-unloaded", "it had the model before: load it again"),
    "region": ("shared-memory-lost", "it lost the shared memory: go on without it"),
}
"""Code and advice for each failure that may pass, when it did not."""

T = TypeVar("T")


class TritonClient:
    """One connection, for the thread that uses it first: HTTP's sockets are bound to the thread that opened them.

    A request that fails because the server is away, slow, stops or has unloaded the model is sent again, with growing
    pauses, until it succeeds or `patience_s` has gone by. A request that the server refuses is not, nor one whose
    answer is not Triton's: a proxy that is in the way stays there. A model that this client has never seen ready is
    refused at once, since a wrong name does not become right.

    Args:
        options: the server.
        clock: returns the time in seconds.
        pause: waits for a number of seconds.

    Raises:
        UnavailableError: tritonclient is missing.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.options = options
        self._clock, self._pause = clock, pause
        self._connection: Connection | None = None
        self._seen: set[tuple[str, str]] = set()
        """Models and versions that were ready."""
        self._memory = SharedTensors() if options.shared_memory else None
        require("tritonclient", extra="triton")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and give the shared memory back; the server need not be there."""
        if self._memory is not None:
            self._memory.close(None if self._connection is None else self._connection.unregister)
        self._disconnect()

    def server(self) -> str:
        """Return its name and version, such as `triton 2.51.0`."""
        return self._patiently("the server's version", lambda connection: connection.server())

    def metadata(self, model: str, version: str = "") -> ServedModel:
        """Return versions, names, types and shapes of a model.

        Args:
            model: its name.
            version: its number; empty for the server's choice.

        Raises:
            RequestError: the server does not have it.
            UnavailableError: the server stayed away, or its answer is not Triton's.
        """
        return self._patiently(model, lambda connection: connection.metadata(model, version), model, version)

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """Return a model's config: JSON of Triton's `ModelConfig`; over gRPC without default values.

        Raises:
            RequestError, UnavailableError: as in `metadata`.
        """
        return self._patiently(model, lambda connection: connection.config(model, version), model, version)

    def models(self) -> list[str]:
        """Return the names of the models that are ready."""
        return sorted({name for name, state, _ in self._index() if state == "READY"})

    def unready(self) -> dict[str, str]:
        """Return the models of the repository that are not ready, and the server's reason."""
        index = self._index()
        ready = {name for name, state, _ in index if state == "READY"}
        return {
            name: reason or state or "not loaded; the server's log says why"
            for name, state, reason in index
            if name not in ready
        }

    def infer(
        self, model: str, inputs: Arrays, outputs: Sequence[str] | None = None, version: str = ""
    ) -> dict[str, NDArray[Any]]:
        """Run a model.

        Args:
            model: its name.
            inputs: one array per input, of its type and shape.
            outputs: names. Defaults to all outputs.
            version: its number; empty for the server's choice.

        Returns:
            One array per output; it may be read-only.

        Raises:
            RequestError: the server refuses names, types or shapes, or never had the model or version.
            UnavailableError: no answer within timeout and patience, or one that is not Triton's.
        """
        if version and not version.isdecimal():
            message = f"the version is {version!r}; expected a number, or nothing for the server's choice"
            raise RequestError(message, code="wrong-version", version=version)
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        wanted = tuple(outputs or ())

        def ask(connection: Connection) -> dict[str, NDArray[Any]]:
            if self._memory is not None:
                return self._memory.infer(connection, model, version, arrays, wanted)
            return connection.infer(model, version, arrays, wanted).arrays

        return self._patiently(model, ask, model, version)

    def _index(self) -> list[tuple[str, str, str]]:
        return self._patiently("the list of models", lambda connection: connection.index())

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = Connection(self.options)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _clean_up(self, failure: Failure) -> None:
        """Leave nothing behind that a failure may have spoilt."""
        lost = failure in ("away", "slow", "foreign")
        if lost:
            self._disconnect()
        if self._memory is None or not (lost or failure == "region"):
            return
        if failure == "away":  # there is nobody to give the region back to
            self._memory.forget(None)
            return
        options = replace(self.options, timeout_s=min(self.options.timeout_s, UNREGISTER_S))
        connection = Connection(options)
        self._memory.forget(connection.unregister)
        connection.close()

    def _patiently(self, what: str, ask: Callable[[Connection], T], model: str = "", version: str = "") -> T:
        """Send a request until it is answered or refused, or patience ends; `what` is what messages call it."""
        tried, failed_at, pause_s = 0, None, FIRST_PAUSE_S
        while True:
            tried += 1
            try:
                found = ask(self._connect())
            except ConnectionFailure as error:
                self._clean_up(error.failure)
                if error.failure == "foreign":
                    raise self._foreign(what, error) from error
                if error.failure == "refused" or (error.failure == "unknown" and (model, version) not in self._seen):
                    raise self._refused(what, error) from error
                failed_at = self._clock() if failed_at is None else failed_at
                left_s = failed_at + self.options.patience_s - self._clock()
                if left_s <= 0:
                    raise self._given_up(what, error, tried) from error
                # Jitter, so that clients that lost the same server do not all come back at once.
                self._pause(min(pause_s * random.uniform(0.5, 1.0), left_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                if model:
                    self._seen.add((model, version))
                return found

    def _refused(self, what: str, error: ConnectionFailure) -> RequestError:
        url = self.options.url
        if error.failure == "unknown":
            message = f"the server at {url} does not have {what}: {error}; load it, or choose one that is ready"
            return RequestError(message, code="model-not-served", url=url, model=what)
        return RequestError(
            f"the server at {url} refuses the request to {what}: {error}", code="server-refused", url=url
        )

    def _foreign(self, what: str, error: ConnectionFailure) -> UnavailableError:
        return UnavailableError(
            f"the answer of {self.options.url} for {what} is not Triton's ({error}): look at what listens at this "
            f"{self.options.protocol} port, or stands before it, such as a proxy",
            code="not-triton",
            url=self.options.url,
        )

    def _given_up(self, what: str, error: ConnectionFailure, tried: int) -> UnavailableError:
        options = self.options
        code, advice = _AFTER_PATIENCE[error.failure]
        times = "once" if tried == 1 else f"{tried} times in {options.patience_s:g} s"
        return UnavailableError(
            f"no answer from the {options.protocol} server at {options.url} for {what}, asked {times}: {error}; "
            + advice.format(protocol=options.protocol, timeout_s=options.timeout_s),
            code=code,
            url=options.url,
            tried=tried,
        )
