"""A fake `tensorrt` for what TensorRT for RTX cannot do without a GPU: execution, refits, timing caches, failures.

Parser, network, configuration, profiles, enumerations and callbacks are those of the real `tensorrt_rtx`. What is
built is a "plan" of JSON behind the 28 bytes that a real one starts with, and its numbers come from ONNX Runtime on the
CPU, through pointers to host memory. What the fake adds, and where enterprise TensorRT differs, is read in the bindings
of 10.16 and 11.x (`tests/stubs/tensorrt`); `test_fake_tensorrt.py` compares it with the real classes.

    trt = make_fake("11.4.0", failing={"execute_async_v3"})
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    trt.fake.failing.clear()  # a `Behaviour`, which can be changed at any time

A child process gets its own from `write_fake(folder, ...)`, with `folder` first in its PYTHONPATH.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

try:
    import tensorrt_rtx as rtx
except ImportError:
    import pytest  # in the parent; a child, which is spared the import of pytest, has it installed

    pytest.skip("tensorrt-rtx is not installed: pip install tensorrt-rtx", allow_module_level=True)

from . import builder, refit, runtime
from .behaviour import CALLS, Behaviour
from .inspector import EngineInspector

__all__ = ["CALLS", "Behaviour", "make_fake", "write_fake"]

FAKED = {
    builder: "Builder IBuilderConfig ITimingCache OnnxParser",
    runtime: "Runtime ICudaEngine IExecutionContext ISerializationConfig",
    refit: "Refitter OnnxParserRefitter",
}


def make_fake(version: str = "11.4.0", **behaviour: Any) -> ModuleType:
    """A module to put into `sys.modules` as `tensorrt`; its `fake` is the `Behaviour` made of the arguments."""
    fake = Behaviour(version=version, **behaviour)
    module = fake.module = ModuleType("tensorrt", "A fake.")
    vars(module).update({name: value for name, value in vars(rtx).items() if not name.startswith("__")})
    module.__spec__ = ModuleSpec("tensorrt", None)
    module.__version__, module.fake, module.EngineInspector = version, fake, EngineInspector
    for source, names in FAKED.items():
        for name in names.split():
            setattr(module, name, getattr(source, name))
    for name in ("Builder", "OnnxParser", "Runtime"):
        setattr(module, name, type(name, (getattr(module, name),), {"_fake": fake}))
    if fake.numbers < (10, 14):
        flags = {name: flag for name, flag in rtx.SerializationFlag.__members__.items() if name != "INCLUDE_REFIT"}
        module.SerializationFlag = SimpleNamespace(__members__=flags, **flags)
    return module


def write_fake(folder: Path, version: str = "11.4.0", code: str = "", **behaviour: Any) -> Path:
    """Write `tensorrt.py` into `folder`, for a child process that has `folder` in its PYTHONPATH.

    Args:
        code: runs in the child after the fake is made.
        behaviour: as for `make_fake`, of values whose `repr` is Python.
    """
    path = folder / "tensorrt.py"
    path.write_text(
        "import sys\n"
        f"sys.path.append({str(Path(__file__).parents[3])!r})\n"
        "from tests.support.fake_tensorrt import make_fake\n"
        f"sys.modules[__name__] = make_fake({version!r}, **{behaviour!r})\n{code}"
    )
    return path
