"""The engine inspector, in the form of 10.x and of 11."""

# ruff: noqa: A002 (the argument names are the bindings')

from __future__ import annotations

import json

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
    def __init__(self, engine):
        self._engine, self.execution_context = engine, None

    def get_engine_information(self, format):
        network = self._engine._network
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        return json.dumps({"Layers": [self._layer(one) for one in layers if one.type.name != "CONSTANT"]})

    def _layer(self, layer):
        kind, parameters = _KINDS.get(layer.type.name, ("kgen", ""))
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        context = self.execution_context
        known = (context is not None and not context.infer_shapes()) or not any(-1 in one.shape for one in outputs)
        return {
            "Name": layer.name,
            "LayerType": kind,
            "ParameterType": parameters,
            "Inputs": [self._tensor(kind, one.dtype.name, known) for one in inputs if one is not None],
            "Outputs": [self._tensor(kind, one.dtype.name, known) for one in outputs],
            "Metadata": layer.metadata,
        }

    def _tensor(self, kind, dtype, known):
        text, short = _FORMATS.get(dtype, dtype) if known else _UNKNOWN, _SHORT.get(dtype, dtype)
        if self._engine._trt.__version__.startswith("10."):
            return {"Format/Datatype": text if kind.startswith("Cask") or not known else short}
        return {"Datatype": short, "Format": text}
