"""Read an ONNX file into a model, or refuse it with what the file is; write a model as bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

import onnx
import onnx.checker
import onnx.external_data_helper as external
import onnx.inliner
import onnx.shape_inference

from refine_export.errors import GraphError
from refine_export.graph.model_bounds import check_bounds, graphs_of
from refine_export.support.files import check_input_file

if TYPE_CHECKING:
    import onnx_ir as ir

ONNX_DOMAINS: Final = ("", "ai.onnx")
"""Both names of the standard domain."""
_IN_MEMORY_BYTES = 2**31 - 2**26  # protobuf takes less than 2 GiB, graph included
ENGINE_TAGS = (b"ftrt", b"vtrt")
"""First bytes of an engine of TensorRT, and of TensorRT for RTX."""
_EXPECTED = "expected a binary ONNX model: check the path, or export it again"


def read_file(path: Path) -> bytes:
    """Return the bytes of an ONNX file.

    Raises:
        GraphError: missing, not a regular file, or empty.
    """
    check_input_file(path, GraphError, _EXPECTED)
    content = path.read_bytes()
    if not content:
        raise GraphError.about(path, "not-onnx", f"is empty; {_EXPECTED}")
    return content


def seems_onnx(path: Path) -> bool:
    """Return whether a file is ONNX by its name, or by its first byte: the tag of the IR version."""
    if path.suffix.lower() == ".onnx":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x08"


def model_from_bytes(content: bytes, path: Path) -> onnx.ModelProto:
    """Parse a model, without its external data; `path` is for messages.

    Raises:
        GraphError: truncated, not ONNX, or beyond the bounds of `check_bounds`.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, which ships no types
        if content[:4] in ENGINE_TAGS:
            problem = "is a TensorRT engine; expected the ONNX file that it was built from, which `inspect` names"
            raise GraphError.about(path, "not-onnx", problem) from error
        raise GraphError.about(path, "not-onnx", f"is not ONNX, or truncated ({error}); {_EXPECTED}") from error
    # Protobuf parses many files that are something else; a model has a graph and states its opsets.
    if not model.HasField("graph") or not model.opset_import:
        missing = "opset" if model.HasField("graph") else "graph"
        raise GraphError.about(path, "not-onnx", f"is not ONNX, or truncated (it has no {missing}); {_EXPECTED}")
    check_bounds(model, path)
    return model


def model_from_file(path: Path) -> onnx.ModelProto:
    """Load a model without its external data.

    Raises:
        GraphError: missing, a folder, empty, truncated or not ONNX.
    """
    return model_from_bytes(read_file(path), path)


def load_model(path: Path) -> onnx.ModelProto:
    """Load a model with its external data.

    Raises:
        GraphError: as `model_from_file`; or the external data are missing, damaged or too large.
    """
    model = model_from_file(path)
    require_external_data(model, path)
    return model


def require_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Load external data into the model of `path`, which has to fit into memory.

    Raises:
        GraphError: they are missing, damaged or too large.
    """
    if not load_external_data(model, path.parent):
        problem = "has more than 2 GiB of external data; expected a model that fits into one file"
        raise GraphError.about(path, "model-too-large", problem)


def ir_from_model(model: onnx.ModelProto, path: Path) -> ir.Model:
    """Return the model as the passes take it; `path` is for messages.

    Raises:
        GraphError: `invalid-onnx`.
    """
    import onnx_ir as ir

    try:
        return ir.from_proto(model)
    except Exception as error:  # onnx_ir has a class of its own for each way to be wrong
        problem = f"is not valid ONNX ({' '.join(str(error.__cause__ or error).split())}); convert or export it again"
        raise GraphError.about(path, "invalid-onnx", problem) from error


def external_files(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """Return the files that hold a model's external data, each once.

    Raises:
        GraphError: one is missing, or the model names one outside its folder: an untrusted file could read any other.
    """
    files: dict[Path, None] = {}
    for tensor in filter(external.uses_external_data, _tensors(model)):
        try:
            location = external.ExternalDataInfo(tensor).location
            file = folder / location
        except ValueError as error:
            message = f"tensor {tensor.name!r} has a wrong reference to external data: {error}"
            raise GraphError(message, code="damaged-external-data", tensor=tensor.name) from error
        # By the text alone: links are the user's own, as in a Hugging Face cache, where the model is one itself.
        inside = PurePath(os.path.normpath(location))
        if inside.is_absolute() or inside.parts[:1] == ("..",):
            raise GraphError(
                f"tensor {tensor.name!r} is in {location!r}, outside the model's folder {folder}; put it in the folder",
                code="unsafe-external-data",
                tensor=tensor.name,
                path=file,
            )
        if not file.is_file():
            problem = f"is missing; expected tensor {tensor.name!r} in it: copy it there"
            raise GraphError.about(file, "missing-external-data", problem, tensor=tensor.name)
        files[file] = None
    return list(files)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model: constants, attributes, and those of subgraphs and functions.

    `onnx.external_data_helper` has a walk of its own, which skips sparse constants and functions.
    """
    for graph in graphs_of(model):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            yield from (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors)


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a model, those in bodies and in the functions that it calls included."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    for graph in graphs_of(model):
        yield from graph.node


