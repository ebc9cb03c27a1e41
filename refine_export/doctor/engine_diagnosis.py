"""Try what engines need: GPU, driver, TensorRT and its CUDA.

Install commands by NVIDIA's guide for 10.16 to 11.4: `tensorrt` is the package for CUDA 13, `tensorrt-cu12` the one for
CUDA 12; both bring a module of the same name, so that one has to go before the other comes.
"""

from __future__ import annotations

import os
import platform
import warnings
from dataclasses import dataclass
from typing import Any

from refine_export.engine import bindings as seam
from refine_export.engine.machine import (
    DRIVER_LIBRARY,
    current_gpu,
    driver_cuda,
    driver_status,
    numbers_of,
    tensorrt_cudas,
)
from refine_export.errors import UnavailableError
from refine_export.support.imports import import_if_installed, pip_install, require

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_DRIVERS = "https://www.nvidia.com/drivers"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One ability of this machine."""

    name: str
    works: bool
    found: str
    """State of the machine, or what went wrong."""
    enables: str
    """Stages that need it."""
    add: str | None = None
    """Command, or advice, that adds it where it is missing."""


def gpu() -> Check:
    """Ask the driver for a GPU."""
    name, enables = "GPU", "CUDA runtimes and engines"
    trouble = _gpu_trouble()
    if trouble is None:
        try:
            model, capability = current_gpu()
        except UnavailableError as error:  # the driver answers, but not to this
            trouble = str(error), f"a newer driver: {_DRIVERS}"
        else:
            found = f"{model}, of compute capability {'.'.join(map(str, capability))}, with a driver {_driver_reach()}"
            return Check(name=name, works=True, found=found, enables=enables)
    return Check(name=name, works=False, found=trouble[0], enables=enables, add=trouble[1])


def torch_cuda() -> Check:
    """Check for a torch that runs on the GPU."""
    name, enables = "torch, CUDA", "CUDA runtimes, and engines with tensors of torch"
    torch = import_if_installed("torch")
    if torch is None:
        add = pip_install("torch")
        return Check(name=name, works=False, found="torch is not installed", enables=enables, add=add)
    built = torch.version.cuda
    found = f"torch {torch.__version__} is built for {f'CUDA {built}' if built else 'CPU only'}"
    driver = driver_cuda()
    if built is None:
        return Check(name=name, works=False, found=found, enables=enables, add=_install_torch(driver))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what is reported here
        works = bool(torch.cuda.is_available())
    if works:
        return Check(name=name, works=True, found=found, enables=enables)
    if trouble := _gpu_trouble():
        found, add = f"{found}, but {trouble[0]}", trouble[1]
    elif driver is not None and driver < numbers_of(built)[:1]:
        found, add = f"{found}, the driver is {_driver_reach()}", _install_torch(driver)
    else:
        found, add = f"{found}, but finds no GPU that it can use", _install_torch(driver)
    return Check(name=name, works=False, found=found, enables=enables, add=add)


def tensorrt() -> Check:
    """Check for a TensorRT whose version and CUDA fit, and for a GPU that it makes a builder for."""
    try:
        found, add = _tensorrt()
    except Exception as error:  # whatever a broken installation raises is the finding
        found, add = f"tensorrt is installed, but fails: {error}", _reinstall(tensorrt_cudas(), driver_cuda())
    return Check(name="TensorRT", works=add is None, found=found, enables="building and running engines", add=add)


def tensorrt_rtx() -> Check:
    """Check for a TensorRT for RTX, which builds without a GPU."""
    try:
        found, add = f"tensorrt-rtx {seam.load_library('rtx').module.__version__}", None
    except UnavailableError as error:
        missing = isinstance(error.__cause__, ModuleNotFoundError)
        found, add = "tensorrt-rtx is not installed" if missing else str(error), f"{pip_install('rtx')} --upgrade"
    enables = "building engines for GeForce and RTX PRO GPUs, without a GPU"
    return Check(name="TensorRT for RTX", works=add is None, found=found, enables=enables, add=add)


def _tensorrt() -> tuple[str, str | None]:
    """Return what is found, and the command where it is not enough."""
    wheels, driver = tensorrt_cudas(), driver_cuda()
    try:
        module = require("tensorrt", extra="trt")
    except UnavailableError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == "tensorrt" and not wheels:
            return _missing(driver)
        return f"tensorrt is installed, but cannot be imported: {error.__cause__}", _reinstall(wheels, driver)
    version = f"tensorrt {module.__version__}"
    if len(wheels) > 1:
        kinds = " and ".join(f"CUDA {major}" for major in wheels)
        return f"{version} is installed for {kinds} at once, each over the other's files", _reinstall(wheels, driver)
    numbers = numbers_of(str(module.__version__))
    if numbers[:2] < seam.OLDEST or numbers[0] > seam.NEWEST_MAJOR:
        oldest = ".".join(map(str, seam.OLDEST))
        found = f"{version} is installed; engines are built with {oldest} to {seam.NEWEST_MAJOR}.x"
        return found, _reinstall(wheels, driver)
    if wheels:
        version += f" for CUDA {wheels[0]}"
        torch = import_if_installed("torch")
        torch_major = _major(torch)
        if driver is not None and wheels[0] > driver[0]:
            return f"{version} is installed, the driver is {_driver_reach()}", _reinstall(wheels, driver)
        if torch_major is not None and torch_major != wheels[0]:
            found = (
                f"{version} is installed, but torch {torch.__version__} is for CUDA {torch_major}; they share a process"
            )
            return found, _reinstall(wheels, driver)
    if trouble := _gpu_trouble():
        return f"{version} is installed, but {trouble[0]}", trouble[1]
    try:
        seam.builder_of(module, seam.Log(module))
    except UnavailableError as error:
        return f"{version} is installed, but makes no builder: {error}", f"a newer driver: {_DRIVERS}"
    return version, None


def _missing(driver: tuple[int, int] | None) -> tuple[str, str]:
    if platform.system() not in ("Linux", "Windows"):
        add = "a machine with Linux or Windows and an NVIDIA GPU"
        return f"tensorrt is not installed, and NVIDIA has none for {platform.system()}", add
    if _gpu_trouble():
        add = f"an NVIDIA GPU; without one, TensorRT for RTX builds engines for RTX GPUs: {pip_install('rtx')}"
        return "tensorrt is not installed", add
    return "tensorrt is not installed", _install(driver)


def _install(driver: tuple[int, int] | None) -> str:
    """Return the pip command for torch's CUDA, or for the driver's where torch has none or one that is too new."""
    wanted = _major(import_if_installed("torch"))
    if driver is not None and (wanted is None or wanted > driver[0]):
        wanted = driver[0]
    if wanted == 12:
        return "pip install 'tensorrt-cu12>=10.12,<12'"
    if wanted is not None and wanted < 12:
        return f"a driver for CUDA 12 or 13 ({_DRIVERS}), then {pip_install('trt')}"
    return pip_install("trt")


def _reinstall(wheels: tuple[int, ...], driver: tuple[int, int] | None) -> str:
    packages = " ".join(f"tensorrt-cu{cuda} tensorrt-cu{cuda}-libs tensorrt-cu{cuda}-bindings" for cuda in wheels)
    return f"pip uninstall -y {' '.join(['tensorrt', packages]).strip()} && {_install(driver)}"


def _install_torch(driver: tuple[int, int] | None) -> str:
    if driver is not None and driver[0] < 12:
        return f"a driver for CUDA 12 or 13: {_DRIVERS}"
    cuda = 12 if driver is not None and driver[0] < 13 else 13
    return f"torch built for CUDA {cuda}: https://pytorch.org/get-started has the pip command"


def _gpu_trouble() -> tuple[str, str] | None:
    """Return why no GPU can be used, and what to do; None where one can."""
    status = driver_status()
    if status == 0:
        return None
    container = "in a container, start it with: docker run --gpus all"
    if status is None:
        found = f"no GPU can be used: NVIDIA's driver library {DRIVER_LIBRARY} is not found"
        return found, f"NVIDIA's driver from {_DRIVERS}; {container}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if status == _NO_DEVICE and hidden is not None:
        return f"no GPU can be used: CUDA_VISIBLE_DEVICES={hidden!r} hides all there are", "unset CUDA_VISIBLE_DEVICES"
    if status == _NO_DEVICE:
        found = f"no GPU can be used: NVIDIA's driver, {_driver_reach()}, finds none"
        return found, f"an NVIDIA GPU that nvidia-smi lists; {container}"
    found = f"no GPU can be used: NVIDIA's driver does not start (cuInit gives CUresult {status})"
    return found, "a restart of the machine, which reloads the driver's kernel module; then look at nvidia-smi"


def _driver_reach() -> str:
    known = driver_cuda()
    return "for CUDA up to {}.{}".format(*known) if known else "whose CUDA version is not known"


def _major(torch: Any) -> int | None:
    """Return the major version of the CUDA that torch is built for."""
    return None if torch is None or not torch.version.cuda else numbers_of(str(torch.version.cuda))[0]
