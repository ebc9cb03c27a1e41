"""The machine is described by torch, the driver and TensorRT's own package."""

import ctypes
import platform
import sys
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from refine_export.engine import machine
from refine_export.engine.machine import Machine, has_gpu_of, numbers_of, rtx_gpus, this_machine
from refine_export.errors import UnavailableError
from tests.support.engine_models import machine_of
from tests.support.refusals import refused


def test_versions_are_read_as_numbers():
    assert numbers_of("10.16.1.11") == (10, 16, 1, 11)
    assert numbers_of("11.4.0.post1") == (11, 4, 0)
    assert numbers_of("None") == numbers_of("") == ()


class Driver:
    """libcuda and libcudart with a GPU, or with an error in one of their calls."""

    def __init__(self, failing: str = "", cuda: int = 12090) -> None:
        self.failing, self.cuda = failing, cuda

    def cuInit(self, flags):
        return 100 if self.failing == "cuInit" else 0

    def cuDeviceGet(self, device, ordinal):
        return 101 if self.failing == "cuDeviceGet" else 0

    def cuDeviceGetName(self, buffer, size, device):
        buffer.value = b"NVIDIA L4"
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = {75: 8, 76: 9}[attribute]
        return 0

    def cuDriverGetVersion(self, value):
        """1000 * major + 10 * minor of the newest CUDA."""
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = self.cuda
        return 3 if self.failing == "cuDriverGetVersion" else 0

    cudaRuntimeGetVersion = cuDriverGetVersion


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Neither torch, nor wheels of TensorRT, nor libraries of NVIDIA: then add what the test has."""
    libraries: dict[str, Any] = {}

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine, "import_if_installed", lambda name: None)
    monkeypatch.setattr(machine.metadata, "version", missing)
    monkeypatch.setattr(machine, "_library", libraries.get)
    monkeypatch.setattr(machine, "_DRIVER_FILE", tmp_path / "version")
    return libraries


def fake_torch(cuda: str | None) -> Any:
    return SimpleNamespace(
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: cuda is not None,
            current_device=lambda: 1,
            get_device_name=lambda index: f"NVIDIA H200 no. {index}",
            get_device_capability=lambda index: (9, index),
        ),
    )


def test_torch_names_the_gpu_and_cuda(bare, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "import_if_installed", lambda name: fake_torch("13.0"))
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\nGCC version 13.2.0\n"
    )
    assert this_machine("11.4.0") == Machine(
        tensorrt="11.4.0",
        gpu="NVIDIA H200 no. 1",
        compute_capability=(9, 1),
        cuda=13,
        system=platform.system(),
        architecture=platform.machine(),
        driver="580.82.07",
    )


@pytest.mark.parametrize("torch", [None, fake_torch(None)], ids=["without torch", "torch for the CPU"])
def test_without_torch_the_driver_names_it(bare, monkeypatch, torch):
    monkeypatch.setattr(machine, "import_if_installed", lambda name: torch)
    bare["nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"] = bare["libcudart.so.12"] = Driver()
    found = this_machine("11.4.0")
    assert (found.gpu, found.capability, found.cuda, found.driver) == ("NVIDIA L4", "8.9", 12, None)


def test_no_gpu_and_no_cuda(bare):
    with refused("no-gpu", UnavailableError):
        this_machine("11.4.0")
    for call in ("cuInit", "cuDeviceGet"):
        bare["libcuda.so.1"] = Driver(call)
        with refused("no-gpu", UnavailableError):
            this_machine("11.4.0")
    bare["libcuda.so.1"] = Driver()
    with refused("no-cuda", UnavailableError):
        this_machine("11.4.0")


def test_an_rtx_engine_needs_a_gpu_that_it_is_for(monkeypatch):
    assert has_gpu_of(machine_of("11.4.0"))  # it is built for this one
    monkeypatch.setattr(machine, "current_gpu", lambda: ("NVIDIA GeForce RTX 4090", (8, 9)))
    assert has_gpu_of(rtx_gpus("1.7.1.116", ()))
    assert not has_gpu_of(rtx_gpus("1.7.1.116", ("sm120",)))
    monkeypatch.undo()
    monkeypatch.setattr(machine, "import_if_installed", lambda name: None)
    monkeypatch.setattr(machine, "_library", lambda name: None)
    assert not has_gpu_of(rtx_gpus("1.7.1.116", ()))


def test_the_driver_tells_its_newest_cuda_and_its_state(bare):
    assert (machine.driver_cuda(), machine.driver_status()) == (None, None)
    bare[machine.DRIVER_LIBRARY] = Driver()
    assert (machine.driver_cuda(), machine.driver_status()) == ((12, 9), 0)
    bare[machine.DRIVER_LIBRARY] = Driver("cuInit")
    assert machine.driver_status() == 100
    bare[machine.DRIVER_LIBRARY] = Driver("cuDriverGetVersion", cuda=13000)
    assert machine.driver_cuda() is None


@pytest.mark.parametrize(
    ("packages", "majors"),
    [
        ((), ()),
        (("tensorrt-cu13-libs",), (13,)),
        (("tensorrt-cu12", "tensorrt-cu13"), (13, 12)),
    ],
)
def test_wheels_of_tensorrt_tell_their_cuda(bare, monkeypatch, packages, majors):
    """Torch may be of another."""

    def version(name):
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return "11.4.0"

    monkeypatch.setattr(machine.metadata, "version", version)
    monkeypatch.setattr(machine, "import_if_installed", lambda name: fake_torch("12.8"))
    assert machine.tensorrt_cudas() == majors
    assert this_machine("11.4.0").cuda == (13 if majors else 12)
