"""The network definition, as the ONNX parser leaves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx

from .behaviour import Behaviour
from .callbacks import ILogger
from .values import DataType, Dims, InterpolationMode, LayerType, SampleMode, Shape, checked


@dataclass(kw_only=True)
class Tensor:
    dtype: str
    shape: Shape


@dataclass(kw_only=True)
class Node:
    index: int
    name: str
    operator: str
    layer: str
    inputs: list[str]
    outputs: list[str]
    grid: dict[str, Any] = field(default_factory=dict)


class ITensor:
    __slots__ = ("_name", "_network")

    def __init__(self, network: INetworkDefinition, name: str) -> None:
        self._network, self._name = network, name

    @property
    def name(self) -> str:
        return self._name

    @property
    def shape(self) -> Dims:
        return Dims(self._network._tensors[self._name].shape)

    @property
    def dtype(self) -> Any:
        return DataType.__members__[self._network._tensors[self._name].dtype]

    @property
    def is_network_input(self) -> bool:
        return self._name in self._network._inputs

    @property
    def is_network_output(self) -> bool:
        return self._name in self._network._outputs


class ILayer:
    __slots__ = ("_network", "_node")

    def __init__(self, network: INetworkDefinition, node: Node) -> None:
        self._network, self._node = network, node

    @property
    def name(self) -> str:
        return self._node.name

    @property
    def metadata(self) -> str:
        return f"[ONNX Layer: {self._node.name}]"

    @property
    def type(self) -> Any:
        return LayerType.__members__[self._node.layer]

    @property
    def num_inputs(self) -> int:
        return len(self._node.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._node.outputs)

    def get_input(self, index: int) -> ITensor | None:
        return self._tensor(self._node.inputs, index)

    def get_output(self, index: int) -> ITensor | None:
        return self._tensor(self._node.outputs, index)

    def _tensor(self, names: list[str], index: int) -> ITensor | None:
        known = index < len(names) and names[index] in self._network._tensors
        return ITensor(self._network, names[index]) if known else None


class IGridSampleLayer(ILayer):
    __slots__ = ()

    def _set(self, attribute: str, kind: Any, value: Any) -> None:
        checked(kind, value)
        if attribute not in self._network._fake.frozen:
            self._node.grid[attribute] = value

    @property
    def interpolation_mode(self) -> Any:
        return self._node.grid["interpolation_mode"]

    @interpolation_mode.setter
    def interpolation_mode(self, value: Any) -> None:
        self._set("interpolation_mode", InterpolationMode, value)

    @property
    def align_corners(self) -> bool:
        return bool(self._node.grid["align_corners"])

    @align_corners.setter
    def align_corners(self, value: bool) -> None:
        self._set("align_corners", bool, value)

    @property
    def sample_mode(self) -> Any:
        return self._node.grid["sample_mode"]

    @sample_mode.setter
    def sample_mode(self, value: Any) -> None:
        self._set("sample_mode", SampleMode, value)


class INetworkDefinition:
    __slots__ = ("_debug", "_fake", "_flags", "_inputs", "_logger", "_model", "_nodes", "_outputs", "_tensors")

    def __init__(self, fake: Behaviour, logger: ILogger, flags: int) -> None:
        self._fake, self._logger, self._flags = fake, logger, flags
        self._model: onnx.ModelProto | None = None
        self._tensors: dict[str, Tensor] = {}
        self._nodes: list[Node] = []
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._debug: set[str] = set()

    @property
    def num_layers(self) -> int:
        return len(self._nodes)

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    @property
    def flags(self) -> int:
        return self._flags

    def get_layer(self, index: int) -> ILayer:
        return ILayer(self, self._nodes[index])

    def get_input(self, index: int) -> ITensor:
        return ITensor(self, self._inputs[index])

    def get_output(self, index: int) -> ITensor:
        return ITensor(self, self._outputs[index])

    def mark_debug(self, tensor: ITensor) -> bool:
        fresh = tensor.name not in self._debug
        self._debug.add(tensor.name)
        return fresh
