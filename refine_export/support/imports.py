"""Packages that a stage needs and a machine may lack."""

import platform
import sys
from importlib import import_module
from typing import Any, Literal

from refine_export.errors import UnavailableError

Extra = Literal["torch", "ort", "trt", "rtx", "triton", "video", "ssim", "page"]

# Wheels of onnxruntime-gpu exist for these two; they run on a CPU too.
_HAS_GPU_WHEELS = (sys.platform, platform.machine()) in (("linux", "x86_64"), ("win32", "AMD64"))

# What the extras of pyproject.toml bring. This package is on no index, so `refine-export[torch]` installs nothing.
_PACKAGES: dict[Extra, str] = {
    "torch": "torch onnxscript safetensors",
    "ort": "onnxruntime-gpu" if _HAS_GPU_WHEELS else "onnxruntime",
    "trt": "tensorrt",
    "rtx": "tensorrt-rtx",
    "triton": "'tritonclient[grpc,http]'",
    "video": "av",
    "ssim": "scikit-image",
    "page": "gradio",
}


def pip_install(extra: Extra) -> str:
    """Return the command that installs what an extra of this package brings."""
    return f"pip install {_PACKAGES[extra]}"


def require(module: str, *, extra: Extra) -> Any:
    """Import an optional module.

    Raises:
        UnavailableError: `missing-package`; the module, or one that it needs, cannot be imported.
    """
    try:
        return import_module(module)
    except Exception as error:  # a library that is installed but broken raises OSError, RuntimeError and others
        command = pip_install(extra)
        if extra == "ort" and _HAS_GPU_WHEELS:
            command += " (onnxruntime is enough without an NVIDIA GPU)"
        message = f"this needs {module}, which cannot be imported here ({error}); install it with: {command}"
        raise UnavailableError(message, code="missing-package", module=module, extra=extra) from error


def import_if_installed(module: str) -> Any:
    """Import a module if that is possible, else return None."""
    try:
        return import_module(module)
    except Exception:  # as above
        return None
