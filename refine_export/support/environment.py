"""Versions and the machine that made an artifact, without names of paths, hosts or people."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from refine_export import __version__
from refine_export.support.imports import import_if_installed

EXPORTERS = ("torch", "onnx", "onnx-ir", "onnxscript", "numpy")
LOWERERS = ("torch", "onnx", "onnx-ir", "onnxruntime-gpu", "onnxruntime", "numpy")
COMPARERS = ("torch", "onnxruntime-gpu", "onnxruntime", "numpy", "scikit-image")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of this package, of Python, and of those packages that are installed."""
    found = {"refine-export": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Return operating system, processor and GPU."""
    system = f"{platform.system()} {platform.machine()}"
    return {"system": system, "processor": _processor(), "gpu": gpu_name() or "none that torch finds"}


def gpu_name() -> str | None:
    """Return the name of the first CUDA device, where torch finds one."""
    torch = import_if_installed("torch")
    return str(torch.cuda.get_device_name(0)) if torch is not None and torch.cuda.is_available() else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
