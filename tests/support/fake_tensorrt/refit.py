"""Refitting an engine from an ONNX file."""

from __future__ import annotations

from types import SimpleNamespace

import tensorrt_rtx as rtx

from .builder import load_onnx, say


class Refitter:
    def __init__(self, engine, logger):
        self._engine, self._logger, self._new = engine, logger, {}

    def get_missing_weights(self):
        return []

    def refit_cuda_engine(self):
        for tensor in self._engine._model.graph.initializer:
            tensor.CopyFrom(self._new[tensor.name])
        self._engine._payload["stripped"] = False
        return True


class OnnxParserRefitter:
    def __init__(self, refitter, logger):
        self._refitter, self._logger, self._errors = refitter, logger, []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def refit_from_bytes(self, model, path=None):
        try:
            self._refitter._new = {one.name: one for one in load_onnx(model, path).graph.initializer}
        except Exception as error:
            return self._fail(f"Failed to parse ONNX model: {error}")
        for old in self._refitter._engine._model.graph.initializer:
            new = self._refitter._new.get(old.name)
            if new is None or (new.dims, new.data_type) != (old.dims, old.data_type):
                self._fail("Failed to find or set the weights", old.name)
        return not self._errors

    def _fail(self, desc, name=""):
        texts = {"code": rtx.ErrorCode.REFIT_FAILED, "desc": desc, "node": -1, "node_name": name, "node_operator": ""}
        self._errors.append(SimpleNamespace(**{key: lambda value=value: value for key, value in texts.items()}))
        say(self._logger, f"{name}: {desc}")
        return False
