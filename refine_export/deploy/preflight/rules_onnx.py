"""Rules on ONNX files that a model serves: by ONNX Runtime's backend, or by a model.py that they lie beside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from refine_export.deploy.preflight.repository_reader import MODEL_BYTES, Model, unreadable
from refine_export.deploy.preflight.rules_files import files_of
from refine_export.deploy.preflight.rules_tensors import Artifact, Tensor, compare
from refine_export.deploy.preflight.rules_text import Finding
from refine_export.deploy.triton.names import ONNX_FILE
from refine_export.errors import GraphError

if TYPE_CHECKING:
    import onnx

_TYPES: Final = {
    "FLOAT": "TYPE_FP32",
    "DOUBLE": "TYPE_FP64",
    "FLOAT16": "TYPE_FP16",
    "BFLOAT16": "TYPE_BF16",
    "STRING": "TYPE_STRING",
    "BOOL": "TYPE_BOOL",
} | {f"{sign}INT{bits}": f"TYPE_{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}


def onnx_files(model: Model) -> list[Path]:
    """The ONNX files of all versions that can be opened; what is wrong with the others is said by `model_files`."""
    if model.backend == "onnxruntime":
        paths = [path for folder in model.versions.values() for path in files_of(model, folder)]
    elif model.backend == "python":
        paths = [path for folder in model.versions.values() if (path := folder / ONNX_FILE).exists()]
    else:
        paths = []
    return [path for path in paths if unreadable(path, model.root, MODEL_BYTES) is None]


def check_onnx(model: Model) -> Iterator[Finding]:
    """Each file is whole and has the config's tensors; the lint passes where TensorRT is to parse it."""
    accelerators = model.config.optimization.execution_accelerators.gpu_execution_accelerator
    for path in onnx_files(model):
        where = model.where(path)
        try:
            loaded = loaded_onnx(path)
        except GraphError as error:
            yield model.found("onnx-file", where, str(error))
            continue
        yield from compare(model, _artifact(loaded, where))
        if any(accelerator.name == "tensorrt" for accelerator in accelerators):
            yield from _lint(model, path)


def loaded_onnx(path: Path) -> onnx.ModelProto:
    """A model with its external data, which have to be there and whole.

    Raises:
        GraphError: no ONNX file, or not a whole one.
    """
    from refine_export.graph.model_file import load_external_data, model_from_file

    loaded = model_from_file(path)
    for named in (*loaded.graph.input, *loaded.graph.output, *loaded.graph.initializer):
        if not isinstance(named.name, str):  # protobuf gives bytes where a string is no UTF-8
            raise GraphError(f"{path} is damaged: the name {named.name!r} is no UTF-8; copy or export it again")
    load_external_data(loaded, path.parent)
    return loaded


def _artifact(loaded: onnx.ModelProto, where: str) -> Artifact:
    weights = {tensor.name for tensor in loaded.graph.initializer}
    return Artifact(
        where=where,
        inputs={value.name: _tensor(value) for value in loaded.graph.input if value.name not in weights},
        outputs={value.name: _tensor(value) for value in loaded.graph.output},
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    import onnx

    tensor = value.type.tensor_type
    known = tensor.elem_type in onnx.TensorProto.DataType.values()
    name = _TYPES.get(onnx.TensorProto.DataType.Name(tensor.elem_type)) if known else None
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return Tensor(types=(name,) if name else (), shape=shape if tensor.HasField("shape") else None)


def _lint(model: Model, path: Path) -> Iterator[Finding]:
    from refine_export.graph.linter import lint_file

    try:
        found = lint_file(path)
    except Exception as error:  # what damaged files make onnx and onnx_ir raise has no common class
        yield model.found("onnx-file", model.where(path), f"the lint can't read it: {error}")
        return
    for one in found:
        yield Finding(
            rule=one.rule,
            severity=one.severity,
            model=model.name,
            where=f"{model.where(path)}: {one.node}" if one.node else model.where(path),
            message=one.message,
            why=one.why,
            fix=one.fix,
        )
