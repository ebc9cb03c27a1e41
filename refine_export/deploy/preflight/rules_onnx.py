"""Rules on ONNX files that a model serves: by ONNX Runtime's backend, or by a model.py that they lie beside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from refine_export.deploy.preflight.findings import Finding
from refine_export.deploy.preflight.repository_reader import Model, why_unreadable
from refine_export.deploy.preflight.rules_tensors import ArtifactTensors, Tensor, compare_tensors
from refine_export.deploy.triton.names import ONNX_FILE
from refine_export.errors import GraphError
from refine_export.graph.linter import lint_file
from refine_export.graph.model_file import load_model

_TYPES = {"FLOAT": "FP32", "DOUBLE": "FP64", "FLOAT16": "FP16", "BFLOAT16": "BF16"}
_SAME = ("STRING", "BOOL", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)))
"""Types that have one name in ONNX and in Triton."""


def onnx_files(model: Model) -> list[Path]:
    """Return the ONNX files of all versions that can be opened; `check_files` reports the others."""
    if model.backend == "onnxruntime":
        return model.readable_files()
    paths = [folder / ONNX_FILE for folder in model.versions.values()] if model.backend == "python" else []
    return [path for path in paths if why_unreadable(path, model.root) is None]


def check_onnx(model: Model) -> Iterator[Finding]:
    """Check that each file is complete and has the config's tensors; lint those that TensorRT parses."""
    accelerators = model.config.optimization.execution_accelerators.gpu_execution_accelerator
    for path in onnx_files(model):
        where = model.where(path)
        try:
            graph = load_model(path).graph
            weights = {tensor.name for tensor in graph.initializer}
            artifact = ArtifactTensors(
                where=where,
                # A name that is not UTF-8 comes as bytes.
                inputs={str(value.name): _tensor(value) for value in graph.input if value.name not in weights},
                outputs={str(value.name): _tensor(value) for value in graph.output},
            )
            yield from compare_tensors(model, artifact)
            if any(accelerator.name == "tensorrt" for accelerator in accelerators):
                yield from _lint(model, path)
        except GraphError as error:
            yield model.found("onnx-file", where, str(error))


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    known = tensor.elem_type in onnx.TensorProto.DataType.values()
    name = onnx.TensorProto.DataType.Name(tensor.elem_type) if known else ""
    name = name if name in _SAME else _TYPES.get(name, "")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return Tensor(types=(f"TYPE_{name}",) if name else (), shape=shape if tensor.HasField("shape") else None)


def _lint(model: Model, path: Path) -> Iterator[Finding]:
    for one in lint_file(path):
        yield Finding(
            rule=one.rule,
            severity=one.severity,
            model=model.name,
            where=f"{model.where(path)}: {one.node}" if one.node else model.where(path),
            message=one.message,
            why=one.why,
            fix=one.fix,
        )
