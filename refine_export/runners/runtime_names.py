"""Names of the runtimes of ONNX files, as options and reports have them; `--help` loads this module."""

from typing import Literal

Runtime = Literal["onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "half"]
"""ONNX Runtime on one of its providers, or `half`: the strict FP16 runner on a CPU."""
