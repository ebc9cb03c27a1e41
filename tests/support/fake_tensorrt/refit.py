"""Refitting an engine from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import tensorrt_rtx as rtx
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from .behaviour import say
from .builder import digest
from .runtime import ICudaEngine


class Refitter:
    def __init__(self, engine: ICudaEngine, logger: Any) -> None:
        if not engine.refittable:
            say(logger, "createInferRefitter: Error Code 3: API Usage Error (the engine is not refittable)")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._engine, self._logger = engine, logger
        self._new: dict[str, TensorProto] = {}

    def get_all_weights(self) -> list[str]:
        return list(self._engine._payload["digests"])

    def get_missing_weights(self) -> list[str]:
        return [name for name in self._engine._payload["missing"] if name not in self._new]

    def refit_cuda_engine(self) -> bool:
        payload = self._engine._payload
        if self._engine._fake.fails("refit_cuda_engine", self._logger):
            return False
        if missing := self.get_missing_weights():
            say(self._logger, f"refitCudaEngine: weights are missing: {missing}")
            return False
        for tensor in self._engine._model.graph.initializer:
            if tensor.name in self._new:
                tensor.CopyFrom(self._new[tensor.name])
        other = any(digest(tensor) != payload["digests"][name] for name, tensor in self._new.items())
        if other and payload["refit"] == "REFIT_IDENTICAL":  # undefined behaviour, and the log says nothing
            payload["error"] = 1.0
        payload["missing"] = []
        self._engine._session = None
        self._new = {}
        return True


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: Any) -> None:
        self._refitter, self._logger = refitter, logger
        self._found: list[Any] = []

    @property
    def num_errors(self) -> int:
        return len(self._found)

    def get_error(self, index: int) -> Any:
        return self._found[index]

    def _add(self, desc: str, name: str = "") -> bool:
        code = rtx.ErrorCode.REFIT_FAILED
        texts = {"code": code, "desc": desc, "node": -1, "node_name": name, "node_operator": ""}
        self._found.append(SimpleNamespace(**{key: lambda value=value: value for key, value in texts.items()}))
        say(self._logger, f"{name}: {desc}")
        return False

    def refit_from_bytes(self, model: Any, path: str | None = None) -> bool:
        engine = self._refitter._engine
        if engine._fake.fails("refit_from_bytes", self._logger):
            return self._add("Failed to refit the engine: the test asked for it")
        try:
            loaded = onnx.load_model_from_string(bytes(model))
            if any(uses_external_data(tensor) for tensor in loaded.graph.initializer):
                load_external_data_for_model(loaded, str(Path(path or "").parent))
        except Exception as error:
            return self._add(f"Failed to parse ONNX model: {error}")
        new = {tensor.name: tensor for tensor in loaded.graph.initializer}
        for old in engine._model.graph.initializer:
            if old.name not in new:
                self._add(f"Failed to find the weights {old.name}", old.name)
                continue
            same = new[old.name].dims == old.dims and new[old.name].data_type == old.data_type
            if not same:
                shapes = f"{list(new[old.name].dims)} where the engine has {list(old.dims)}"
                self._add(f"Failed to set weights: {old.name} is {shapes}", old.name)
        if self._found:
            return False
        self._refitter._new = {name: new[name] for name in self._refitter.get_all_weights()}
        return True
