"""Proof of precision from the parsed network: the types that TensorRT itself inferred, beside those of the ONNX file.

A strongly typed engine computes in these types, so that this needs neither a GPU nor an inspector. Convolutions and
samplers are compared, tensor by tensor: they take the time, and hold the coordinates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import onnx

from refine_export.engine.grid_sample_check import node_names
from refine_export.errors import GraphError
from refine_export.graph.model_file import types_by_name
from refine_export.support.text import listed

if TYPE_CHECKING:
    import tensorrt as trt

_NODES: Final = {"CONVOLUTION": "Conv", "DECONVOLUTION": "ConvTranspose", "GRID_SAMPLE": "GridSample"}
_TYPES: Final = {1: "FLOAT", 10: "HALF", 16: "BF16"}
"""ONNX's number -> TensorRT's name."""


@dataclass(frozen=True, kw_only=True)
class TypeReport:
    """Types that TensorRT inferred for the convolutions and samplers of a network."""

    layers: Mapping[str, int]
    """All layers of the network by kind, such as `{"CONVOLUTION": 25, "GRID_SAMPLE": 8}`."""
    types: Mapping[str, int]
    """Layers that were compared, by kind and types: `CONVOLUTION HALF -> HALF`."""
    unchecked: tuple[str, ...]
    """Convolutions and samplers whose tensors the file does not declare."""


def check_types(network: trt.INetworkDefinition, model: onnx.ModelProto) -> TypeReport:
    """Compare the types in a parsed network with those in its ONNX file.

    Args:
        network: as the parser left it.
        model: what was parsed (below 2 GiB); not modified.

    Raises:
        GraphError: `engine-types`; a convolution or sampler has another type than in the file, or a sampler has
            coordinates of 16 bits. The message names each layer.
    """
    nodes, declared = _declared_types(model)
    kinds, types = Counter[str](), Counter[str]()
    wrong, unchecked = [], []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type.name
        kinds[kind] += 1
        if kind not in _NODES:
            continue
        inputs = {place: layer.get_input(place) for place in range(layer.num_inputs)}
        found = [(place, tensor) for place, tensor in inputs.items() if tensor is not None]  # None: a folded weight
        output: Any = layer.get_output(0)
        found.append((-1, output))
        node = next((nodes[name] for name in node_names(layer) if name in nodes), None)
        # The parser keeps the names of tensors that ONNX nodes produce; those that it makes itself are found by place.
        pairs = [
            (tensor.name, tensor.dtype.name, declared.get(tensor.name) or declared.get(_name_at(node, place)))
            for place, tensor in found
        ]
        types[f"{kind} {' '.join(type_ for _, type_, _ in pairs[:-1])} -> {pairs[-1][1]}"] += 1
        wrong += [
            f"{layer.name}: {name} is {type_}, {promised} in the file"
            for name, type_, promised in pairs
            if promised not in (None, type_)
        ]
        if kind == "GRID_SAMPLE" and any(type_ in ("HALF", "BF16") for _, type_, _ in pairs[:2]):
            wrong.append(f"{layer.name}: coordinates of 16 bits are off by up to half a pixel")
        if any(promised is None for *_, promised in pairs):
            unchecked.append(layer.name)
    if wrong:
        raise GraphError(
            f"TensorRT gives {len(wrong)} tensors of convolutions and samplers other types than expected: "
            f"{listed(wrong, 8)}; lower the FP32 file again with this tool",
            code="engine-types",
            tensors=wrong,
        )
    return TypeReport(layers=dict(kinds.most_common()), types=dict(types), unchecked=tuple(unchecked))


def _name_at(node: onnx.NodeProto | None, place: int) -> str:
    """The tensor of a node's input, or of its first output (-1)."""
    if node is None:
        return ""
    return str(node.output[0] if place < 0 else (*node.input, "", "")[place])


def _declared_types(model: onnx.ModelProto) -> tuple[dict[str, onnx.NodeProto], dict[str, str]]:
    """Convolutions and samplers by name, and the float type of each tensor of the main graph."""
    nodes = {node.name: node for node in model.graph.node if node.op_type in _NODES.values()}
    return nodes, {name: _TYPES[number] for name, number in types_by_name(model).items() if number in _TYPES}
