"""A fake `tensorrt` for tests of control flow on machines without TensorRT.

It is no TensorRT and proves nothing about it: layers come from reading the ONNX, numbers from ONNX Runtime on the CPU
through pointers to host memory, and a "plan" is JSON behind the 28 bytes that a real plan starts with. What it does
imitate are the calls and their failures, as the bindings of 10.16 and 11.x have them (`tests/stubs/tensorrt`).

    trt = make_fake("11.4.0", failing={"execute_async_v3"})
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    trt.fake.failing.clear()  # a `Behaviour`, which can be changed at any time

A child process gets its own from `write_fake(folder, ...)`, with `folder` first in its PYTHONPATH.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from . import builder, callbacks, network, parser, refit, runtime, values
from .behaviour import CALLS, Behaviour
from .inspector import EngineInspector

__all__ = ["CALLS", "Behaviour", "make_fake", "write_fake"]

_EVERYWHERE = {
    values: """
        DataType Dims IHostMemory InterpolationMode SampleMode LayerType ErrorCode MemoryPoolType
        HardwareCompatibilityLevel ProfilingVerbosity TilingOptimizationLevel TensorIOMode TensorLocation
        LayerInformationFormat
    """,
    callbacks: "ILogger IProgressMonitor",
    network: "ITensor ILayer IGridSampleLayer INetworkDefinition",
    parser: "ParserError OnnxParser",
    builder: "IOptimizationProfile ITimingCache IBuilderConfig Builder",
    runtime: "ISerializationConfig ICudaEngine IExecutionContext Runtime",
    refit: "Refitter OnnxParserRefitter",
}


def make_fake(version: str = "11.4.0", **behaviour: Any) -> ModuleType:
    """A module to put into `sys.modules` as `tensorrt`; its `fake` is the `Behaviour` made of the arguments."""
    fake = Behaviour(version=version, **behaviour)
    module = fake.module = ModuleType("tensorrt", "A fake.")
    module.__spec__ = ModuleSpec("tensorrt", None)
    members = {name: getattr(source, name) for source, names in _EVERYWHERE.items() for name in names.split()}
    members |= {
        "__version__": version,
        "fake": fake,
        "EngineInspector": EngineInspector,
        "SerializationFlag": values.serialization_flags(fake.numbers),
        "NetworkDefinitionCreationFlag": values.enum_type(
            "NetworkDefinitionCreationFlag", values.CREATION_FLAGS[fake.major]
        ),
        "BuilderFlag": values.enum_type("BuilderFlag", {**values.BUILDER_FLAGS, **values.PRECISION_FLAGS[fake.major]}),
    }
    for name in ("Builder", "Runtime"):
        members[name] = type(name, (members[name],), {"_fake": fake, "__slots__": ()})
    vars(module).update(members)
    return module


def write_fake(folder: Path, version: str = "11.4.0", **behaviour: Any) -> Path:
    """Write `tensorrt.py` into `folder`, for a child process that has `folder` in its PYTHONPATH.

    Args:
        behaviour: as for `make_fake`, of values whose `repr` is Python.
    """
    path = folder / "tensorrt.py"
    path.write_text(
        "import sys\n"
        f"sys.path.append({str(Path(__file__).parents[3])!r})\n"
        "from tests.support.fake_tensorrt import make_fake\n"
        f"sys.modules[__name__] = make_fake({version!r}, **{behaviour!r})\n"
    )
    return path
