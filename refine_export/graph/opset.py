"""The opset of a model: raised where BF16 needs it, and GridSample spelled so that TensorRT reads it."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from refine_export.errors import GraphError
from refine_export.graph.operator_types import is_op, opset_of

LINEAR_OPSET = 20
"""From here on GridSample says `linear` where it said `bilinear`."""


def at_opset(model: ir.Model, opset: int) -> ir.Model:
    """The model at `opset`, if it has an older one; else the model itself.

    Raises:
        GraphError: an operator of the model has no form there.
    """
    if opset_of(model.graph) >= opset:
        return model
    try:
        return ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), opset))
    except Exception as error:  # the converter's errors share no base class but this one
        raise GraphError(f"the model can't be raised to opset {opset}, where Conv takes BF16: {error}") from error


def spell_bilinear(model: ir.Model) -> None:
    """Leave `mode` out of each GridSample that says `linear`: it is the default, and TensorRT can't read it."""
    if opset_of(model.graph) < LINEAR_OPSET:
        return
    for node in model.graph:
        if is_op(node, "GridSample") and node.attributes.get_string("mode", "linear") == "linear":
            node.attributes.pop("mode", None)
