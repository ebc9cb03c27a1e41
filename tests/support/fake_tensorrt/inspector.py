"""The engine inspector, in the form of 10.x and of 11."""

# ruff: noqa: A002 (the argument names are the bindings')

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime import ICudaEngine, IExecutionContext

_SHORT = {"FLOAT": "Float", "HALF": "Half", "BF16": "BFloat16", "INT32": "Int32", "INT64": "Int64", "BOOL": "Bool"}
_FORMATS = {"FLOAT": "Row major linear FP32", "HALF": "Channel major FP16 format where channel % 8 == 0"}
_KINDS = {  # of the network -> LayerType and ParameterType of the engine; the rest is generated ("kgen")
    "CONVOLUTION": ("CaskConvolution", "Convolution"),
    "DECONVOLUTION": ("CaskDeconvolutionV2", "Deconvolution"),
    "GRID_SAMPLE": ("GridSample", "GridSample"),
    "CAST": ("Reformat", "Reformat"),
}
_UNKNOWN = "N/A due to dynamic shapes"


class EngineInspector:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.execution_context: IExecutionContext | None = None

    def get_engine_information(self, format: Any) -> str:
        verbosity, layers = self._engine._payload["verbosity"], self._engine._payload["layers"]
        made: list[Any] = [] if verbosity == "NONE" else [layer["name"] for layer in layers]
        if verbosity == "DETAILED":
            made = [self._layer(layer) for layer in layers]
        return json.dumps({"Layers": made, "Bindings": self._engine._names})

    def _layer(self, layer: Mapping[str, Any]) -> dict[str, Any]:
        kind, parameters = _KINDS.get(layer["kind"], ("kgen", None))
        context = self.execution_context
        known = not layer["dynamic"] or (context is not None and context.all_binding_shapes_specified)
        return {
            "Name": layer["name"],
            "LayerType": kind,
            **{end.capitalize(): [self._tensor(kind, type_, known) for type_ in layer[end]] for end in _ENDS},
            **({"ParameterType": parameters} if parameters else {}),
            "Metadata": layer["metadata"],
        }

    def _tensor(self, kind: str, dtype: str, known: bool) -> dict[str, Any]:
        text = _FORMATS.get(dtype, dtype) if known else _UNKNOWN
        if self._engine._fake.numbers < (11,):
            return {"Format/Datatype": text if kind.startswith("Cask") or not known else _SHORT.get(dtype, dtype)}
        return {"Datatype": _SHORT.get(dtype, dtype), "Format": text}


_ENDS = ("inputs", "outputs")
