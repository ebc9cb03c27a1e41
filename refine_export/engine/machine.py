"""The machine that builds or runs engines: GPU, CUDA, operating system."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from refine_export.engine.build_options import Target
from refine_export.errors import UnavailableError
from refine_export.support.imports import import_if_installed

CUDA_MAJORS = (13, 12, 11)
"""Newest first; TensorRT 10.12 to 11.4 come for these."""
DRIVER_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_DRIVER_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Machine that an engine is for: the one that builds it, or, for TensorRT for RTX, a set of GPUs."""

    library: Target = "trt"
    tensorrt: str
    """Full version of the library."""
    gpu: str
    """Name of the current CUDA device, such as `NVIDIA H200`; for rtx, `RTX GPUs`."""
    compute_capability: tuple[int, int] | None
    """None for an rtx engine, which is for several."""
    capabilities: str = ""
    """Those of an rtx engine: `sm86, sm89`, or `Ampere and newer`."""
    cuda: int | None
    """Major version; None for rtx, which brings its own compiler."""
    system: str
    architecture: str
    driver: str | None = None
    """Version for information: engines do not depend on it."""

    @property
    def capability(self) -> str:
        """The compute capability as text, such as `9.0`."""
        return self.capabilities if self.compute_capability is None else "{}.{}".format(*self.compute_capability)


def this_machine(version: str, library: Target = "trt") -> Machine:
    """Describe this machine.

    Args:
        version: of the library.
        library: which one.

    Raises:
        UnavailableError: `no-gpu`, or `no-cuda`.
    """
    gpu, capability = current_gpu()
    return Machine(
        library=library,
        tensorrt=version,
        gpu=gpu,
        compute_capability=capability,
        cuda=_cuda_major() if library == "trt" else None,
        system=platform.system(),
        architecture=platform.machine(),
        driver=_driver(),
    )


def rtx_gpus(version: str, capabilities: tuple[str, ...]) -> Machine:
    """Describe the GPUs that an engine of TensorRT for RTX is for; it runs on Linux and Windows.

    Args:
        version: of the library.
        capabilities: such as `sm89`; none means Ampere and newer.
    """
    return Machine(
        library="rtx",
        tensorrt=version,
        gpu="RTX GPUs",
        compute_capability=None,
        capabilities=", ".join(capabilities) or "Ampere and newer",
        cuda=None,
        system="any",
        architecture=platform.machine(),
    )


def has_gpu_of(built_for: Machine) -> bool:
    """Return whether this machine has a GPU that an engine runs on; one that was built for this machine does."""
    if built_for.library == "trt":
        return True
    try:
        return runs_on(built_for.capability, current_gpu()[1])
    except UnavailableError:
        return False


def runs_on(capabilities: str, capability: tuple[int, int]) -> bool:
    """Return whether an rtx engine for `capabilities` runs on a GPU of this compute capability; Hopper is none."""
    if capability[0] == 9:
        return False
    named = "sm{}{}".format(*capability)
    return capability >= (8, 0) if capabilities.startswith("Ampere") else named in capabilities.split(", ")


def numbers_of(version: str) -> tuple[int, ...]:
    """Return `10.16.1.11` as numbers; what follows them (`.post1`) is left out."""
    found = re.match(r"(\d+\.)*\d+|", version)
    return tuple(int(number) for number in found[0].split(".") if number) if found else ()


def current_gpu() -> tuple[str, tuple[int, int]]:
    """Return name and compute capability of the GPU: torch's current one, else the driver's first.

    Raises:
        UnavailableError: `no-gpu`.
    """
    torch = import_if_installed("torch")
    if torch is not None and torch.cuda.is_available():
        index = torch.cuda.current_device()
        major, minor = torch.cuda.get_device_capability(index)
        return str(torch.cuda.get_device_name(index)), (int(major), int(minor))
    driver = _library(DRIVER_LIBRARY)
    if driver is None:
        raise UnavailableError(
            "no GPU is found: NVIDIA's driver library (libcuda) is missing; install the driver, or start the "
            "container with --gpus all",
            code="no-gpu",
        )
    device, name, values = ctypes.c_int(), ctypes.create_string_buffer(256), (ctypes.c_int(), ctypes.c_int())
    _ask("cuInit", driver.cuInit(0))
    _ask("cuDeviceGet", driver.cuDeviceGet(ctypes.byref(device), 0))
    _ask("cuDeviceGetName", driver.cuDeviceGetName(name, len(name), device))
    for value, attribute in zip(values, (_MAJOR, _MINOR), strict=True):
        _ask("cuDeviceGetAttribute", driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device))
    return name.value.decode(errors="replace"), (values[0].value, values[1].value)


def driver_status() -> int | None:
    """Return the driver's answer to cuInit: 0 with a GPU, else a CUresult (100: no device); None without a driver."""
    driver = _library(DRIVER_LIBRARY)
    return None if driver is None else int(driver.cuInit(0))


def driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA that the driver runs, such as (13, 0); it runs the older ones too."""
    driver, number = _library(DRIVER_LIBRARY), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(number)):
        return None
    return number.value // 1000, number.value % 1000 // 10


def tensorrt_cudas() -> tuple[int, ...]:
    """Return the CUDA majors that wheels of TensorRT are installed for, newest first."""
    found = []
    for major in CUDA_MAJORS:
        for package in (f"tensorrt-cu{major}", f"tensorrt-cu{major}-libs"):
            try:
                metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
            found.append(major)
            break
    return tuple(found)


def _ask(call: str, status: int) -> None:
    if status:
        raise UnavailableError(
            f"no GPU is found: {call} of NVIDIA's driver failed with CUresult {status} (100 is: no device, 3 and 999: "
            "not started); check nvidia-smi and CUDA_VISIBLE_DEVICES",
            code="no-gpu",
        )


def _cuda_major() -> int:
    """Return the CUDA major of TensorRT's own wheel, else of torch, else of the CUDA runtime library."""
    if wheels := tensorrt_cudas():
        return wheels[0]
    torch = import_if_installed("torch")
    if torch is not None and torch.version.cuda:
        return int(str(torch.version.cuda).partition(".")[0])
    for name in ("libcudart.so", *(f"libcudart.so.{major}" for major in CUDA_MAJORS)):
        library, number = _library(name), ctypes.c_int()
        if library is not None and library.cudaRuntimeGetVersion(ctypes.byref(number)) == 0:
            return number.value // 1000
    raise UnavailableError(
        "the CUDA version is not known: neither a tensorrt-cu12 or tensorrt-cu13 package, nor torch with CUDA, nor "
        "libcudart is found; install one: pip install tensorrt",
        code="no-cuda",
    )


def _library(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _driver() -> str | None:
    try:
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", _DRIVER_FILE.read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return None
    return found[0] if found else None
