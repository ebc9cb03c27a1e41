"""Recognise an ONNX file of one of the graphs, describe it, and hand its bytes to a runtime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from refine_export.errors import GraphError
from refine_export.graph.frame_padding import padding_of_graph
from refine_export.graph.model_file import ONNX_DOMAINS, external_files, model_from_bytes, read_file, sha256_of_model
from refine_export.graph.stacked_input import stack_signature
from refine_export.signature import (
    LARGEST_BATCH,
    LARGEST_SIDE,
    MULTIPLE_OF,
    SIGNATURES,
    TIMESTEP,
    FilePrecision,
    GraphName,
    Signature,
    TensorInfo,
    as_stated,
    padded_size,
    signature_from_names,
    signature_of,
)
from refine_export.support.text import listed, size_text

Sizes = tuple[int, int, int]
"""Batch, height, width."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An ONNX file, or an engine of one, that was made or checked."""

    graph: GraphName
    file: str
    """Its name, or the path that was given."""
    sha256: str
    """Hash of the file; where it has external data, of the file and of those."""
    size_bytes: int
    """Size with external data."""
    sizes: str
    """Such as `1x3x256x448`, or `Nx3xHxW: any batch, height, width; ...`."""
    opset: int
    precision: FilePrecision
    """bf16 where it holds any BF16 tensor, else fp16 where it holds any FP16 one."""
    nodes: int
    reused: bool
    """True where an existing file, made from the same inputs, was reused."""
    seconds: float | None
    """Duration of the export, where it was made now."""
    checkpoint_sha256: str | None
    """Hash of the weights it was made from, as its metadata states."""
    checkpoint: str | None
    """Name of those weights."""
    fixed: tuple[int | None, int | None, int | None]
    """Batch, height and width; None where the file takes any."""
    engine: str | None = None
    """Target that an engine was built for, such as `TensorRT 11.4.0 on H200 (9.0), fallback native`."""
    profile: tuple[Sizes, Sizes, Sizes] | None = None
    """Smallest, best and largest batch, height and width of an engine that takes several."""
    takes_timestep: bool = False
    """True where an interpolator has the input `timestep`."""
    multiple_of: int = MULTIPLE_OF
    """Height and width of its frames are multiples of this."""
    scale: float = 1.0
    """The scales of its network's blocks were divided by this."""
    network: str | None = None
    """Network that it was made of (`Checkpoint.network`), as its metadata states."""
    stacked: int | None = None
    """Channels of the one input of an interpolator that takes a stack (`graph.stacked_input`)."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs of its graph."""
        return signature_of(self.graph, timestep=self.takes_timestep, multiple_of=self.multiple_of, scale=self.scale)

    def accepts(self, sizes: Sizes) -> bool:
        """Return whether the file can be fed with a batch, height and width."""
        if self.profile is not None:
            low, _, high = self.profile
            return all(a <= b <= c for a, b, c in zip(low, sizes, high, strict=True))
        return all(fixed in (None, one) for fixed, one in zip(self.fixed, sizes, strict=True))

    def closest_sizes(self, size: tuple[int, int]) -> Sizes:
        """Return a batch of one at a height and width, padded, or what the file takes in their place."""
        size = padded_size(*size, self.multiple_of)
        if self.profile is not None and not self.accepts((1, *size)):
            return self.profile[1]
        batch, height, width = self.fixed
        return batch or 1, height or size[0], width or size[1]


def artifact_from_file(path: Path) -> Artifact:
    """Recognise an ONNX file by the names of its inputs and outputs.

    Raises:
        GraphError: not an ONNX file, not one of the graphs, or its images have an unsupported type or size.
    """
    content = read_file(path)
    return artifact_from_model(model_from_bytes(content, path), content, path)


