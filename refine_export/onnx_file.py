"""ONNX files on disk: make one with its manifest, reuse it while nothing it depends on changes, recognise another's."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export import __version__
from refine_export.atomic import atomic_path
from refine_export.checkpoint import Checkpoint
from refine_export.environment import EXPORTERS, versions
from refine_export.errors import GraphError, InternalError
from refine_export.export import ExportOptions, onnx_from_network
from refine_export.graph.lint import lint_model
from refine_export.graph.load import model_from_file
from refine_export.manifest import Manifest, fingerprint, reusable, sha256_of_file, write_manifest
from refine_export.optional import require
from refine_export.signature import MULTIPLE_OF, SIGNATURES, GraphName, Signature

if TYPE_CHECKING:
    import onnx
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An ONNX file that was made or checked."""

    graph: GraphName
    file: str
    """Its name."""
    sha256: str
    size_bytes: int
    sizes: str
    """Such as `1x3x256x448`, or `any batch, height and width that are multiples of 32`."""
    opset: int
    nodes: int
    reused: bool
    """It was there already, made from the same inputs."""
    seconds: float | None
    """That the export took, where it was made now."""
    checkpoint_sha256: str | None
    """Of the weights it was made from, as its metadata says."""
    fixed_size: tuple[int, int, int] | None
    """Batch, height and width of a static file."""


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
        return dataclasses.replace(artifact_from_file(path), reused=True)
    started = time.perf_counter()
    onnx = require("onnx", extra="torch")
    model = onnx_from_network(network(), graph, options, _metadata(checkpoint, SIGNATURES[graph], options))
    for finding in lint_model(model):
        raise InternalError(f"the exported {graph} does not pass our own lint: {finding.node}: {finding.message}")
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)
    seconds = time.perf_counter() - started
    artifact = dataclasses.replace(artifact_from_file(path), seconds=seconds)
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
            signature=dataclasses.asdict(SIGNATURES[graph]),
            fingerprint=key,
            seconds=seconds,
        ),
    )
    return artifact


def artifact_from_file(path: Path) -> Artifact:
    """What an ONNX file is, recognised by the names of its inputs and outputs.

    Raises:
        GraphError: not one of the five graphs, or no ONNX file.
    """
    model = model_from_file(path)
    graph = _recognised(path, model)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    dims = input_dims(model)
    free = not all(isinstance(dim, int) for dim in dims)
    return Artifact(
        graph=graph,
        file=path.name,
        sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size,
        sizes=f"any batch, height and width that are multiples of {MULTIPLE_OF}" if free else "x".join(map(str, dims)),
        opset=max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        nodes=len(model.graph.node),
        reused=False,
        seconds=None,
        checkpoint_sha256=metadata.get("refine_export.checkpoint_sha256"),
        fixed_size=None if free else (int(dims[0]), int(dims[2]), int(dims[3])),
    )


def input_dims(model: onnx.ModelProto) -> list[int | str]:
    """Of the first input, numbers or symbols."""
    return [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]


def describe(path: Path) -> dict[str, Any]:
    """What `inspect` shows of an ONNX file, ours or another's.

    Raises:
        GraphError: no ONNX file.
    """
    model = model_from_file(path)

    def values(infos: Iterable[Any]) -> list[dict[str, Any]]:
        return [
            {
                "name": info.name,
                "dtype": _dtype(info.type.tensor_type.elem_type),
                "shape": [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim],
            }
            for info in infos
        ]

    initializers = {tensor.name for tensor in model.graph.initializer}
    return {
        "file": path.name,
        "sha256": sha256_of_file(path),
        "size_bytes": path.stat().st_size,
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

    return str(onnx.TensorProto.DataType.Name(elem_type)).lower()


def _recognised(path: Path, model: onnx.ModelProto) -> GraphName:
    initializers = {tensor.name for tensor in model.graph.initializer}
    names = {value.name for value in model.graph.input} - initializers, {value.name for value in model.graph.output}
    for graph, signature in SIGNATURES.items():
        if names == (set(signature.input_names), set(signature.output_names)):
            return graph
    raise GraphError(
        f"{path} is not one of the graphs {', '.join(SIGNATURES)}: it has the inputs {', '.join(sorted(names[0]))} and "
        f"the outputs {', '.join(sorted(names[1]))}; export it with this tool, or rename them"
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
