"""Parsing of an ONNX file into TensorRT's network definition, with all of the parser's errors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Log, required, title_of
from refine_export.errors import GraphError
from refine_export.support.text import counted

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A network, with the parser that owns its weights: keep this until the engine is built."""

    network: trt.INetworkDefinition
    parser: trt.OnnxParser


@dataclass(frozen=True, kw_only=True)
class ParserFault:
    """An error of the parser."""

    code: str
    """Name of an `ErrorCode`, such as `UNSUPPORTED_NODE`."""
    index: int
    """Place of the node in its graph; -1 where the error is not about a node."""
    node: str
    """Its name; "" where it has none."""
    operator: str
    reason: str

    def __str__(self) -> str:
        place = [f"node {self.index}"] if self.index >= 0 else []
        place += [repr(self.node)] if self.node else []
        place += [f"({self.operator})"] if self.operator else []
        return f"{' '.join([self.code, *place])}: {self.reason}"


def network_from_onnx(module: Any, builder: trt.Builder, log: Log, content: bytes, path: Path | None = None) -> Parsed:
    """Parse an ONNX file into a strongly typed network: its types are the file's.

    Args:
        module: of the library.
        builder: of the engine.
        log: for the reasons of failures.
        content: the ONNX file.
        path: the ONNX file's own, for its external data and for messages.

    Raises:
        GraphError: `parser-refused`; the message has all of the parser's errors.
        UnavailableError: `tensorrt-failed`; no network could be made.
    """
    parsed, faults = parse_onnx(module, builder, log, content, path)
    if faults:
        errors = [str(fault) for fault in faults]
        raise GraphError(
            f"{title_of(module)} cannot take {path.name if path else 'the ONNX file'}, "
            f"{counted(len(errors), 'error')}; expected operators and types that it supports (`refine-export "
            "lint` knows many): change the model, or take a newer one" + "".join(f"\n  {error}" for error in errors),
            code="parser-refused",
            errors=errors,
        )
    return parsed


def parse_onnx(
    module: Any, builder: trt.Builder, log: Log, content: bytes, path_for_external_data: Path | None = None
) -> tuple[Parsed, list[ParserFault]]:
    """Parse as `network_from_onnx` does, and return the parser's errors; without any, the network is whole.

    `STRONGLY_TYPED` is set by name where it exists: 10.12 to 10.16 need it, 11.0 to 11.4 ignore it, and its place in
    the mask moved between them.
    """
    typed = module.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    network = required(builder.create_network(0 if typed is None else 1 << int(typed)), "make a network", log)
    parser = module.OnnxParser(network, log.logger)
    faults: list[ParserFault] = []
    # Empty bytes are a valid message of protobuf, which the parser takes for a graph of nothing.
    if not content or not parser.parse(
        content, None if path_for_external_data is None else os.fsencode(path_for_external_data)
    ):
        found = [_fault(parser.get_error(place)) for place in range(parser.num_errors)]
        unknown = ParserFault(
            code="INVALID_GRAPH", index=-1, node="", operator="", reason=f"it gave no error{log.last_errors()}"
        )
        faults = list(dict.fromkeys(found)) or [unknown]  # some errors come twice
    return Parsed(network=network, parser=parser), faults


def _fault(error: trt.ParserError) -> ParserFault:
    """Read an error while its parser exists.

    The code is read from its text, `ErrorCode.INVALID_NODE`: its `name` is a method in some bindings (10.12, 10.13).
    """
    # Without a driver, TensorRT for RTX appends an error of CUDA to each reason, which has nothing to do with it.
    reason = re.sub(r"\[checkMacros\.cpp::catchCudaError.*", "", _text(error.desc)).strip()
    reason = re.sub(r'^.* && "(.*)"$', r"\1", reason)  # the parser quotes its own condition before the reason
    return ParserFault(
        code=str(error.code()).rpartition(".")[2],
        index=error.node(),
        node=_text(error.node_name),
        operator=_text(error.node_operator),
        reason="it is not supported" if reason == "false" else reason,  # the condition of the parser's own check
    )


def _text(read: Callable[[], str]) -> str:
    """A text of the parser in one line; the bindings raise where a damaged file has bytes that are not UTF-8."""
    try:
        return " ".join(read().split())
    except UnicodeDecodeError as error:
        return error.object.decode(errors="replace")
