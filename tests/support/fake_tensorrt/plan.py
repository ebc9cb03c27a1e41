"""What a build puts into a plan, and the bytes of the plan."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

from .network import INetworkDefinition, Node
from .parser import PADDINGS
from .values import Shape

if TYPE_CHECKING:
    from .builder import IBuilderConfig


def refit_mode(config: IBuilderConfig) -> str | None:
    return next((mode for mode in ("REFIT", "REFIT_IDENTICAL") if config._has(mode)), None)


def payload_from_network(network: INetworkDefinition, config: IBuilderConfig) -> dict[str, Any]:
    fake = network._fake
    model = onnx.ModelProto()
    model.CopyFrom(network._model or onnx.ModelProto())
    _write_grid_samples(model, network._nodes)
    layers = list(_engine_layers(network))
    if config._cache is not None:
        config._cache._entries.update({layer["name"]: 0.01 for layer in layers})
    half = any(tensor.dtype == "HALF" for tensor in network._tensors.values())
    grids = [node for node in network._nodes if node.layer == "GRID_SAMPLE"]
    fused = [node for node in grids if not {*node.outputs} & {*network._outputs, *network._debug}]
    wrong = {"always": True, "half": half, "grid_sample": bool(grids), "fused_grid_sample": bool(fused)}
    payload: dict[str, Any] = {
        "version": fake.version,
        "version_compatible": config._has("VERSION_COMPATIBLE"),
        "lean_runtime": config._has("VERSION_COMPATIBLE") and not config._has("EXCLUDE_LEAN_RUNTIME"),
        "verbosity": config.profiling_verbosity.name,
        "profiles": [profile._shapes for profile in config._profiles] or [{}],
        "refit": refit_mode(config),
        "inputs": {name: vars(network._tensors[name]) for name in network._inputs},
        "outputs": {name: vars(network._tensors[name]) for name in network._outputs},
        "layers": layers,
        "error": fake.error if wrong.get(fake.wrong, False) else 0.0,
        "digests": {tensor.name: digest(tensor) for tensor in model.graph.initializer},
        "stripped": config._has("STRIP_PLAN"),
        "missing": [tensor.name for tensor in model.graph.initializer] if config._has("STRIP_PLAN") else [],
    }
    return {**payload, "model": model_text(model, payload["missing"])}


def digest(tensor: TensorProto) -> str:
    return hashlib.sha256(onnx.numpy_helper.to_array(tensor).tobytes()).hexdigest()


def model_text(model: onnx.ModelProto, without: Sequence[str] = ()) -> str:
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    for tensor in kept.graph.initializer:
        if tensor.name in without:
            for values in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
                tensor.ClearField(values)
    return base64.b64encode(kept.SerializeToString()).decode()


def _write_grid_samples(model: onnx.ModelProto, nodes: Sequence[Node]) -> None:
    """What the layers say is what will be computed."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    words = ("nearest", "bilinear", "bicubic") if opset < 20 else ("nearest", "linear", "cubic")
    paddings = {name: word for word, name in PADDINGS.items()}
    for node in nodes:
        if node.layer == "GRID_SAMPLE":
            target = model.graph.node[node.index]
            del target.attribute[:]
            values = {
                "mode": words[int(node.grid["interpolation_mode"])],
                "align_corners": int(node.grid["align_corners"]),
                "padding_mode": paddings[node.grid["sample_mode"].name],
            }
            target.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in values.items())


def _engine_layers(network: INetworkDefinition) -> Iterator[dict[str, Any]]:
    """One per node, but an activation after a convolution joins it, and constants are gone."""
    weights = {tensor.name for tensor in (network._model or onnx.ModelProto()).graph.initializer}
    by_input: dict[str, list[Node]] = {}
    for node in network._nodes:
        for name in node.inputs:
            by_input.setdefault(name, []).append(node)
    joined: set[int] = set()
    for node in network._nodes:
        if node.index in joined or node.layer == "CONSTANT":
            continue
        members = [node]
        after = by_input.get(node.outputs[0], [])
        convolves = node.layer in ("CONVOLUTION", "DECONVOLUTION")
        alone = len(after) == 1 and node.outputs[0] not in {*network._outputs, *network._debug}
        if convolves and alone and after[0].layer in ("ACTIVATION", "PARAMETRIC_RELU"):
            members.append(after[0])
            joined.add(after[0].index)
        told = network._fake.convolutions if convolves else None
        yield {
            "name": " + ".join(member.name for member in members),
            "layer": node.layer,
            "nodes": [member.name for member in members],
            "inputs": [
                _seen(network, name, told) for name in node.inputs if name in network._tensors and name not in weights
            ],
            "outputs": [_seen(network, name, told) for name in members[-1].outputs if name in network._tensors],
            "weights": [
                {"type": told or network._tensors[name].dtype, "count": math.prod(network._tensors[name].shape)}
                for name in node.inputs[1:]
                if convolves and name in weights
            ],
        }


def _seen(network: INetworkDefinition, name: str, told: str | None) -> dict[str, Any]:
    tensor = network._tensors[name]
    return {"name": name, "dtype": told or tensor.dtype, "shape": tensor.shape}


# ------------------------------------------------------------------------------------------- plan

_TAG = 0x74727466  # "ftrt": samples/common/sampleEngines.cpp of 10.14 reads it and the version in bytes 24 to 27
_HEADER = struct.Struct("<IIQ8x4B")


def plan_from_payload(version: Shape, payload: Mapping[str, Any]) -> bytes:
    body = json.dumps(payload).encode()
    four = [*version, 0, 0, 0, 0][:4]
    return _HEADER.pack(_TAG, 0, len(body), *(number & 0xFF for number in four)) + body


def payload_from_plan(plan: bytes) -> dict[str, Any] | str:
    """What `_payload` made, or the words of the refusal."""
    try:
        loaded: dict[str, Any] = json.loads(plan[_HEADER.size :])
    except ValueError as error:
        return f"Serialization assertion failed: {error}"
    return loaded
