"""Proof of precision from the parsed network: the types that TensorRT itself inferred, beside those of the ONNX file.

A strongly typed engine computes in these types, so that this needs neither a GPU nor an inspector. Convolutions and
samplers are compared, tensor by tensor: they take the time. From each sampler's grid the network is walked back to
convolutions and inputs: what is computed on the way are coordinates, which 16 bits would ruin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
_STARTS: Final = ("CONVOLUTION", "DECONVOLUTION", "SHAPE")
"""Coordinates begin at the outputs of these: what convolutions compute is an estimate, not yet a position."""
_MOVES: Final = ("CONCATENATION", "GATHER", "IDENTITY", "SELECT", "SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE")
"""Layers that keep the values, so that a 16-bit estimate may pass through them."""
_TYPES: Final = {1: "FLOAT", 10: "HALF", 16: "BF16"}
"""ONNX's number -> TensorRT's name."""
_SHORT: Final = ("HALF", "BF16")


@dataclass(frozen=True, kw_only=True)
class TypeReport:
    """Types that TensorRT inferred for the convolutions and samplers of a network."""

    layers: Mapping[str, int]
    """All layers of the network by kind, such as `{"CONVOLUTION": 25, "GRID_SAMPLE": 8}`."""
    types: Mapping[str, int]
    """Layers that were compared, by kind and types: `CONVOLUTION HALF -> HALF`."""
    promised: Mapping[str, int]
    """The same layers by the types that the file declares."""
    unchecked: tuple[str, ...]
    """Convolutions and samplers whose tensors the file does not declare."""


def check_types(network: trt.INetworkDefinition, model: onnx.ModelProto) -> TypeReport:
    """Compare the types in a parsed network with those in its ONNX file.

    Args:
        network: as the parser left it.
        model: what was parsed (below 2 GiB); not modified.

    Raises:
        GraphError: `engine-types`; a convolution or sampler has another type than in the file, or coordinates are
            computed in 16 bits. The message names each layer.
    """
    nodes, declared = _declared_types(model)
    kinds, types, promises = Counter[str](), Counter[str](), Counter[str]()
    wrong, unchecked = [], []
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    for layer in layers:
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
        types[_kind_and_types(kind, [type_ for _, type_, _ in pairs])] += 1
        promises[_kind_and_types(kind, [promised or type_ for _, type_, promised in pairs])] += 1
        wrong += [
            f"{layer.name}: {name} is {type_}, {promised} in the file"
            for name, type_, promised in pairs
            if promised not in (None, type_)
        ]
        if any(promised is None for *_, promised in pairs):
            unchecked.append(layer.name)
    wrong += [f"{name}: coordinates of 16 bits are off by up to half a pixel" for name in _rounded_coordinates(layers)]
    if wrong:
        raise GraphError(
            f"TensorRT gives {len(wrong)} tensors of convolutions and samplers other types than expected: "
            f"{listed(wrong, 8)}; lower the FP32 file again with this tool",
            code="engine-types",
            tensors=wrong,
        )
    return TypeReport(
        layers=dict(kinds.most_common()), types=dict(types), promised=dict(promises), unchecked=tuple(unchecked)
    )


def _kind_and_types(kind: str, types: Sequence[str]) -> str:
    return f"{kind} {' '.join(types[:-1])} -> {types[-1]}"


def _rounded_coordinates(layers: Sequence[Any]) -> list[str]:
    """Name the layers that compute or take coordinates in 16 bits, walking back from each sampler's grid."""
    makers = {layer.get_output(place).name: layer for layer in layers for place in range(layer.num_outputs)}
    samplers = [layer for layer in layers if layer.type.name == "GRID_SAMPLE"]
    found = [layer.name for layer in samplers if layer.get_input(1).dtype.name in _SHORT]
    waiting, seen = [layer.get_input(1) for layer in samplers], set[str]()
    while waiting:
        tensor = waiting.pop()
        maker = None if tensor is None else makers.get(tensor.name)
        if maker is None or tensor.name in seen or maker.type.name in _STARTS:
            continue
        seen.add(tensor.name)
        if tensor.dtype.name in _SHORT and maker.type.name not in _MOVES:
            found.append(maker.name)
        waiting += [maker.get_input(place) for place in range(maker.num_inputs)]
    return list(dict.fromkeys(found))


def _name_at(node: onnx.NodeProto | None, place: int) -> str:
    """The tensor of a node's input, or of its first output (-1)."""
    if node is None:
        return ""
    return str(node.output[0] if place < 0 else (*node.input, "", "")[place])


def _declared_types(model: onnx.ModelProto) -> tuple[dict[str, onnx.NodeProto], dict[str, str]]:
    """Convolutions and samplers by name, and the float type of each tensor of the main graph."""
    nodes = {node.name: node for node in model.graph.node if node.op_type in _NODES.values()}
    return nodes, {name: _TYPES[number] for name, number in types_by_name(model).items() if number in _TYPES}
