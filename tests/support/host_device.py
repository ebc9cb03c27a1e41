"""Host memory in place of a GPU's, for tests of runners."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch

from refine_export.runners.cuda_device import CudaDevice


class HostDevice(CudaDevice):
    """Notes each wait and each graph."""

    alignment = 16  # what numpy's memory has

    def __init__(self) -> None:
        self._torch = torch
        self.device = torch.device("cpu")
        self.stream, self.name = 7, "a host that stands in for a GPU"
        self.events: list[str] = []
        self.captures = self.replays = 0
        self.refuses_capture = False

    @contextmanager
    def work(self, *, wait):
        self.events.append("after the caller's stream")
        yield
        self.events.append("the host waits" if wait else "the caller's stream waits")

    def upload(self, array, into):
        into.copy_(torch.from_numpy(np.require(array, requirements=["C", "W"])))

    def download(self, tensor):
        return tensor.to("cpu", copy=True).numpy()

    def capture(self, enqueue):
        if self.refuses_capture:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.captures += 1

        def replay():
            self.replays += 1
            enqueue()

        return replay


def tensors_of(feeds):
    return {name: torch.from_numpy(array) for name, array in feeds.items()}