def artifact_from_model(model: onnx.ModelProto, content: bytes, path: Path) -> Artifact:
    """Recognise a model of which `content` is the serialized form; `path` is where its external data are.

    Raises:
        GraphError: as `artifact_from_file`.
    """
    stacked = stacked_signature_of_model(model)
    signature = stacked or signature_of_model(model)
    if signature is None:
        inputs, outputs = (sorted(map(str, names)) for names in _io_names(model))  # bytes where not UTF-8
        problem = f"is not one of the graphs {', '.join(SIGNATURES)}: it has the inputs {', '.join(inputs)} and the "
        problem += f"outputs {', '.join(outputs)}; export it with this tool, or rename them"
        raise GraphError.about(path, "unknown-graph", problem, inputs=inputs, outputs=outputs)
    files = external_files(model, path.parent)
    dims = _image_dims(model, signature, path)
    batch, _, height, width = (dim if isinstance(dim, int) else None for dim in dims)
    free = [name for name, size in (("batch", batch), ("height", height), ("width", width)) if size is None]
    sizes = size_text(dims)
    if free:
        sizes += f": any {listed(free)}; sides are multiples of {signature.multiple_of}"
    metadata = _metadata(model)
    return Artifact(
        graph=signature.graph,
        file=str(path),
        sha256=sha256_of_model(content, files),
        size_bytes=len(content) + sum(file.stat().st_size for file in files),
        sizes=sizes,
        opset=max((entry.version for entry in model.opset_import if entry.domain in ONNX_DOMAINS), default=0),
        precision=_precision(model),
        nodes=len(model.graph.node),
        reused=False,
        seconds=None,
        checkpoint_sha256=metadata.get("refine_export.checkpoint_sha256"),
        checkpoint=metadata.get("refine_export.checkpoint"),
        fixed=(batch, height, width),
        takes_timestep=stacked is not None or signature.takes_timestep,
        multiple_of=signature.multiple_of,
        scale=signature.scale,
        network=metadata.get("refine_export.architecture"),
        stacked=None if stacked is None else int(stacked.inputs[0].shape[1]),
    )


def signature_of_model(model: onnx.ModelProto) -> Signature | None:
    """Return the signature of a model by the names of its inputs and outputs; None where it is not one of the graphs.

    Its padding and scale are what the metadata state; a file of another tool states no padding, but its graph shows it.
    """
    signature = signature_from_names(*_io_names(model))
    if signature is None:
        return None
    # Files of other tools take the timestep as a plane; ours take one number for each sample, [N, 1, 1, 1].
    shapes = [_shape(value.type.tensor_type) for value in model.graph.input if value.name == TIMESTEP.name]
    if any(shape[1:] != [1] * (len(shape) - 1) for shape in shapes):
        return None
    frames = [spec.name for spec in signature.inputs if spec.quantity == "image"]
    return _padded(signature, model, frames)


def stacked_signature_of_model(model: onnx.ModelProto) -> Signature | None:
    """Return the signature of an interpolator that takes one stack, with its own names; None where it does not."""
    names = _io_names(model)
    inputs, outputs = (
        [
            TensorInfo(name=value.name, dtype="", shape=tuple(_shape(value.type.tensor_type)))
            for value in values
            if value.name in known
        ]
        for values, known in zip((model.graph.input, model.graph.output), names, strict=True)
    )
    signature = stack_signature(inputs, outputs)
    return None if signature is None else _padded(signature, model, signature.input_names)


def _padded(signature: Signature, model: onnx.ModelProto, frames: Iterable[str]) -> Signature:
    """Return a signature with the padding and scale that a model states, or else with the padding that it shows."""
    shown = replace(signature, multiple_of=padding_of_graph(model.graph, frames))
    return as_stated(shown, _metadata(model))


def model_source(path: Path, artifact: Artifact) -> bytes | Path:
    """Return what a runtime is to load: the bytes that `artifact` is the hash of, or the path with external data.

    Raises:
        GraphError: the file has changed since.
    """
    content = read_file(path)
    files = external_files(model_from_bytes(content, path), path.parent)
    if sha256_of_model(content, files) != artifact.sha256:
        problem = "changed while it was being checked; run it again when nothing writes to it"
        raise GraphError.about(path, "file-changed", problem)
    return path if files else content


