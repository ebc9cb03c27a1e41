"""Layers of a built engine, and the proof that its convolutions have the types of the ONNX file.

The text comes from `EngineInspector.get_engine_information(JSON)`: in the form of TensorRT 10.12 to 10.16 (checked;
"Format/Datatype", "Bindings") or of 11.0 to 11.4 ("Datatype", "I/O Tensors"). What it leaves open is not proven.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import onnx

from refine_export.errors import GraphError
from refine_export.graph.model_file import ONNX_DOMAINS, types_by_name
from refine_export.support.text import listed

if TYPE_CHECKING:
    import tensorrt as trt

CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
HALF: Final = "Half"
FLOAT: Final = "Float"
BFLOAT16: Final = "BFloat16"
MIXED: Final = "mixed"
UNKNOWN: Final = "unknown"

_SPELLINGS: Final = (  # the first that matches; both spellings of the inspector
    (r"bf16|bfloat16", BFLOAT16),
    (r"fp16|half|float16", HALF),
    (r"fp8|float8|e4m3|e5m2", "FP8"),
    (r"fp4|float4|e2m1", "FP4"),
    (r"fp32|float32|float", FLOAT),
    (r"uint8", "UInt8"),
    (r"int(8|4|32|64)", r"Int\1"),
    (r"bool", "Bool"),
)
_MOVERS: Final = ("reformat", "constant", "noop", "shuffle", "move", "signal", "wait")
_FLOATS: Final = (HALF, BFLOAT16, FLOAT, "FP8", "FP4")
_ONNX_LAYER: Final = "[ONNX Layer: "


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of an engine: one kernel, of one or more ONNX nodes."""

    name: str
    kind: str = ""
    """`LayerType`, such as `CaskConvolution` or `kgen`; empty where the inspector gives names only."""
    parameters: str = ""
    """`ParameterType`, such as `Convolution`; often empty."""
    inputs: tuple[str, ...] = ()
    """Types: `Half`, `Float`, `BFloat16`, `Int32`, ...; `unknown` where the inspector has none."""
    outputs: tuple[str, ...] = ()
    weights: str = UNKNOWN
    """Type of the weights."""
    nodes: tuple[str, ...] = ()
    """Names of the ONNX nodes in it."""


@dataclass(frozen=True, kw_only=True)
class EngineLayers:
    """All layers, and notes on what the text does not contain."""

    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """A node of the ONNX file that the engine was built from."""

    name: str
    op_type: str
    type: str
    """Type of its first input, spelled as in the engine: `Half`, `Float`, ..., `unknown`."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Types of the convolutions and samplers in the engine."""

    proven: bool
    """Each convolution and each sampler was found with its type."""
    convolutions: Mapping[str, int]
    """Type in the engine -> how many Conv and ConvTranspose nodes; `mixed` and `unknown` are not proven."""
    wanted: Mapping[str, int]
    """The same as the ONNX file has them."""
    grid_samples: Mapping[str, int]
    """Type in the engine -> how many GridSample nodes."""
    notes: tuple[str, ...]
    """Why something is not proven."""


def inspect_engine(module: Any, engine: trt.ICudaEngine, context: trt.IExecutionContext | None) -> EngineLayers:
    """Ask TensorRT's inspector.

    Args:
        module: `tensorrt`.
        context: with its input shapes set; without one, the tensors of a dynamic engine have no types on 10.x.
    """
    inspector = engine.create_engine_inspector()
    if context is not None:
        inspector.execution_context = context
    return layers_from_json(inspector.get_engine_information(module.LayerInformationFormat.JSON))


