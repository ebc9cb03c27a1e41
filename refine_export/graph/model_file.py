"""An ONNX file to a model in memory, or a refusal that says what the file is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.errors import GraphError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_IN_MEMORY_BYTES = 2**31 - 2**26  # protobuf takes less than 2 GiB, graph included
EXPECTED = "expected a binary ONNX model: check the path, or export it again"


def read_file(path: Path) -> bytes:
    """The bytes of an ONNX file.

    Raises:
        GraphError: missing, no regular file, or empty.
    """
    if path.is_dir():
        raise GraphError(f"{path} is a directory; {EXPECTED}")
    if not path.exists():
        raise GraphError(f"{path} does not exist; {EXPECTED}")
    if not path.is_file():
        raise GraphError(f"{path} is no regular file; {EXPECTED}")
    content = path.read_bytes()
    if not content:
        raise GraphError(f"{path} is empty; {EXPECTED}")
    return content


def seems_onnx(path: Path) -> bool:
    """By its name, or by its first byte: an ONNX file begins with its IR version."""
    if path.suffix.lower() == ".onnx":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x08"


def model_from_bytes(content: bytes, path: Path) -> onnx.ModelProto:
    """Parse a model, without its external data; `path` is what errors call it.

    Raises:
        GraphError: truncated or not ONNX.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, which ships no types
        raise GraphError(f"{path} is not ONNX, or truncated ({error}); {EXPECTED}") from error
    if not model.HasField("graph") or not model.opset_import:
        part = "opset" if model.HasField("graph") else "graph"
        raise GraphError(f"{path} is not ONNX, or truncated (it has no {part}); {EXPECTED}")
    return model


def model_from_file(path: Path) -> onnx.ModelProto:
    """Load a model without its external data.

    Raises:
        GraphError: missing, a folder, empty, truncated or not ONNX.
    """
    return model_from_bytes(read_file(path), path)


def external_files(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """The files that hold a model's external data, each once.

    Raises:
        GraphError: one is missing, or lies outside the model's folder: an untrusted file could read any other.
    """
    import onnx.external_data_helper as external

    files: dict[Path, None] = {}
    for tensor in filter(external.uses_external_data, _tensors(model)):
        try:
            location = external.ExternalDataInfo(tensor).location
            file = folder / location
        except ValueError as error:
            raise GraphError(f"tensor {tensor.name!r} has a wrong reference to external data: {error}") from error
        if not file.resolve().is_relative_to(folder.resolve()):
            raise GraphError(
                f"tensor {tensor.name!r} is in {location!r}, outside the model's folder {folder}; put it in the folder"
            )
        if not file.is_file():
            raise GraphError(f"{file} is missing; expected tensor {tensor.name!r} in it: copy it there")
        files[file] = None
    return list(files)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: constants, attributes, and those of bodies and functions."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors)
            graphs += [*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs]


def load_external_data(model: onnx.ModelProto, folder: Path | None) -> bool:
    """Put external data into `model` (shapes may depend on them); False if they are too large for that.

    Raises:
        GraphError: they are missing, damaged or outside the folder, or there is no folder to look in.
    """
    import onnx.checker
    import onnx.external_data_helper as external

    tensors = list(filter(external.uses_external_data, _tensors(model)))
    if tensors and folder is None:
        location = external.ExternalDataInfo(tensors[0]).location
        raise GraphError(f"tensor {tensors[0].name!r} is in the file {location!r}: pass its folder")
    files = external_files(model, folder or Path())
    if sum(file.stat().st_size for file in files) > _IN_MEMORY_BYTES:
        return False
    try:
        external.load_external_data_for_model(model, str(folder or ""))
    except (onnx.checker.ValidationError, ValueError, OSError) as exc:
        raise GraphError(f"external data can't be read, copy or export the model again: {exc}") from exc
    return True


def sha256_of_model(content: bytes, files: list[Path]) -> str:
    """SHA-256 of a model's bytes; where it has external data, of its bytes and theirs."""
    digest = hashlib.sha256(content)
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def bytes_from_model(model: ir.Model) -> bytes:
    """The model as the bytes of a file, the same on every call.

    Raises:
        GraphError: it is larger than a single file can be.
    """
    import onnx_ir as ir

    try:
        return bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's EncodeError, which ships no types
        raise GraphError(f"the model does not fit into one file of 2 GiB: {error}") from error