def io_description(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    """Return the shapes of the inputs and of the outputs, and the types of both, by name."""
    values = (*model.graph.input, *model.graph.output)
    return {
        "inputs": {value.name: _shape(value.type.tensor_type) for value in model.graph.input},
        "outputs": {value.name: _shape(value.type.tensor_type) for value in model.graph.output},
        "types": {value.name: _dtype(value.type.tensor_type.elem_type) for value in values},
    }


def onnx_description(path: Path) -> dict[str, Any]:
    """Return what `inspect` shows of an ONNX file of any tool.

    Raises:
        GraphError: not an ONNX file.
    """
    content = read_file(path)
    model = model_from_bytes(content, path)
    files = external_files(model, path.parent)

    def values(infos: Iterable[Any]) -> list[dict[str, Any]]:
        types = ((info.name, info.type.tensor_type) for info in infos)
        return [{"name": name, "dtype": _dtype(type_.elem_type), "shape": _shape(type_)} for name, type_ in types]

    inputs, _ = _io_names(model)
    return {
        "file": path.name,
        "sha256": sha256_of_model(content, files),
        "size_bytes": len(content) + sum(file.stat().st_size for file in files),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opsets": {str(entry.domain or "ai.onnx"): entry.version for entry in model.opset_import},
        "inputs": values(info for info in model.graph.input if info.name in inputs),
        "outputs": values(model.graph.output),
        "nodes": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "parameters": sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        "metadata": _metadata(model),
    }


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Return what a model states about itself; protobuf gives text that is not UTF-8 as bytes."""
    return {str(entry.key): str(entry.value) for entry in model.metadata_props}


def _precision(model: onnx.ModelProto) -> FilePrecision:
    """Return the narrowest float type among constants, inputs, outputs and the targets of Casts."""
    types = {tensor.data_type for tensor in model.graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    casts = (attribute for node in model.graph.node if node.op_type == "Cast" for attribute in node.attribute)
    types |= {attribute.i for attribute in casts if attribute.name == "to"}
    if onnx.TensorProto.BFLOAT16 in types:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def _image_dims(model: onnx.ModelProto, signature: Signature, path: Path) -> list[int | str]:
    """Return the shape of the graph's first input, with a name for each dimension that is free.

    Raises:
        GraphError: an input or output is not an FP32 or FP16 tensor of four dimensions, or a size does not fit.
    """
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    for spec in (*signature.inputs, *signature.outputs):
        tensor = known[spec.name].type.tensor_type
        if tensor.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            problem = f"has {spec.name} as {_dtype(tensor.elem_type)}; expected float or float16 I/O"
            raise GraphError.about(path, "unsupported-dtype", problem, tensor=spec.name)
        if tensor.HasField("shape") and len(tensor.shape.dim) != 4:
            problem = f"has {spec.name} with {len(tensor.shape.dim)} dimensions; expected N, C, H, W"
            raise GraphError.about(path, "unsupported-shape", problem, tensor=spec.name)
    first = known[signature.inputs[0].name].type.tensor_type
    expected_channels = signature.inputs[0].shape[1]
    dims: list[int | str] = _shape(first) if first.HasField("shape") else ["N", expected_channels, "H", "W"]
    batch, channels, *size = dims
    multiple_of = signature.multiple_of
    fits = all(isinstance(side, str) or (0 < side <= LARGEST_SIDE and side % multiple_of == 0) for side in size)
    fits = fits and (isinstance(batch, str) or 1 <= batch <= LARGEST_BATCH)
    if (isinstance(channels, int) and channels != expected_channels) or not fits:
        name = signature.inputs[0].name
        sides = f"sides multiples of {multiple_of} to {LARGEST_SIDE}"
        expected = f"[N, {expected_channels}, H, W], N to {LARGEST_BATCH}, {sides}"
        raise GraphError.about(path, "unsupported-shape", f"has {name} as {dims}; expected {expected}", tensor=name)
    return [batch, expected_channels, *size]


def _io_names(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    # Up to IR version 3 every constant is listed as an input too.
    constants = {tensor.name for tensor in model.graph.initializer}
    return {value.name for value in model.graph.input} - constants, {value.name for value in model.graph.output}


def _shape(tensor: Any) -> list[int | str]:
    """Return a declared shape: numbers, and names where a dimension is free."""
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]


def _dtype(elem_type: int) -> str:
    try:
        return str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    except ValueError:
        return f"the unknown type {elem_type}"
