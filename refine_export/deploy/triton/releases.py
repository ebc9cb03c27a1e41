"""Which TensorRT and ONNX Runtime the containers of Triton have, month by month, and how it is known.

ONNX Runtime: the table in docs/introduction/compatibility.md of triton-inference-server/server (2026-08), for all.
TensorRT: NVIDIA's support matrix is the reference, https://docs.nvidia.com/deeplearning/frameworks/support-matrix ,
and a container of Triton has the TensorRT of the month's other containers (server issues #1786, #2293, #6959). What
was found of it in public text is below, each with what it says; what was not found is None, and is not guessed:

    docker run --rm nvcr.io/nvidia/tritonserver:YY.MM-py3 sh -c 'dpkg -l | grep nvinfer'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SUPPORT_MATRIX = "https://docs.nvidia.com/deeplearning/frameworks/support-matrix/index.html"
FIND_OUT = "docker run --rm nvcr.io/nvidia/tritonserver:YY.MM-py3 sh -c 'dpkg -l | grep nvinfer'"
"""Prints the version of TensorRT in a container."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A monthly container of Triton."""

    name: str
    """Such as `26.06`."""
    onnxruntime: str
    tensorrt: str | None
    """As far as it is known: `11.0.0.114`, or `10.9` where the last numbers are not."""
    source: str
    """Where the version of TensorRT is from."""

    @property
    def image(self) -> str:
        """The container's name, with all backends that this package writes configs for."""
        return f"nvcr.io/nvidia/tritonserver:{self.name}-py3"

    def runs(self, tensorrt: str) -> bool | None:
        """Whether it has this version of TensorRT, such as `11.0.0.114`; None where that is not known."""
        if self.tensorrt is None:
            return None
        known, asked = self.tensorrt.split("."), tensorrt.split(".")
        common = min(len(known), len(asked))
        if known[:common] != asked[:common]:
            return False
        return True if len(known) >= min(len(asked), 4) else None


_NOT_FOUND = "not found"
_TENSORRT: Mapping[str, tuple[str, str]] = {
    "25.01": ("10.8", "tensorrt:25.01-py3 as its users describe it; the last numbers are told in two ways"),
    "25.03": ("10.9.0.34", "docker/common/install_tensorrt.sh of NVIDIA/TensorRT-LLM, aligned with 25.03"),
    "25.06": ("10.11.0.33", "tensorrt:25.06-py3 as its users describe it"),
    "25.11": ("10.14", "tensorrt:25.11-py3 as its users describe it"),
    "26.03": ("10.16.0.72", "tensorrt:26.03-py3 as its users describe it"),
    "26.05": ("10.16.1.11", "release notes of pytorch:26.05-py3 as its users quote them"),
    "26.06": ("11.0.0.114", "tensorrt:26.06-py3 as its users describe it"),
    "26.07": ("11.1.0.106", "Dockerfile of NVIDIA/TensorRT-Model-Connect, on tensorrt:26.07-py3"),
}
_ONNXRUNTIME: Mapping[str, str] = {
    "25.01": "1.20.1",
    "25.02": "1.20.1",
    "25.03": "1.21.0",
    "25.04": "1.21.0",
    "25.05": "1.22.0",
    "25.06": "1.22.0",
    "25.07": "1.22.0",
    "25.08": "1.23.0",
    "25.09": "1.23.0",
    "25.10": "1.23.1",
    "25.11": "1.23.2",
    "25.12": "1.23.2",
    "26.01": "1.23.2",
    "26.02": "1.24.1",
    "26.03": "1.24.2",
    "26.04": "1.24.4",
    "26.05": "1.24.4",
    "26.06": "1.24.4",
    "26.07": "1.27.0",
    "26.08": "1.28.0",
}
RELEASES: Mapping[str, Release] = {
    name: Release(name=name, onnxruntime=version, tensorrt=known, source=source)
    for name, version in _ONNXRUNTIME.items()
    for known, source in [_TENSORRT.get(name, (None, _NOT_FOUND))]
}
"""By name, oldest first."""
NEWEST = list(RELEASES)[-1]


def releases_with(tensorrt: str) -> list[Release]:
    """The releases that are known to have a version of TensorRT, oldest first."""
    return [release for release in RELEASES.values() if release.runs(tensorrt)]
