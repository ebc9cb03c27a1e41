"""What computed: versions and the machine, without paths or names of hosts and people."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from refine_export import __version__

EXPORTERS = ("torch", "onnx", "onnx-ir", "onnxscript", "numpy")
COMPARERS = ("torch", "onnxruntime-gpu", "onnxruntime", "numpy", "scikit-image")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed, and of this one."""
    found = {"refine-export": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Operating system and processor."""
    return {"system": f"{platform.system()} {platform.machine()}", "processor": _processor()}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
