"""A fake `tensorrt` for what TensorRT for RTX cannot do without a GPU: execution, inspection, refits, timing caches.

Parser, network, configuration, profiles, enumerations and callbacks are those of the real `tensorrt_rtx`. What is
built is a "plan" of JSON behind the 28 bytes that a real one starts with, and its numbers come from ONNX Runtime on the
CPU, through pointers to host memory. What the fake adds, and where enterprise TensorRT differs, is read in the bindings
of 10.16 and 11.x (`tests/stubs/tensorrt`); `test_fake_tensorrt.py` compares it with the real classes.

    trt = make_fake("11.4.0")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(trt.IExecutionContext, "execute_async_v3", lambda context, stream: False)

A child process gets its own from `write_fake`, or the real library from `write_real`, with a folder first in its
PYTHONPATH.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    import tensorrt_rtx as rtx
except ImportError:
    import pytest  # in the parent; a child, which is spared the import of pytest, has it installed

    pytest.skip("tensorrt-rtx is not installed: pip install tensorrt-rtx", allow_module_level=True)

from .builder import Builder, IBuilderConfig, ITimingCache, OnnxParser
from .inspector import EngineInspector
from .refit import OnnxParserRefitter, Refitter
from .runtime import ICudaEngine, IExecutionContext, ISerializationConfig, Runtime

__all__ = ["FAKED", "make_fake", "write_fake", "write_real"]

FAKED = (
    *(Builder, IBuilderConfig, ITimingCache, OnnxParser, EngineInspector, OnnxParserRefitter, Refitter),
    *(ICudaEngine, IExecutionContext, ISerializationConfig, Runtime),
)


def make_fake(version: str = "11.4.0", error: float = 0.0) -> Any:
    """Return a module to put into `sys.modules` as `tensorrt`.

    Args:
        version: its first number chooses between the forms of the inspector.
        error: what engines that it builds add to their outputs.
    """
    module: Any = ModuleType("tensorrt", "A fake.")
    vars(module).update({name: value for name, value in vars(rtx).items() if not name.startswith("__")})
    module.__spec__, module.__version__, module.error, module.parsed = ModuleSpec("tensorrt", None), version, error, {}
    for made in FAKED:
        setattr(module, made.__name__, type(made.__name__, (made,), {"_trt": module}))
    return module


def write_fake(folder: Path, version: str = "11.4.0", code: str = "", **behaviour: float) -> None:
    """Write a fake `tensorrt` into `folder`, for a child process that has `folder` in its PYTHONPATH.

    Args:
        code: runs in the child, with the fake as `trt`.
        behaviour: as for `make_fake`.
    """
    (folder / "tensorrt.py").write_text(
        f"import sys\nsys.path.append({str(Path(__file__).parents[3])!r})\n"
        "from tests.support.fake_tensorrt import make_fake\n"
        f"trt = sys.modules[__name__] = make_fake({version!r}, **{behaviour!r})\n{code}"
    )


def write_real(folder: Path, code: str) -> None:
    """Write a `tensorrt_rtx` into `folder` that is the real one as `trt`, after `code` has run in the child."""
    (folder / "tensorrt_rtx.py").write_text(
        f"import sys\nsys.path.remove({str(folder)!r})\ndel sys.modules[__name__]\nimport tensorrt_rtx as trt\n{code}"
    )
