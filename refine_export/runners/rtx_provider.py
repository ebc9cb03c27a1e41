"""ONNX Runtime's provider for TensorRT for RTX: a plugin in a package of its own, which brings that library along.

Checked with onnxruntime-gpu 1.31 and onnxruntime-ep-nv-tensorrt-rtx 0.5.0 on a machine without a driver, where the
plugin does not load (libcuda); not run on a GPU. Names of options are those of tensorrt_rtx_provider_options.h in that
package. It has no option for TF32.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from refine_export.errors import UnavailableError
from refine_export.support.imports import import_if_installed

NAME: Final = "NvTensorRTRTXExecutionProvider"
PLUGIN: Final = "onnxruntime_ep_nv_tensorrt_rtx"
INSTALL: Final = "pip install 'onnxruntime-gpu>=1.24' onnxruntime-ep-nv-tensorrt-rtx"


def add_provider(ort: Any, session_options: Any, device: int = 0, stream: int | None = None) -> None:
    """Make the provider the first one of a session.

    Args:
        ort: `onnxruntime`.
        session_options: an `onnxruntime.SessionOptions`, which is modified.
        device: index of the CUDA device.
        stream: a `cudaStream_t` for all kernels. Defaults to one of the provider's own.

    Raises:
        UnavailableError: `provider-not-built`: the plugin is missing, or ONNX Runtime is too old for plugins;
            `provider-not-loaded`: the plugin does not load, or finds no RTX GPU. The fields `reason` and `install` say
            why, and what adds it.
    """
    plugin, reason = import_if_installed(PLUGIN), ""
    if plugin is None:
        reason = f"the package {PLUGIN.replace('_', '-')} is not installed"
    elif not hasattr(ort, "register_execution_provider_library"):
        reason = "it takes no plugins, as 1.24 and later do"
    if reason:
        raise UnavailableError(_message(ort, reason), code="provider-not-built", **_fields(reason))
    devices: list[Any] = []
    try:
        _register(ort, plugin.get_ep_name(), plugin.get_library_path())
        devices = [one for one in ort.get_ep_devices() if one.ep_name == NAME]
        reason = f"it finds {len(devices)} RTX GPUs (Ampere and newer)"
    except Exception as error:  # onnxruntime's own exceptions share no base class but this one
        reason = " ".join(str(error).split())
    if len(devices) <= device:
        raise UnavailableError(_message(ort, reason), code="provider-not-loaded", **_fields(reason))
    session_options.add_provider_for_devices([devices[device]], provider_options(device, stream))


def provider_options(device: int, stream: int | None) -> dict[str, str]:
    """Return the options by the provider's names; all of its values are texts."""
    options = {"device_id": str(device)}
    return options if stream is None else options | {"has_user_compute_stream": "1", "user_compute_stream": str(stream)}


@functools.cache
def _register(ort: Any, name: str, library: str) -> None:
    """Load the plugin: a process may do so once."""
    ort.register_execution_provider_library(name, library)


def _message(ort: Any, reason: str) -> str:
    return (
        f"asked for {NAME}, onnxruntime {ort.__version__} cannot load it: {reason}; expected an RTX GPU with a driver "
        f"for CUDA 13, and the plugin: {INSTALL}"
    )


def _fields(reason: str) -> dict[str, str]:
    return {"provider": NAME, "reason": reason, "install": INSTALL}
