"""Parsing of an ONNX file into TensorRT's network definition, with all of the parser's errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Log, required
from refine_export.errors import GraphError

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A network, with the parser that owns its weights: keep this until the engine is built."""

    network: trt.INetworkDefinition
    parser: trt.OnnxParser


def network_from_onnx(
    module: Any, builder: trt.Builder, log: Log, content: bytes, path_for_external_data: Path | None = None
) -> Parsed:
    """Parse an ONNX file into a strongly typed network: its types are the file's.

    `STRONGLY_TYPED` is set by name where it exists: 10.12 to 10.16 need it, 11.0 to 11.4 ignore it, and its place in
    the mask moved between them.

    Args:
        module: of the library.
        builder: of the engine.
        log: for the reasons of failures.
        content: the ONNX file.
        path_for_external_data: the ONNX file's own path, where it has external data.

    Raises:
        GraphError: `parser-refused`; the message has all of the parser's errors.
        UnavailableError: `tensorrt-failed`; no network could be made.
    """
    typed = module.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    flags = 0 if typed is None else 1 << int(typed)
    network = required(builder.create_network(flags), "make a network", log)
    parser = module.OnnxParser(network, log.logger)
    path = None if path_for_external_data is None else str(path_for_external_data)
    if not parser.parse(content, path):
        errors = [_described(parser.get_error(index)) for index in range(parser.num_errors)]
        reasons = "".join(f"\n  {error}" for error in errors) or log.last_errors()
        count = f"{len(errors)} error{'s' if len(errors) != 1 else ''}"
        raise GraphError(
            f"TensorRT {module.__version__} cannot take {path or 'the ONNX file'}, {count}; expected operators and "
            f"types that it supports (`refine-export lint` knows many): change the model, or take a newer one{reasons}",
            code="parser-refused",
            errors=errors,
        )
    return Parsed(network=network, parser=parser)


def _described(error: trt.ParserError) -> str:
    """Write code, node with its operator, and the reason in one line.

    The code is read from its text, `ErrorCode.INVALID_NODE`: its `name` is a method in some bindings (10.12, 10.13).
    """
    where = []
    if error.node() >= 0:
        where.append(f"node {error.node()}")
    if name := error.node_name():
        where.append(repr(name))
    if operator := error.node_operator():
        where.append(f"({' '.join(operator.split())})")
    return " ".join([str(error.code()).rpartition(".")[2], *where]) + f": {' '.join(error.desc().split())}"
