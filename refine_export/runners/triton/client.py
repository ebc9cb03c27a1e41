"""A client of a Triton server that survives what servers do: they restart, are slow, and load their models anew.

with TritonClient(ServerOptions(url="localhost:8001")) as client:
    frame = client.infer("interpolate", {"frame0": a, "frame1": b, "timestep": t})["frame"]
"""

from __future__ import annotations

import functools
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from refine_export.errors import InternalError, RequestError, UnavailableError
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.runners.triton.failures import understood
from refine_export.runners.triton.server_state import (
    Listed,
    ServedModel,
    ServedTensor,
    config_from_answer,
    list_from_answer,
    model_from_answer,
    server_from_answer,
)
from refine_export.runners.triton.shared_memory import SharedTensors
from refine_export.runners.triton.transport import Wire, WireError, connect
from refine_export.support.imports import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["ServedModel", "ServedTensor", "ServerOptions", "TritonClient"]

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
UNREGISTER_S = 2.0
"""That giving shared memory back to a slow server may take."""

T = TypeVar("T")


class TritonClient:
    """One connection, for the thread that asks first: another one makes its own.

    A request that fails because the server is away, slow, stops or has unloaded the model is sent again, with growing
    pauses, until it succeeds or `patience_s` has gone by; a request that the server refuses is not, nor one whose
    answer is not Triton's: a proxy that is in the way stays there. A model that this client has never seen ready is
    refused at once.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is sent before the first call.

        Raises:
            UnavailableError: tritonclient is missing.
        """
        self.options = options
        self._clock, self._pause = clock, pause
        self._wire: Wire | None = None
        self._seen: set[str] = set()
        self._memory = SharedTensors() if options.shared_memory else None
        self._thread: int | None = None
        require("tritonclient", extra="triton")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and give the shared memory back; the server need not be there."""
        if self._memory is not None:
            wire = self._wire
            self._memory.close(None if wire is None else wire.unregister)
        self._disconnect()

    def server(self) -> str:
        """Its name and version, such as `triton 2.51.0`."""
        return self._told("the server's version", lambda wire: wire.server(), server_from_answer)

    def metadata(self, model: str, version: str = "") -> ServedModel:
        """Names, types and shapes of a model's inputs and outputs.

        Args:
            model: its name.
            version: its number; empty for the server's choice.

        Raises:
            RequestError: the server does not have it.
            UnavailableError: the server stayed away, or its answer is not Triton's.
        """
        made = functools.partial(model_from_answer, model)
        return self._told(model, lambda wire: wire.metadata(model, version), made, model, version)

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """A model's config as the server has it: JSON of Triton's `ModelConfig`; over gRPC without default values.

        Raises:
            RequestError, UnavailableError: as in `metadata`.
        """
        return self._told(model, lambda wire: wire.config(model, version), config_from_answer, model, version)

    def ready(self, model: str, version: str = "") -> bool:
        """Whether the server is there and has the model ready; asked once, whatever the patience."""
        try:
            found = self._connected().ready(model, version)
        except WireError as error:
            self._after(error)
            return False
        if found:
            self._seen.add(_key(model, version))
        return found

    def models(self) -> list[str]:
        """Names of the models that are ready."""
        return sorted({one.name for one in self._listed() if one.state == "READY"})

    def unready(self) -> dict[str, str]:
        """Models of the repository that can't be asked, and why, as the server says it."""
        found = self._listed()
        ready = {one.name for one in found if one.state == "READY"}
        return {
            one.name: one.reason or one.state or "not loaded; the server's log says why"
            for one in found
            if one.name not in ready
        }

    def _listed(self) -> list[Listed]:
        return self._told("the list of models", lambda wire: wire.index(), list_from_answer)

    def infer(
        self, model: str, inputs: Arrays, outputs: Sequence[str] | None = None, version: str = ""
    ) -> dict[str, NDArray[Any]]:
        """Ask a model.

        Args:
            model: its name.
            inputs: one array per input, of its type and shape.
            outputs: names; without, all.
            version: its number; empty for the server's choice.

        Returns:
            One array per output; it may be read-only.

        Raises:
            RequestError: the server refuses: names, types or shapes, or a model or version that it never had.
            UnavailableError: no answer within timeout and patience, or one that is not Triton's.
        """
        import numpy as np

        if not re.fullmatch("[0-9]*", version):
            raise RequestError(f"the version is {version!r}; expected a number, or nothing for the server's choice")
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        wanted = tuple(outputs or ())

        def ask(wire: Wire) -> dict[str, NDArray[Any]]:
            if self._memory is not None:
                found = self._memory.infer(wire, model, version, arrays, wanted)
            else:
                sent = {name: (x, None) for name, x in arrays.items()}
                found = dict(wire.infer(model, version, sent, dict.fromkeys(wanted)).arrays)
            if missing := [name for name in wanted if name not in found]:
                raise WireError("strange", f"the output {missing[0]} is missing")
            return found

        return self._patiently(model, ask, model, version)

    def _connected(self) -> Wire:
        if self._thread is None:
            self._thread = threading.get_ident()
        if self._thread != threading.get_ident():
            raise InternalError("a TritonClient was used by two threads; each has to make its own")
        if self._wire is None:
            self._wire = connect(self.options.protocol, self.options.url, self.options.timeout_s)
        return self._wire

    def _disconnect(self) -> None:
        if self._wire is not None:
            with suppress(OSError):
                self._wire.close()
        self._wire = None

    def _after(self, error: WireError) -> None:
        """Leave nothing behind that the failure may have spoilt."""
        if error.failure in ("away", "slow", "strange"):
            self._disconnect()
        if self._memory is None or error.failure not in ("away", "slow", "strange", "region"):
            return
        if error.failure == "away":
            self._memory.forget(None)
            return
        wire = connect(self.options.protocol, self.options.url, min(self.options.timeout_s, UNREGISTER_S))
        try:
            self._memory.forget(wire.unregister)
        finally:
            with suppress(OSError):
                wire.close()

    def _told(
        self, what: str, ask: Callable[[Wire], Any], made: Callable[[Any], T], model: str = "", version: str = ""
    ) -> T:
        """What is made of an answer."""

        def asked(wire: Wire) -> T:
            answer = ask(wire)
            with understood():
                return made(answer)

        return self._patiently(what, asked, model, version)

    def _patiently(self, what: str, ask: Callable[[Wire], T], model: str = "", version: str = "") -> T:
        """Ask until there is an answer, the server refuses, or patience ends."""
        tried, failed_at, pause_s = 0, None, FIRST_PAUSE_S
        while True:
            tried += 1
            try:
                found = ask(self._connected())
            except WireError as error:
                self._after(error)
                known = _key(model, version) in self._seen
                if error.failure == "strange":
                    raise UnavailableError(self._strangeness(what, error)) from error
                if error.failure == "refused" or (error.failure == "unknown" and not known):
                    raise RequestError(self._refusal(what, error)) from error
                failed_at = self._clock() if failed_at is None else failed_at
                left_s = failed_at + self.options.patience_s - self._clock()
                if left_s <= 0:
                    raise UnavailableError(self._absence(what, error, tried)) from error
                self._pause(min(pause_s * random.uniform(0.5, 1.0), left_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                if model:
                    self._seen.add(_key(model, version))
                return found

    def _refusal(self, what: str, error: WireError) -> str:
        if error.failure == "unknown":
            return (
                f"the server at {self.options.url} does not have {what}: {error}; load it, or choose one of those "
                "that are ready"
            )
        return f"the server at {self.options.url} refuses the request to {what}: {error}"

    def _strangeness(self, what: str, error: WireError) -> str:
        return (
            f"the answer of {self.options.url} for {what} is not Triton's ({error}): look at what stands at this "
            f"{self.options.protocol} port, or before it, such as a proxy"
        )

    def _absence(self, what: str, error: WireError, tried: int) -> str:
        options = self.options
        do = {
            "away": f"start it, or check the address and that this is its {options.protocol} port",
            "slow": f"it did not answer in {options.timeout_s:g} s: give a longer timeout, or look into its log",
            "unhealthy": "the process of a Python model is gone, and the server does not start it again: "
            "unload the model and load it, or restart the server",
            "unknown": "it had the model before: load it again",
            "region": "it lost the shared memory: go on without it",
        }[error.failure]
        times = "once" if tried == 1 else f"{tried} times in {options.patience_s:g} s"
        return f"no answer from the {options.protocol} server at {options.url} for {what}, asked {times}: {error}; {do}"


def _key(model: str, version: str) -> str:
    return f"{model}/{version}"
