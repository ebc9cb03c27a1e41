"""Tensors of requests in shared memory: one region, registered once and used again, replaced when it is too small."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refine_export.errors import UnavailableError
from refine_export.runners.base import Arrays
from refine_export.runners.triton.transport import Connection, ConnectionFailure, Slot

ALIGNMENT_BYTES = 64
MOUNT = Path("/dev/shm")
"""Mount point of shared memory on Linux."""


class SharedTensors:
    """A region that holds the inputs of a request one after the other, then its outputs.

    How large outputs are is known from the answer to the first request of its kind, whose outputs come over the
    connection.
    """

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None
        self._registered = False
        self._known_to_server: list[str] = []
        """Regions that were given up while the server still had them."""
        self._layouts: dict[Any, dict[str, tuple[str, tuple[int, ...]]]] = {}

    def infer(
        self, connection: Connection, model: str, version: str, inputs: Arrays, outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Send one request.

        Raises:
            ConnectionFailure: as `Connection.infer`; `region` where the memory has to be registered again.
        """
        kind = (model, version, tuple(outputs), *((name, str(x.dtype), x.shape) for name, x in inputs.items()))
        known = self._layouts.get(kind, {})
        sizes = [array.nbytes for array in inputs.values()]
        sizes += [int(np.dtype(dtype).itemsize * np.prod(shape)) for dtype, shape in known.values()]
        slots = self._slots(connection, sizes)
        input_slots = dict(zip(inputs, slots, strict=False))
        output_slots = dict(zip(known, slots[len(inputs) :], strict=True))
        for name, array in inputs.items():
            self._view(input_slots[name], str(array.dtype), array.shape)[...] = array
        answer = connection.infer(
            model, version, inputs, list(known) or outputs, input_slots=input_slots, output_slots=output_slots
        )
        if known and answer.layouts != known:
            raise ConnectionFailure("region", f"the outputs are {answer.layouts}, where they were {known}")
        self._layouts[kind] = answer.layouts
        for name, slot in output_slots.items():  # copied, since the next request overwrites the region
            answer.arrays[name] = self._view(slot, *known[name]).copy()
        return answer.arrays

    def forget(self, unregister: Callable[[str], None] | None) -> None:
        """Give the region up after a failure: a server that is late may still write into it."""
        self._layouts.clear()
        self.close(unregister)

    def close(self, unregister: Callable[[str], None] | None) -> None:
        """Release the region; without `unregister` only on this side."""
        if self._memory is None:
            return
        if self._registered:
            self._known_to_server.append(self._memory.name)
        for name in [*self._known_to_server]:
            if unregister is not None:
                with suppress(ConnectionFailure):  # the server keeps it while a late request runs: next time
                    unregister(name)
                    self._known_to_server.remove(name)
        self._memory.close()
        with suppress(FileNotFoundError):
            self._memory.unlink()
        self._memory, self._registered = None, False

    def _slots(self, connection: Connection, byte_sizes: Sequence[int]) -> list[Slot]:
        """Find a place for each tensor, in a region that is large enough and registered."""
        offsets, total = [], 0
        for byte_size in byte_sizes:
            offsets.append(total)
            total += -(-byte_size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        if self._memory is None or self._memory.size < total:
            self.close(connection.unregister)
            self._memory = _new_region(max(total, ALIGNMENT_BYTES))
        if not self._registered:
            connection.register(self._memory.name, f"/{self._memory.name}", self._memory.size)
            self._registered = True
        return [
            Slot(region=self._memory.name, offset=offset, byte_size=byte_size)
            for offset, byte_size in zip(offsets, byte_sizes, strict=True)
        ]

    def _view(self, slot: Slot, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        assert self._memory is not None
        assert self._memory.buf is not None
        return np.frombuffer(self._memory.buf, dtype, int(np.prod(shape)), slot.offset).reshape(shape)


def _new_region(byte_size: int) -> SharedMemory:
    """Allocate memory under a name that no other process or container has.

    Raises:
        UnavailableError: there is less.
    """
    advice = "give the machine or the container more (docker run --shm-size), or leave shared memory out"
    if MOUNT.is_dir():
        # Allocation succeeds whatever is free, and SIGBUS ends the process when it writes to a page that is missing.
        state = os.statvfs(MOUNT)
        if (free := state.f_bavail * state.f_frsize) < byte_size:
            message = f"{MOUNT} has {free >> 20} MiB left, and tensors take {-(-byte_size >> 20)}; {advice}"
            raise UnavailableError(message, code="shared-memory-full", free_bytes=free, byte_size=byte_size)
    try:
        return SharedMemory(f"refine_export_{os.getpid()}_{secrets.token_hex(4)}", create=True, size=byte_size)
    except OSError as error:
        message = f"cannot allocate {byte_size} bytes of shared memory: {error.strerror}; {advice}"
        raise UnavailableError(message, code="shared-memory-refused", byte_size=byte_size) from error
