"""A runtime that samples wrongly."""

import onnx

from refine_export.runners.onnxruntime import OrtRunner

WRONG = {
    "nearest": ("mode", "nearest"),
    "zeros padding": ("padding_mode", "zeros"),
    "unaligned corners": ("align_corners", 0),
}
"""The attribute that is read wrongly, by the problem's name."""


class WrongSampler(OrtRunner):
    """ONNX Runtime that reads GridSample's attributes wrongly, as TensorRT's parser did."""

    wrong = WRONG["nearest"]

    def __init__(self, model, **given):
        proto = onnx.load_model_from_string(model)
        name, value = self.wrong
        for node in proto.graph.node:
            if node.op_type == "GridSample":
                kept = [one for one in node.attribute if one.name != name]
                del node.attribute[:]
                node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
        super().__init__(proto.SerializeToString(), **given)
