"""The device of the TensorRT runner: torch without CUDA is said; copies, order and capture, without TensorRT."""

import numpy as np
import pytest
import torch

from refine_export.errors import UnavailableError
from refine_export.runners.cuda_device import CudaDevice
from tests.support.refusals import refused


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_torch_without_cuda_is_said():
    with refused("no-cuda-device", UnavailableError):
        CudaDevice()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")
def test_the_device_copies_orders_and_captures():
    """The stand-in's original, without TensorRT: copies, order between the streams, a graph that is replayed."""
    device = CudaDevice()
    memory, doubled = device.empty((64, 64), "float16"), device.empty((64, 64), "float16")
    array = np.random.default_rng(0).uniform(size=(64, 64)).astype(np.float16)

    def enqueue():
        with torch.cuda.stream(device._stream):
            torch.add(memory, memory, out=doubled)

    with device.work(wait=True):
        device.upload(array, memory)
        enqueue()
        assert np.array_equal(device.download(doubled), array + array)
        replay = device.capture(enqueue)
        device.upload(array * np.float16(2), memory)
        replay()
    assert np.array_equal(device.download(doubled), array * np.float16(4))
    large = torch.ones(4096, 4096, device=device.device)
    for _ in range(50):
        large = large @ large / 4096
    memory.copy_(large[:64, :64])  # still under way on the caller's stream
    with device.work(wait=False):
        enqueue()
    assert (doubled == 2).all()
