"""Versions of TensorRT and ONNX Runtime in the monthly containers of Triton, and where each is known from.

ONNX Runtime: the table in docs/introduction/compatibility.md of triton-inference-server/server (2026-08), for all.
TensorRT: NVIDIA's support matrix is the reference, and a container of Triton has the TensorRT of the month's other
containers (server issues #1786, #2293, #6959). What public text says of it is below, each with its source; what was
not found is None rather than a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refine_export.engine.machine import numbers_of

SUPPORT_MATRIX = "https://docs.nvidia.com/deeplearning/frameworks/support-matrix/index.html"
FIND_OUT = "docker run --rm nvcr.io/nvidia/tritonserver:YY.MM-py3 sh -c 'dpkg -l | grep nvinfer'"
"""Command that prints the version of TensorRT in a container."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A monthly container of Triton."""

    name: str
    """Such as `26.06`."""
    onnxruntime: str
    tensorrt: str | None
    """`11.0.0.114`, or `10.9` where the last numbers are not known; None where nothing is."""

    @property
    def image(self) -> str:
        """Name of the container with all backends that this package writes configs for."""
        return f"nvcr.io/nvidia/tritonserver:{self.name}-py3"

    def runs(self, built_by: str, *, version_compatible: bool = False) -> bool | None:
        """Return whether it runs an engine; None where its TensorRT is not known well enough.

        Args:
            built_by: the engine's TensorRT, such as `11.0.0.114`.
            version_compatible: the engine was built to run on newer TensorRT too.
        """
        engine, known = numbers_of(built_by), numbers_of(self.tensorrt or "")
        digits = min(len(engine), len(known))
        if engine[:digits] != known[:digits]:
            return version_compatible and engine[:digits] < known[:digits]
        return True if engine and len(known) >= min(len(engine), 4) else None


# TensorRT-LLM: docker/common/install_tensorrt.sh of NVIDIA/TensorRT-LLM. Model-Connect: the Dockerfile of
# NVIDIA/TensorRT-Model-Connect. Users: the container tensorrt:YY.MM-py3 as its users describe it.
_VERSIONS: Mapping[str, tuple[str, str | None]] = {
    "25.01": ("1.20.1", "10.8"),  # users, who give two versions of the last numbers
    "25.02": ("1.20.1", None),
    "25.03": ("1.21.0", "10.9.0.34"),  # TensorRT-LLM, aligned with 25.03
    "25.04": ("1.21.0", None),
    "25.05": ("1.22.0", None),
    "25.06": ("1.22.0", "10.11.0.33"),  # users
    "25.07": ("1.22.0", None),
    "25.08": ("1.23.0", None),
    "25.09": ("1.23.0", None),
    "25.10": ("1.23.1", None),
    "25.11": ("1.23.2", "10.14"),  # users
    "25.12": ("1.23.2", None),
    "26.01": ("1.23.2", None),
    "26.02": ("1.24.1", None),
    "26.03": ("1.24.2", "10.16.0.72"),  # users
    "26.04": ("1.24.4", None),
    "26.05": ("1.24.4", "10.16.1.11"),  # release notes of pytorch:26.05-py3 as its users quote them
    "26.06": ("1.24.4", "11.0.0.114"),  # users
    "26.07": ("1.27.0", "11.1.0.106"),  # Model-Connect, on tensorrt:26.07-py3
    "26.08": ("1.28.0", None),
}
RELEASES: Mapping[str, Release] = {
    name: Release(name=name, onnxruntime=onnxruntime, tensorrt=tensorrt)
    for name, (onnxruntime, tensorrt) in _VERSIONS.items()
}
"""Releases by name, oldest first."""
NEWEST = list(RELEASES)[-1]


def releases_with(tensorrt: str) -> list[Release]:
    """Return the releases that are known to have a version of TensorRT, oldest first."""
    return [release for release in RELEASES.values() if release.runs(tensorrt)]
