"""ONNX files on disk: make one with its manifest, reuse it while nothing it depends on changes, recognise another's."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export import __version__
from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.errors import GraphError, InternalError
from refine_export.export.export_options import LARGEST_BATCH, ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.graph.linter import lint_model
from refine_export.graph.model_file import external_files, model_from_bytes, read_file, sha256_of_model
from refine_export.signature import LARGEST_SIDE, MULTIPLE_OF, SIGNATURES, FilePrecision, GraphName, Signature
from refine_export.support.environment import EXPORTERS, versions
from refine_export.support.files import write_bytes
from refine_export.support.manifest import Manifest, fingerprint, reusable, write_manifest
from refine_export.support.text import size_text

if TYPE_CHECKING:
    import onnx
    from torch import nn


Sizes = tuple[int, int, int]
"""Batch, height, width."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An ONNX file, or an engine of one, that was made or checked."""

    graph: GraphName
    file: str
    """Its name, or the path that was given."""
    sha256: str
    """Of the file; where it has external data, of the file and of those."""
    size_bytes: int
    """With external data."""
    sizes: str
    """Such as `1x3x256x448`, or `Nx3xHxW: any batch, height, width; ...`."""
    opset: int
    precision: FilePrecision
    """bf16 where it holds any BF16 tensor, else fp16 where it holds any FP16 one."""
    nodes: int
    reused: bool
    """It was there already, made from the same inputs."""
    seconds: float | None
    """That the export took, where it was made now."""
    checkpoint_sha256: str | None
    """Of the weights it was made from, as its metadata says."""
    checkpoint: str | None
    """What those are called."""
    fixed: tuple[int | None, int | None, int | None]
    """Batch, height and width; None where the file takes any."""
    engine: str | None = None
    """Of a TensorRT engine what it was built for, such as `TensorRT 11.4.0 on H200 (9.0), rung native`."""
    profile: tuple[Sizes, Sizes, Sizes] | None = None
    """Smallest, best and largest batch, height and width of an engine that takes several."""


def export_file(
    network: Callable[[], nn.Module], checkpoint: Checkpoint, graph: GraphName, options: ExportOptions, path: Path
) -> Artifact:
    """Write `path` and its manifest, unless they are there and made from the same weights, options and versions.

    Args:
        network: gives the reference network of the checkpoint; not called where the file is reused.
        checkpoint: the weights.
        graph: one of the five.
        options: of the export.
        path: of the ONNX file.
    """
    inputs = {"checkpoint": checkpoint.source, "checkpoint_sha256": checkpoint.sha256, "graph": graph}
    used = versions(EXPORTERS)
    key = fingerprint(inputs, options, used)
    if reusable(path, key):
        with suppress(GraphError):  # a manifest that lies
            return dataclasses.replace(artifact_from_file(path), file=path.name, reused=True)
    started = time.perf_counter()
    model = onnx_from_network(network(), graph, options, _metadata(checkpoint, SIGNATURES[graph], options))
    for finding in lint_model(model):
        raise InternalError(f"the exported {graph} does not pass our own lint: {finding.node}: {finding.message}")
    content = model.SerializeToString(deterministic=True)
    artifact = dataclasses.replace(
        _artifact(model, content, path), file=path.name, seconds=time.perf_counter() - started
    )
    write_bytes(path, content)
    write_manifest(
        path,
        Manifest(
            artifact=path.name,
            kind="onnx",
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            inputs=inputs,
            options=dataclasses.asdict(options),
            versions=used,
            signature=described(model),
            fingerprint=key,
            seconds=artifact.seconds or 0.0,
        ),
    )
    return artifact


def artifact_from_file(path: Path) -> Artifact:
    """What an ONNX file is, recognised by the names of its inputs and outputs.

    Raises:
        GraphError: no ONNX file, not one of the five graphs, or not with images of a type and size that fit.
    """
    content = read_file(path)
    return _artifact(model_from_bytes(content, path), content, path)


def model_source(path: Path, artifact: Artifact) -> bytes | Path:
    """What a runtime is to load: the very bytes that `artifact` is the hash of, or the path with external data.

    Raises:
        GraphError: the file has changed since.
    """
    content = read_file(path)
    files = external_files(model_from_bytes(content, path), path.parent)
    if sha256_of_model(content, files) != artifact.sha256:
        raise GraphError(f"{path} changed while it was being checked; run it again when nothing writes to it")
    return path if files else content


def _artifact(model: onnx.ModelProto, content: bytes, path: Path) -> Artifact:
    graph = _graph_of(path, model)
    files = external_files(model, path.parent)
    dims = _image_dims(model, graph, path)
    batch, _, height, width = (dim if isinstance(dim, int) else None for dim in dims)
    free = [name for name, dim in (("batch", batch), ("height", height), ("width", width)) if dim is None]
    sizes = size_text(dims)
    if free:
        sizes += f": any {', '.join(free)}; sides are multiples of {MULTIPLE_OF}"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Artifact(
        graph=graph,
        file=str(path),
        sha256=sha256_of_model(content, files),
        size_bytes=len(content) + sum(file.stat().st_size for file in files),
        sizes=sizes,
        opset=max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        precision=_precision(model),
        nodes=len(model.graph.node),
        reused=False,
        seconds=None,
        checkpoint_sha256=metadata.get("refine_export.checkpoint_sha256"),
        checkpoint=metadata.get("refine_export.checkpoint"),
        fixed=(batch, height, width),
    )


