"""The engine inspector, in the form of 10.x and of 11."""

# ruff: noqa: A002 (the argument names are the bindings')

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .network import Tensor
from .parser import tensors_of
from .values import LayerInformationFormat, checked

if TYPE_CHECKING:
    from .runtime import ICudaEngine, IExecutionContext

_SHORT = {"FLOAT": "Float", "HALF": "Half", "BF16": "BFloat16", "INT32": "Int32", "INT64": "Int64", "BOOL": "Bool"}
_LONG = {
    "FLOAT": "Row major linear FP32",
    "HALF": "Row major linear FP16 format",
    "BF16": "Row major linear BFloat16 format",
    "INT32": "Row major linear INT32",
    "INT64": "Row major linear Int64 format",
    "BOOL": "Row major linear BOOL",
}
_CHANNELS_LAST = {
    "FLOAT": "Channel major FP32 format where channel % 4 == 0",
    "HALF": "Channel major FP16 format where channel % 8 == 0",
    "BF16": "Channel major BFloat16 format where channel % 8 == 0",
}
_KINDS = {  # of the network -> LayerType and ParameterType of the engine; the rest is generated ("kgen")
    "CONVOLUTION": ("CaskConvolution", "Convolution"),
    "DECONVOLUTION": ("CaskDeconvolutionV2", "Deconvolution"),
    "GRID_SAMPLE": ("GridSample", "GridSample"),
    "RESIZE": ("Resize", "Resize"),
    "CAST": ("Reformat", "Reformat"),
}
_UNKNOWN = "N/A due to dynamic shapes"


class EngineInspector:
    __slots__ = ("_engine", "execution_context")

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.execution_context: IExecutionContext | None = None

    def get_engine_information(self, format: Any) -> str:
        checked(LayerInformationFormat, format)
        return json.dumps({"Layers": self._layers(), "Bindings": self._engine._names})

    def _layers(self) -> list[Any]:
        verbosity = self._engine._payload["verbosity"]
        known = self._engine._payload["layers"]
        if verbosity != "DETAILED":
            return [layer["name"] for layer in known] if verbosity == "LAYER_NAMES_ONLY" else []
        shapes: dict[str, Tensor] = {}
        context = self.execution_context
        if context is not None and context.all_binding_shapes_specified:
            shapes = tensors_of(self._engine._model, context._shapes)
        made = [self._layer(layer, shapes) for layer in known]
        edit = self._engine._fake.edit_layers
        return edit(made) if edit else made

    def _layer(self, layer: Mapping[str, Any], shapes: Mapping[str, Tensor]) -> dict[str, Any]:
        kind, parameters = _KINDS.get(layer["layer"], ("kgen", None))
        weights = [{"Type": _SHORT[entry["type"]], "Count": entry["count"]} for entry in layer["weights"]]
        return {
            "Name": layer["name"],
            "LayerType": kind,
            "Inputs": [self._tensor(kind, tensor, shapes) for tensor in layer["inputs"]],
            "Outputs": [self._tensor(kind, tensor, shapes) for tensor in layer["outputs"]],
            **({"ParameterType": parameters} if parameters else {}),
            **dict(zip(("Weights", "Bias"), weights, strict=False)),
            "TacticName": f"sm90_fake_{kind.lower()}",
            "StreamId": 0,
            "Metadata": "\x1f".join(f"[ONNX Layer: {name}]" for name in layer["nodes"]),
        }

    def _tensor(self, kind: str, tensor: Mapping[str, Any], shapes: Mapping[str, Tensor]) -> dict[str, Any]:
        shape = shapes[tensor["name"]].shape if tensor["name"] in shapes else tensor["shape"]
        dtype = tensor["dtype"]
        cask = kind.startswith("Cask")
        described = _UNKNOWN if -1 in shape else (_CHANNELS_LAST if cask else _LONG).get(dtype, dtype)
        common = {"Name": tensor["name"], "Location": "Device", "Dimensions": list(shape)}
        if self._engine._fake.major == 10:
            return {**common, "Format/Datatype": described if cask or -1 in shape else _SHORT.get(dtype, dtype)}
        return {**common, "Datatype": _SHORT.get(dtype, dtype), "Format": described}
