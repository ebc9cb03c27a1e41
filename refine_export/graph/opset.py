"""Change a model's opset where BF16 needs it, and how GridSample is written, so that TensorRT reads it."""

from __future__ import annotations

import onnx.version_converter
import onnx_ir as ir

from refine_export.errors import GraphError
from refine_export.graph.operator_types import is_op, opset_of

_LINEAR_OPSET = 20  # GridSample's mode `bilinear` is called `linear` from here on


def at_opset(model: ir.Model, opset: int) -> ir.Model:
    """Return the model at `opset`, if it has an older one; else the model itself.

    Raises:
        GraphError: an operator of the model has no form there.
    """
    if opset_of(model.graph) >= opset:
        return model
    try:
        return ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), opset))
    except Exception as error:  # the only base class of the converter's errors
        message = f"the model cannot be raised to opset {opset}, where Conv takes BF16: {error}"
        raise GraphError(message, code="unsupported-opset", opset=opset) from error


def spell_bilinear(model: ir.Model) -> bool:
    """Leave `mode` out of each GridSample that states `linear`, in place: TensorRT's parser reads that as nearest.

    It is the default, so the meaning stays (NVIDIA/TensorRT#4646).

    Returns:
        Whether there was one.
    """
    if opset_of(model.graph) < _LINEAR_OPSET:
        return False
    stated = [node for node in model.graph if is_op(node, "GridSample") and "mode" in node.attributes]
    linear = [node for node in stated if node.attributes["mode"].as_string() == "linear"]
    for node in linear:
        node.attributes.pop("mode")
    return bool(linear)
