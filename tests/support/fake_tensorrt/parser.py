"""The ONNX parser: layers and tensors read with `onnx`, and the errors it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from .behaviour import Behaviour
from .callbacks import ILogger, say
from .network import INetworkDefinition, Node, Tensor
from .values import DTYPES, ErrorCode, InterpolationMode, SampleMode, Shape

LAYERS = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "GridSample": "GRID_SAMPLE",
    "Relu": "ACTIVATION",
    "PRelu": "PARAMETRIC_RELU",
    "Constant": "CONSTANT",
    "Cast": "CAST",
}
"""Operators whose kind of layer matters; all others of ONNX are ELEMENTWISE here."""
_MODES = {"nearest": "NEAREST", "bilinear": "LINEAR", "bicubic": "CUBIC"}
PADDINGS = {"zeros": "FILL", "border": "CLAMP", "reflection": "REFLECT"}


class ParserError:
    __slots__ = ("_known",)

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known

    def code(self) -> Any:
        return ErrorCode.__members__[self._known.get("code", "UNSUPPORTED_NODE")]

    def desc(self) -> str:
        return str(self._known.get("desc", "Assertion failed: the test asked for it"))

    def node(self) -> int:
        return int(self._known.get("node", -1))

    def node_name(self) -> str:
        return str(self._known.get("name", ""))

    def node_operator(self) -> str:
        return str(self._known.get("operator", ""))


class Errors:
    """The list of errors that the parser and the refitter keep."""

    __slots__ = ("_found", "_logger")

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        self._found: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._found)

    def get_error(self, index: int) -> ParserError:
        return self._found[index]

    def _add(self, **known: Any) -> bool:
        self._found.append(ParserError(known))
        say(self._logger, "ERROR", f"{known.get('name', '')}: {self._found[-1].desc()}")
        return False

    def _load(self, model: Any, path: str | None) -> onnx.ModelProto | None:
        """The model with its external data, or None and an error."""
        try:
            loaded = onnx.load_model_from_string(bytes(memoryview(model)))
        except Exception as error:
            self._add(code="MODEL_DESERIALIZE_FAILED", desc=f"Failed to parse ONNX model from file: {error}")
            return None
        if any(uses_external_data(tensor) for tensor in loaded.graph.initializer):
            try:
                load_external_data_for_model(loaded, str(Path(path or "").parent))
            except Exception as error:
                self._add(code="MODEL_DESERIALIZE_FAILED", desc=f"Failed to open file: {error}")
                return None
        return loaded


class OnnxParser(Errors):
    __slots__ = ("_groups", "_network")

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        super().__init__(logger)
        self._network = network
        self._groups: list[tuple[bool, list[int]]] = []

    def parse(self, model: Any, path: str | None = None) -> bool:
        loaded = self._load(model, path)
        if loaded is None:
            return False
        fake, network = self._network._fake, self._network
        for error in fake.parser_errors:
            self._add(**error)
        for index, node in enumerate(loaded.graph.node):
            if not onnx.defs.has(node.op_type, node.domain):
                self._add(
                    desc="Plugin not found, are the plugin name, version, and namespace correct?",
                    node=index,
                    name=node_name(node, index),
                    operator=node.op_type,
                )
        if self._found:
            return False
        network._model = loaded
        network._tensors = tensors_of(loaded, {})
        network._inputs = [value.name for value in _true_inputs(loaded)]
        network._outputs = [value.name for value in loaded.graph.output]
        network._nodes = [_node(fake, index, node) for index, node in enumerate(loaded.graph.node)]
        return True


def node_name(node: onnx.NodeProto, index: int) -> str:
    return node.name or f"(Unnamed Layer* {index}) [{node.op_type}]"


def _node(fake: Behaviour, index: int, node: onnx.NodeProto) -> Node:
    grid: dict[str, Any] = {}
    if node.op_type == "GridSample":
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        mode = given.get("mode", b"bilinear").decode()
        modes = {**_MODES, "linear": "LINEAR", "cubic": "CUBIC"} if fake.knows_linear else _MODES
        grid = {
            "interpolation_mode": InterpolationMode.__members__[modes.get(mode, "NEAREST")],
            "align_corners": bool(given.get("align_corners", 0)),
            "sample_mode": SampleMode.__members__[PADDINGS[given.get("padding_mode", b"zeros").decode()]],
        }
        kinds = {"interpolation_mode": InterpolationMode, "sample_mode": SampleMode}
        for attribute, value in fake.grid_sample.items():
            grid[attribute] = kinds[attribute].__members__[value] if attribute in kinds else value
    return Node(
        index=index,
        name=node_name(node, index),
        operator=node.op_type,
        layer=LAYERS.get(node.op_type, "ELEMENTWISE"),
        inputs=list(node.input),
        outputs=list(node.output),
        grid=grid,
    )


def _true_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def tensors_of(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Type and shape of every tensor, -1 where a size is unknown, with inputs of these `shapes`."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dimension, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dimension.dim_value = size
    if shapes:
        del fixed.graph.value_info[:]
        for value in fixed.graph.output:
            value.type.tensor_type.ClearField("shape")
    fixed = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    found = {}
    for value in (*fixed.graph.input, *fixed.graph.value_info, *fixed.graph.output):
        described = value.type.tensor_type
        sizes = (dim.dim_value if dim.HasField("dim_value") else -1 for dim in described.shape.dim)
        found[value.name] = Tensor(dtype=DTYPES.get(described.elem_type, "FLOAT"), shape=tuple(sizes))
    for tensor in fixed.graph.initializer:
        found[tensor.name] = Tensor(dtype=DTYPES.get(tensor.data_type, "FLOAT"), shape=tuple(tensor.dims))
    return found
