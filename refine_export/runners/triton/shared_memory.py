"""Tensors of requests in shared memory: one region, registered once and used again, replaced when it is too small."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.errors import UnavailableError
from refine_export.runners.triton.transport import Slot, Wire, WireError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Shape = tuple[int, ...]

ALIGNMENT_BYTES = 64
PREFIX = "refine_export"
"""Of every region's name."""

MOUNT = Path("/dev/shm")
"""Where it lies on Linux."""


class SharedTensors:
    """The inputs of a request one after the other, then its outputs.

    How large outputs are is known from the answer to the first request of its kind, whose outputs come by the wire.
    """

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None
        self._registered = False
        self._in_use: list[str] = []
        """Regions that the server may still know."""
        self._outputs: dict[Any, dict[str, tuple[str, Shape]]] = {}

    def infer(
        self, wire: Wire, model: str, version: str, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Ask once.

        Raises:
            WireError: as the wire does; `region` where the memory has to be registered again.
        """
        import numpy as np

        kind = (model, version, tuple(wanted), *((name, str(x.dtype), x.shape) for name, x in inputs.items()))
        known = self._outputs.get(kind, {})
        sizes = {name: int(np.dtype(dtype).itemsize * np.prod(shape)) for name, (dtype, shape) in known.items()}
        slots = self._laid_out(wire, [*((name, x.nbytes) for name, x in inputs.items()), *sizes.items()])
        sent = dict(zip(inputs, slots, strict=False))
        received = dict(zip(known, slots[len(inputs) :], strict=True))
        for name, array in inputs.items():
            self._view(sent[name], str(array.dtype), array.shape)[...] = array
        answer = wire.infer(
            model,
            version,
            {name: (array, sent[name]) for name, array in inputs.items()},
            received or dict.fromkeys(wanted),
        )
        answered = {name: (answer.dtypes[name], answer.shapes[name]) for name in answer.shapes}
        if known and answered != known:
            raise WireError("region", f"the outputs are {answered}, where they were {known}")
        self._outputs[kind] = answered
        arrays = dict(answer.arrays)
        for name, slot in received.items():
            arrays[name] = self._view(slot, *known[name]).copy()
        return arrays

    def forget(self, unregister: Callable[[str], None] | None) -> None:
        """Give the region up: a server that is late may still write into it."""
        self._outputs.clear()
        self.close(unregister)

    def close(self, unregister: Callable[[str], None] | None) -> None:
        """Give the region back; without `unregister` only on this side."""
        if self._memory is None:
            return
        if self._registered:
            self._in_use.append(self._memory.name)
        for name in [*self._in_use]:
            if unregister is not None:
                with suppress(WireError):  # while a late request runs, the server keeps it
                    unregister(name)
                    self._in_use.remove(name)
        self._memory.close()
        with suppress(FileNotFoundError):
            self._memory.unlink()
        self._memory, self._registered = None, False

    def _laid_out(self, wire: Wire, tensors: Sequence[tuple[str, int]]) -> list[Slot]:
        """A place for each tensor, in a region that is large enough and registered."""
        offsets, total = [], 0
        for _, byte_size in tensors:
            offsets.append(total)
            total += -(-byte_size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        if self._memory is None or self._memory.size < total:
            self.close(wire.unregister)
            self._memory = _region(max(total, ALIGNMENT_BYTES))
        if not self._registered:
            wire.register(self._memory.name, f"/{self._memory.name}", self._memory.size)
            self._registered = True
        return [
            Slot(region=self._memory.name, offset=offset, byte_size=byte_size)
            for offset, (_, byte_size) in zip(offsets, tensors, strict=True)
        ]

    def _view(self, slot: Slot, dtype: str, shape: Shape) -> NDArray[Any]:
        import numpy as np

        assert self._memory is not None
        assert self._memory.buf is not None
        count = int(np.prod(shape))
        return np.frombuffer(self._memory.buf, dtype, count, slot.offset).reshape(shape)


def _region(byte_size: int) -> SharedMemory:
    """New memory of a name that no other process or container has.

    Raises:
        UnavailableError: there is not so much of it; a page that is missing would end this process when it is written.
    """
    advice = "give the machine or the container more (docker run --shm-size), or leave shared memory out"
    if MOUNT.is_dir():
        state = os.statvfs(MOUNT)
        if state.f_bavail * state.f_frsize < byte_size:
            free = state.f_bavail * state.f_frsize
            raise UnavailableError(
                f"{MOUNT} has {free >> 20} MiB left, and tensors take {-(-byte_size >> 20)}; {advice}"
            )
    try:
        return SharedMemory(f"{PREFIX}_{os.getpid()}_{secrets.token_hex(4)}", create=True, size=byte_size)
    except OSError as error:
        raise UnavailableError(f"can't make {byte_size} bytes of shared memory: {error.strerror}; {advice}") from error