def types_by_name(model: onnx.ModelProto) -> dict[str, int]:
    """Return ONNX's number of the type of each tensor of the main graph; the model (below 2 GiB) is not modified."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph  # lowered files carry no types between their nodes
    except onnx.shape_inference.InferenceError:  # a declared shape is not what the nodes compute
        graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return types | {value.name: value.type.tensor_type.elem_type for value in values}


def add_output_shapes(model: onnx.ModelProto) -> None:
    """Give each output without a shape the one that its node computes, if that is known.

    A shape is optional in ONNX's IR, and runtimes need none, but onnx.checker refuses a file without it.
    """
    tensors = {one.name: one.type.tensor_type for one in model.graph.output if one.type.HasField("tensor_type")}
    if all(one.HasField("shape") for one in tensors.values()):
        return
    for output in onnx.shape_inference.infer_shapes(model).graph.output:
        if output.type.tensor_type.HasField("shape") and not tensors[output.name].HasField("shape"):
            tensors[output.name].shape.CopyFrom(output.type.tensor_type.shape)


def has_grid_sample(model: onnx.ModelProto) -> bool:
    """Return whether a model samples by GridSample, anywhere: the runtime's sampler decides what it computes."""
    return any(node.op_type == "GridSample" for node in all_nodes(model))


def load_external_data(model: onnx.ModelProto, folder: Path | None) -> bool:
    """Load external data into `model`, since shapes may depend on them.

    Returns:
        Whether they were loaded: False where they are too large for a model in memory.

    Raises:
        GraphError: they are missing, damaged or outside the folder, or there is no folder to look in.
    """
    tensors = list(filter(external.uses_external_data, _tensors(model)))
    if tensors and folder is None:
        location = external.ExternalDataInfo(tensors[0]).location
        message = f"tensor {tensors[0].name!r} is in the file {location!r}: pass its folder"
        raise GraphError(message, code="missing-external-data", tensor=tensors[0].name)
    files = external_files(model, folder or Path())
    if sum(file.stat().st_size for file in files) > _IN_MEMORY_BYTES:
        return False
    try:
        for tensor in tensors:
            [location] = [entry for entry in tensor.external_data if entry.key == "location"]
            file = ((folder or Path()) / location.value).resolve()  # onnx refuses links
            location.value = file.name
            external.load_external_data_for_tensor(tensor, str(file.parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise GraphError(
            f"external data cannot be read, copy or export the model again: {error}", code="damaged-external-data"
        ) from error
    return True


def sha256_of_model(content: bytes, files: list[Path]) -> str:
    """Return the SHA-256 of a model's bytes; where it has external data, of its bytes and theirs."""
    digest = hashlib.sha256(content)
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def bytes_from_model(model: ir.Model) -> bytes:
    """Serialize a model, to the same bytes on every call.

    Raises:
        GraphError: it is larger than a single file can be.
    """
    import onnx_ir as ir  # it imports sympy, a second that the gate, which reads reports alone, can do without

    try:
        return bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's EncodeError, which ships no types
        raise GraphError(f"the model does not fit into one file of 2 GiB: {error}", code="model-too-large") from error
