"""Faults for the ONNX files of a model repository."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def model_with(edit):
    def changed(content):
        model = onnx.load_from_string(content)
        edit(model.graph)
        return model.SerializeToString()

    return changed


def exchange_inputs(graph):
    for node in graph.node:
        node.input[:] = [{"img0": "img1", "img1": "img0"}.get(name, name) for name in node.input]


def gain_of(value):
    def edit(graph):
        [tensor] = [one for one in graph.initializer if one.name == "gain"]
        tensor.CopyFrom(numpy_helper.from_array(np.array(value, np.float32), "gain"))

    return edit


def off_by(levels):
    """Raise every grey level, up to 255."""

    def edit(graph):
        [output] = graph.output
        for node in graph.node:
            node.output[:] = [{output.name: "before"}.get(name, name) for name in node.output]
        value = numpy_helper.from_array(np.array(255 - levels, np.uint8), "most")
        more = numpy_helper.from_array(np.array(levels, np.uint8), "more")
        graph.initializer.extend([value, more])
        graph.node.append(helper.make_node("Min", ["before", "most"], ["capped"]))
        graph.node.append(helper.make_node("Add", ["capped", "more"], [output.name]))

    return edit


def exchange_outputs(graph):
    names = {"img0": "img1", "img1": "img0"}
    for node in graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