def _precision(model: onnx.ModelProto) -> FilePrecision:
    """By the types of constants, of what is declared, and of what is cast to."""
    import onnx

    types = {tensor.data_type for tensor in model.graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    casts = (attribute for node in model.graph.node if node.op_type == "Cast" for attribute in node.attribute)
    types |= {attribute.i for attribute in casts if attribute.name == "to"}
    if onnx.TensorProto.BFLOAT16 in types:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def _image_dims(model: onnx.ModelProto, graph: GraphName, path: Path) -> list[int | str]:
    """The shape of the graph's first input, with a name for each dimension that is free.

    Raises:
        GraphError: an input or output is no FP32 or FP16 tensor of four dimensions, or a size does not fit.
    """
    import onnx

    signature = SIGNATURES[graph]
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    for spec in (*signature.inputs, *signature.outputs):
        tensor = known[spec.name].type.tensor_type
        if tensor.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            raise GraphError(f"{path}: {spec.name} is {_dtype(tensor.elem_type)}; expected float or float16 I/O")
        if tensor.HasField("shape") and len(tensor.shape.dim) != 4:
            raise GraphError(f"{path}: {spec.name} has {len(tensor.shape.dim)} dimensions; expected N, C, H, W")
    first = known[signature.inputs[0].name].type.tensor_type
    dims: list[int | str] = _shape(first) if first.HasField("shape") else ["N", 3, "H", "W"]
    batch, channels, *size = dims
    fits = all(isinstance(side, str) or (0 < side <= LARGEST_SIDE and side % MULTIPLE_OF == 0) for side in size)
    fits = fits and (isinstance(batch, str) or 1 <= batch <= LARGEST_BATCH)
    if (isinstance(channels, int) and channels != 3) or not fits:
        raise GraphError(
            f"{path}: {signature.inputs[0].name} is {dims}; expected [N, 3, H, W], N to {LARGEST_BATCH}, sides "
            f"multiples of {MULTIPLE_OF} to {LARGEST_SIDE}"
        )
    return [dims[0], 3, *size]


def _shape(tensor: Any) -> list[int | str]:
    """Numbers, and names where a dimension is free."""
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]


def describe(path: Path) -> dict[str, Any]:
    """What `inspect` shows of an ONNX file, ours or another's.

    Raises:
        GraphError: no ONNX file.
    """
    content = read_file(path)
    model = model_from_bytes(content, path)
    files = external_files(model, path.parent)

    def values(infos: Iterable[Any]) -> list[dict[str, Any]]:
        return [
            {
                "name": info.name,
                "dtype": _dtype(info.type.tensor_type.elem_type),
                "shape": _shape(info.type.tensor_type),
            }
            for info in infos
        ]

    initializers = {tensor.name for tensor in model.graph.initializer}
    return {
        "file": path.name,
        "sha256": sha256_of_model(content, files),
        "size_bytes": len(content) + sum(file.stat().st_size for file in files),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": values(info for info in model.graph.input if info.name not in initializers),
        "outputs": values(model.graph.output),
        "nodes": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "parameters": sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }


def _dtype(elem_type: int) -> str:
    import onnx

    try:
        return str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    except ValueError:
        return f"the unknown type {elem_type}"


def described(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    """Inputs and outputs with their shapes in this file, and the types of both."""
    values = (*model.graph.input, *model.graph.output)
    return {
        "inputs": {value.name: _shape(value.type.tensor_type) for value in model.graph.input},
        "outputs": {value.name: _shape(value.type.tensor_type) for value in model.graph.output},
        "types": {value.name: _dtype(value.type.tensor_type.elem_type) for value in values},
    }


def recognised(model: onnx.ModelProto) -> GraphName | None:
    """Which of the five graphs a model is, by the names of its inputs and outputs."""
    names = _io_names(model)
    for graph, signature in SIGNATURES.items():
        if names == (set(signature.input_names), set(signature.output_names)) and _takes_numbers(model, signature):
            return graph
    return None


def _takes_numbers(model: onnx.ModelProto, signature: Signature) -> bool:
    """Whether a timestep, if there is one, is a number for each sample; in other networks it is a plane."""
    names = {spec.name for spec in signature.inputs if spec.quantity == "timestep"}
    shapes = [_shape(value.type.tensor_type) for value in model.graph.input if value.name in names]
    return all(shape[1:] == [1] * (len(shape) - 1) for shape in shapes)


def _io_names(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    initializers = {tensor.name for tensor in model.graph.initializer}
    return {value.name for value in model.graph.input} - initializers, {value.name for value in model.graph.output}


def _graph_of(path: Path, model: onnx.ModelProto) -> GraphName:
    graph = recognised(model)
    if graph is not None:
        return graph
    inputs, outputs = (", ".join(sorted(map(str, names))) for names in _io_names(model))  # bytes, where no UTF-8
    raise GraphError(
        f"{path} is not one of the graphs {', '.join(SIGNATURES)}: it has the inputs {inputs} "
        f"and the outputs {outputs}; export it with this tool, or rename them"
    )


def _metadata(checkpoint: Checkpoint, signature: Signature, options: ExportOptions) -> dict[str, str]:
    values = {
        "version": __version__,
        "checkpoint": checkpoint.source,
        "checkpoint_sha256": checkpoint.sha256,
        "architecture": checkpoint.architecture,
        "multiple_of": str(signature.multiple_of),
        "dynamic": str(options.dynamic).lower(),
        "units": "; ".join(f"{spec.name}: {spec.units}" for spec in (*signature.inputs, *signature.outputs)),
    }
    return {f"refine_export.{name}": value for name, value in values.items()}
