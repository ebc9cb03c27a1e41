"""Refitting an engine from an ONNX file."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from .callbacks import ILogger, say
from .parser import Errors
from .plan import digest
from .runtime import ICudaEngine


class Refitter:
    __slots__ = ("_engine", "_logger", "_new")

    def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
        if not engine.refittable:
            say(logger, "ERROR", "createInferRefitter: Error Code 3: API Usage Error (the engine is not refittable)")
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
            say(self._logger, "ERROR", f"refitCudaEngine: weights are missing: {missing}")
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


class OnnxParserRefitter(Errors):
    __slots__ = ("_refitter",)

    def __init__(self, refitter: Refitter, logger: ILogger) -> None:
        super().__init__(logger)
        self._refitter = refitter

    def refit_from_bytes(self, model: Any, path: str | None = None) -> bool:
        engine = self._refitter._engine
        if engine._fake.fails("refit_from_bytes", self._logger):
            return self._add(code="REFIT_FAILED", desc="Failed to refit the engine: the test asked for it")
        loaded = self._load(model, path)
        if loaded is None:
            return False
        new = {tensor.name: tensor for tensor in loaded.graph.initializer}
        for old in engine._model.graph.initializer:
            if old.name not in new:
                self._add(code="REFIT_FAILED", name=old.name, desc=f"Failed to find the weights {old.name}")
                continue
            same = new[old.name].dims == old.dims and new[old.name].data_type == old.data_type
            if not same:
                shapes = f"{list(new[old.name].dims)} where the engine has {list(old.dims)}"
                self._add(code="REFIT_FAILED", name=old.name, desc=f"Failed to set weights: {old.name} is {shapes}")
        if self._found:
            return False
        self._refitter._new = {name: new[name] for name in self._refitter.get_all_weights()}
        return True
