"""Parser, builder and configuration: the real ones behind the calls that need a GPU or that fail on request."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx
import tensorrt_rtx as rtx
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from .behaviour import Behaviour, IHostMemory, say


class OnnxParser:
    """The real parser, except that it takes `linear` for nearest, and keeps what it parsed."""

    _fake: ClassVar[Behaviour]

    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._real = network, rtx.OnnxParser(network, logger)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def parse(self, model: Any, path: str | None = None) -> bool:
        if not self._real.parse(model, path):
            return False
        loaded = onnx.load_model_from_string(bytes(model))
        if any(uses_external_data(tensor) for tensor in loaded.graph.initializer):
            load_external_data_for_model(loaded, str(Path(path or "").parent))
        self._fake.models[id(self._network)] = self._network, loaded
        samplers = [layer for layer in layers_of(self._network) if layer.type == rtx.LayerType.GRID_SAMPLE]
        nodes = [node for node in loaded.graph.node if node.op_type == "GridSample"]
        for layer, node in zip(samplers, nodes, strict=False):
            mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"")
            if mode == b"linear" and not self._fake.knows_linear:
                layer.__class__ = rtx.IGridSampleLayer
                layer.interpolation_mode = rtx.InterpolationMode.NEAREST
        return True


class ITimingCache:
    def __init__(self, origin: str, entries: dict[str, float]) -> None:
        self._origin, self._entries = origin, entries

    def serialize(self) -> IHostMemory:
        return IHostMemory(b"ftcache:" + json.dumps({"origin": self._origin, "entries": self._entries}).encode())


class IBuilderConfig:
    """The real configuration, with timing caches, and with the options that TensorRT for RTX ignores."""

    def __init__(self, fake: Behaviour, logger: Any) -> None:
        self.__dict__.update(_fake=fake, _logger=logger, _profiles=[], _cache=None, _builder=rtx.Builder(logger))
        self.__dict__["_real"] = self._builder.create_builder_config()
        self.__dict__["hardware_compatibility_level"] = rtx.HardwareCompatibilityLevel.NONE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self._real, name, value)

    def add_optimization_profile(self, profile: Any) -> int:
        if self._fake.fails("add_optimization_profile", self._logger):
            return -1
        self._profiles.append(profile)
        return int(self._real.add_optimization_profile(profile))

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache | None:
        blob = bytes(serialized_timing_cache)
        if self._fake.fails("create_timing_cache", self._logger):
            return None
        try:
            known = json.loads(blob.removeprefix(b"ftcache:")) if blob else {}
            return ITimingCache(known["origin"], known["entries"]) if blob else ITimingCache(self._origin, {})
        except (ValueError, KeyError, TypeError):
            # Read of enterprise TensorRT; TensorRT for RTX warns, and gives an empty cache.
            say(self._logger, "createTimingCache: Error Code 1: Serialization (the timing cache is damaged)")
            return None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if self._fake.fails("set_timing_cache", self._logger):
            return False
        if cache._origin != self._origin and not ignore_mismatch:
            say(self._logger, f"setTimingCache: the cache is of {cache._origin}, this is {self._origin}")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    @property
    def _origin(self) -> str:
        return f"{self._fake.version} {self._fake.compute_capability}"

    def _has(self, flag: str) -> bool:
        return bool(self._real.get_flag(rtx.BuilderFlag.__members__[flag]))


class Builder:
    _fake: ClassVar[Behaviour]

    def __init__(self, logger: Any) -> None:
        self._logger, self._real = logger, rtx.Builder(logger)
        needs_gpu(self._fake, logger)

    def create_network(self, flags: int = 0) -> Any:
        return None if self._fake.fails("create_network", self._logger) else self._real.create_network(flags)

    def create_builder_config(self) -> Any:
        failed = self._fake.fails("create_builder_config", self._logger)
        return None if failed else IBuilderConfig(self._fake, self._logger)

    def create_optimization_profile(self) -> Any:
        failed = self._fake.fails("create_optimization_profile", self._logger)
        return None if failed else self._real.create_optimization_profile()

    def build_serialized_network(self, network: Any, config: IBuilderConfig) -> IHostMemory | None:
        if self._fake.fails("build_serialized_network", self._logger):
            return None
        if self._fake.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return IHostMemory(plan_from_payload(self._fake.numbers, _payload(self._fake, network, config)))


def needs_gpu(fake: Behaviour, logger: Any) -> None:
    """Fail as the first constructor of a process does without a GPU."""
    if not fake.gpu:
        say(logger, "CUDA initialization failure with error: 35. Is a GPU there, and its driver?")
        raise TypeError("pybind11::init(): factory function returned nullptr")


def layers_of(network: Any) -> list[Any]:
    return [network.get_layer(index) for index in range(network.num_layers)]


# ------------------------------------------------------------------------------------------- plan


def _payload(fake: Behaviour, network: Any, config: IBuilderConfig) -> dict[str, Any]:
    """Contents of a plan."""
    _, model = fake.models[id(network)]
    ends = {
        "inputs": [network.get_input(index) for index in range(network.num_inputs)],
        "outputs": [network.get_output(index) for index in range(network.num_outputs)],
    }
    described = {
        kind: {one.name: {"dtype": one.dtype.name, "shape": list(one.shape)} for one in tensors}
        for kind, tensors in ends.items()
    }
    layers = [_layer(layer, fake) for layer in layers_of(network) if layer.type != rtx.LayerType.CONSTANT]
    if config._cache is not None:
        config._cache._entries.update({layer["name"]: 0.01 for layer in layers})
    grids = [layer.get_output(0) for layer in layers_of(network) if layer.type == rtx.LayerType.GRID_SAMPLE]
    fused = [grid for grid in grids if not (grid.is_network_output or network.is_debug_tensor(grid))]
    half = any("HALF" in (*layer["inputs"], *layer["outputs"]) for layer in layers)
    wrong = {"always": True, "half": half, "grid_sample": bool(grids), "fused_grid_sample": bool(fused)}
    stripped = config._has("STRIP_PLAN")
    payload = described | {
        "version": fake.version,
        "version_compatible": config._has("VERSION_COMPATIBLE"),
        "lean_runtime": config._has("VERSION_COMPATIBLE") and not config._has("EXCLUDE_LEAN_RUNTIME"),
        "verbosity": config.profiling_verbosity.name,
        "profiles": [_shapes(profile, described["inputs"]) for profile in config._profiles] or [{}],
        "refit": next((mode for mode in ("REFIT", "REFIT_IDENTICAL") if config._has(mode)), None),
        "layers": layers,
        "error": fake.error if wrong.get(fake.wrong, False) else 0.0,
        "digests": {tensor.name: digest(tensor) for tensor in model.graph.initializer},
        "stripped": stripped,
        "missing": [tensor.name for tensor in model.graph.initializer] if stripped else [],
    }
    return {**payload, "model": model_text(model, payload["missing"])}


def _layer(layer: Any, fake: Behaviour) -> dict[str, Any]:
    told = fake.convolutions if layer.type.name in ("CONVOLUTION", "DECONVOLUTION") else None
    places = {"inputs": (layer.num_inputs, layer.get_input), "outputs": (layer.num_outputs, layer.get_output)}
    tensors = {kind: [get(index) for index in range(count)] for kind, (count, get) in places.items()}
    return {
        "name": layer.name,
        "kind": layer.type.name,
        "metadata": layer.metadata,
        "dynamic": any(-1 in one.shape for one in tensors["outputs"]),
        **{kind: [told or one.dtype.name for one in found if one is not None] for kind, found in tensors.items()},
    }


def _shapes(profile: Any, inputs: Mapping[str, Any]) -> dict[str, list[list[int]]]:
    dynamic = [name for name, known in inputs.items() if -1 in known["shape"]]
    return {name: [list(shape) for shape in profile.get_shape(name)] for name in dynamic}


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


_TAG = 0x74727466  # "ftrt": samples/common/sampleEngines.cpp of 10.14 reads it and the version in bytes 24 to 27
_HEADER = struct.Struct("<IIQ8x4B")


def plan_from_payload(version: Sequence[int], payload: Mapping[str, Any]) -> bytes:
    body = json.dumps(payload).encode()
    four = [*version, 0, 0, 0, 0][:4]
    return _HEADER.pack(_TAG, 0, len(body), *(number & 0xFF for number in four)) + body


def payload_from_plan(plan: bytes) -> dict[str, Any] | str:
    """Result of `_payload`, or the text of the refusal."""
    try:
        loaded: dict[str, Any] = json.loads(plan[_HEADER.size :])
    except ValueError as error:
        return f"Serialization assertion failed: {error}"
    return loaded
