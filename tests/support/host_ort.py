"""For tests of ONNX Runtime on a GPU: the CPU provider behind a session that says otherwise."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnxruntime
import pytest
from onnx.parser import parse_model

from refine_export.runners import onnxruntime as runner_module
from tests.support.host_device import HostDevice

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class Session(onnxruntime.InferenceSession):
    """The real session on the CPU, which says that it is on the provider it was asked for."""

    made: ClassVar[list[Session]] = []
    loaded: ClassVar[list[str] | None] = None
    raises: ClassVar[Exception | None] = None
    assigned: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, source, options, **arguments):
        sys.stdout.write("*************** EP Error ***************\n")  # as the real one does
        if self.raises is not None:
            raise self.raises
        self.options, self.arguments, self.events = options, arguments, []
        super().__init__(source, options, providers=[CPU])
        Session.made.append(self)

    def get_providers(self):
        return self.loaded or [one if isinstance(one, str) else one[0] for one in self.arguments["providers"]]

    def get_provider_graph_assignment_info(self):
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda nodes=nodes: [SimpleNamespace(op_type=n) for n in nodes])
            for name, nodes in self.assigned.items()
        ]

    def run_with_iobinding(self, *arguments):
        self.events.append("run")
        return super().run_with_iobinding(*arguments)


@pytest.fixture(name="gpu")
def gpu_fixture(monkeypatch):
    """A machine whose GPU is the host; `Session` keeps what was asked for."""
    for name, value in {"made": [], "loaded": None, "raises": None, "assigned": {}}.items():
        monkeypatch.setattr(Session, name, value)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load libcublas.so.13\n"))
    monkeypatch.setattr(runner_module, "CudaDevice", HostDevice)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")


def model_of(body="y = Add (a, b)", dtype="float", size='"N", 3, "H"', out=None):
    return parse_model(
        f"""
        <ir_version: 9, opset_import: ["" : 18]>
        sums ({dtype}[{size}] a, {dtype}[{size}] b) => ({dtype}[{out or size}] y) {{ {body} }}
        """
    ).SerializeToString()


def feeds_of(dtype=np.float32, rows=4, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal((2, 3, rows)).astype(dtype) for name in ("b", "a")}
