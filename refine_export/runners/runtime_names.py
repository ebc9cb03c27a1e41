"""Names of runtimes, as options and reports have them; `--help` loads this module."""

from collections.abc import Mapping
from typing import Literal

Runtime = Literal["onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-rtx", "half"]
"""ONNX Runtime on one of its providers, or `half`: the strict FP16 runner on a CPU."""

RequiredRuntime = Literal["torch", "ort", "trt", "rtx"]
"""A runtime that a verdict can be made to depend on."""
REQUIRED_NAMES: Mapping[RequiredRuntime, str] = {
    "torch": "torch",
    "ort": "ONNX Runtime",
    "trt": "TensorRT",
    "rtx": "TensorRT for RTX",
}
"""The same in reports and messages."""