def layers_from_json(text: str) -> EngineLayers:
    """Read layers from the inspector's JSON; other text gives no layers and a note."""
    try:
        content = json.loads(text, strict=False)  # metadata has control characters, not always escaped
        entries = list(content["Layers"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        note = f"the inspector's text has no list of layers ({type(error).__name__}: {error})"
        return EngineLayers(layers=(), notes=(note,))
    notes = []
    if not entries:
        notes.append("the inspector lists no layers: the engine was built with profiling verbosity NONE")
    elif any(isinstance(entry, str) for entry in entries):
        notes.append("the inspector gives names only: the engine was not built with profiling verbosity DETAILED")
    return EngineLayers(layers=tuple(map(_layer, entries)), notes=tuple(notes))


def nodes_from_onnx(model: onnx.ModelProto) -> tuple[OnnxNode, ...]:
    """Return every node of the main graph with the type of its first input; the model (below 2 GiB) is not modified."""
    numbers = types_by_name(model)
    types = {name: _type_from_text(onnx.TensorProto.DataType.Name(number)) for name, number in numbers.items()}
    return tuple(
        OnnxNode(
            name=node.name,
            op_type=node.op_type if node.domain in ONNX_DOMAINS else f"{node.domain}.{node.op_type}",
            type=types.get(node.input[0], UNKNOWN) if node.input else UNKNOWN,
        )
        for node in model.graph.node
    )


def check_precision(engine: EngineLayers, nodes: Sequence[OnnxNode]) -> Precision:
    """Compare the types of convolutions and samplers in the engine with those in the ONNX file.

    Args:
        engine: what `inspect_engine` found.
        nodes: all nodes of the file, from `nodes_from_onnx`.

    Raises:
        GraphError: `engine-types`; a convolution has another type than in the file, or a GridSample is Half: the
            message has the names and the counts. What is not known raises nothing and makes `proven` false.
    """
    operators = {node.name: node.op_type for node in nodes if node.name}
    notes = list(engine.notes)
    convolutions = [node for node in nodes if node.op_type in CONVOLUTIONS]
    found = [(node, _convolution_type(node, engine.layers, operators)) for node in convolutions]
    samplers = _sampler_types(nodes, engine.layers, operators)
    wanted = Counter(node.type for node in convolutions)
    given = Counter(type_ for _, type_ in found)
    wrong = [
        f"{node.name} ({node.type} in the file, {type_} in the engine)"
        for node, type_ in found
        if UNKNOWN not in (node.type, type_) and type_ not in (MIXED, node.type)
    ]
    if wrong:
        raise GraphError(
            f"{len(wrong)} of {len(found)} convolutions do not have their type: the ONNX file has "
            f"{_counts(wanted)}, the engine has {_counts(given)}: {listed(wrong, 8)}; build a strongly typed "
            "network, with no precision flag",
            code="engine-types",
        )
    if half := [name for name, type_ in samplers.items() if type_ in (HALF, BFLOAT16)]:
        raise GraphError(
            f"{len(half)} of {len(samplers)} GridSample layers have coordinates of 16 bits, which are off by up to "
            f"half a pixel; expected Float: {listed(half, 8)}; lower the FP32 file again with this tool",
            code="engine-types",
        )
    if open_ := [_called(node) for node, type_ in found if type_ != node.type or type_ == UNKNOWN]:
        notes.append(f"the types of {len(open_)} of {len(found)} convolutions are not proven: {listed(open_, 8)}")
    if unsure := [name for name, type_ in samplers.items() if type_ != FLOAT]:
        notes.append(f"the types of {len(unsure)} of {len(samplers)} GridSample are not proven: {listed(unsure, 8)}")
    return Precision(
        proven=not notes,
        convolutions=dict(given),
        wanted=dict(wanted),
        grid_samples=dict(Counter(samplers.values())),
        notes=tuple(notes),
    )


def _convolution_type(node: OnnxNode, layers: Sequence[Layer], operators: Mapping[str, str]) -> str:
    holders = _holders(node.name, layers)
    kernels = [layer for layer in holders if _is_a("conv", layer)]
    if kernels:  # such a kernel reads activations and weights of one type, and may cast what it writes
        return _one([_kernel_type(layer) for layer in kernels])
    return _one({_fused_type(layer, operators) for layer in holders})


def _kernel_type(layer: Layer) -> str:
    return _one([type_ for type_ in (*layer.inputs[:1], layer.weights) if type_ != UNKNOWN])


def _sampler_types(nodes: Sequence[OnnxNode], layers: Sequence[Layer], operators: Mapping[str, str]) -> dict[str, str]:
    """GridSample node, or layer that names none -> its type."""
    found = {}
    for node in nodes:
        if node.op_type == "GridSample":
            holders = _holders(node.name, layers)
            own = [layer for layer in holders if _is_a("gridsample", layer)]
            types = [_io_type(layer) for layer in own] or [_fused_type(layer, operators) for layer in holders]
            found[_called(node)] = _one(types)
    for layer in layers:
        if _is_a("gridsample", layer) and not set(layer.nodes) & set(found):
            found[layer.name] = _io_type(layer)
    return found


def _holders(name: str, layers: Sequence[Layer]) -> list[Layer]:
    """The layers that compute something for a node."""
    return [layer for layer in layers if name and name in layer.nodes and layer.kind.lower() not in _MOVERS]


def _fused_type(layer: Layer, operators: Mapping[str, str]) -> str:
    """The type of all floats of a generated kernel, where no node in it casts."""
    inside = {operators.get(name) for name in layer.nodes}
    return UNKNOWN if not inside or inside & {None, "Cast", "CastLike"} else _io_type(layer)


def _io_type(layer: Layer) -> str:
    """The type of all inputs and outputs that are floats; unknown where one is not known."""
    return _one([type_ for type_ in (*layer.inputs, *layer.outputs) if type_ in (*_FLOATS, UNKNOWN)])


def _one(types: Collection[str]) -> str:
    """The type that all of them have; a type that is not known makes the answer unknown."""
    distinct = set(types)
    if not distinct or UNKNOWN in distinct:
        return UNKNOWN
    return distinct.pop() if len(distinct) == 1 else MIXED


def _is_a(what: str, layer: Layer) -> bool:
    return what in f"{layer.kind} {layer.parameters}".lower()


def _layer(entry: str | Mapping[str, Any]) -> Layer:
    if isinstance(entry, str):
        return Layer(name=entry)
    weights = entry.get("Weights")
    return Layer(
        name=str(entry.get("Name", "")),
        kind=str(entry.get("LayerType", "")),
        parameters=str(entry.get("ParameterType", "")),
        inputs=_types(entry.get("Inputs")),
        outputs=_types(entry.get("Outputs")),
        weights=_type_from_text(str(weights.get("Type", ""))) if isinstance(weights, dict) else UNKNOWN,
        nodes=_nodes(str(entry.get("Metadata", ""))),
    )


def _types(tensors: Any) -> tuple[str, ...]:
    return tuple(
        _type_from_text(str(tensor.get("Datatype", tensor.get("Format/Datatype", "")))) for tensor in tensors or ()
    )


def _type_from_text(text: str) -> str:
    for pattern, type_ in _SPELLINGS:
        if match := re.search(rf"(?<![a-z0-9])(?:{pattern})(?![0-9])", text, re.IGNORECASE):
            return match.expand(type_)
    return UNKNOWN


def _nodes(metadata: str) -> tuple[str, ...]:
    """`[ONNX Layer: a]\\x1f[ONNX Layer: b | ...]` to names; 0x1e, and nothing at all, are separators too."""
    parts = re.split(r"[\x1d-\x1f]|(?<=\])(?=\[ONNX Layer: )", metadata)
    names = [part.partition(_ONNX_LAYER)[2].strip().removesuffix("]").partition(" | ")[0] for part in parts]
    return tuple(dict.fromkeys(name for name in names if name))


def _called(node: OnnxNode) -> str:
    return node.name or f"(unnamed {node.op_type})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {type_}" for type_, count in sorted(counts.items()))
