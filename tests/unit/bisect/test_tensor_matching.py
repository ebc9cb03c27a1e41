"""Tensors are matched by name or by place, and what differs between their nodes is described."""

import onnx
import onnx_ir as ir
import pytest

from tests.support.bisect_cases import FLOWS, X, bisected, model_of, sampling_model
from tests.support.foreign import Foreign, foreign_feeds, foreign_model


def renamed(model):
    """The model as another tool would name it, with an Identity behind each node."""
    loaded = ir.from_proto(model)
    graph = loaded.graph
    for number, node in enumerate(list(graph)):
        node.name = f"/node_{number}"
        value = node.outputs[0]
        if not value.is_graph_output():
            value.name = f"/{number}/out"
            uses = tuple(value.uses())
            idle = ir.node("Identity", [value], name=f"/idle_{number}")
            idle.outputs[0].name = f"/{number}/idle"
            for reader, index in uses:
                reader.replace_input_with(index, idle.outputs[0])
            graph.insert_after(node, idle)
    return ir.to_proto(loaded)


def test_without_names_tensors_are_matched_by_their_place():
    options = Foreign()
    good = foreign_model(options)
    bad = renamed(good)
    feeds = [foreign_feeds(options, 64, 96)]
    same = bisected(good, bad, feeds)
    assert same.passed
    assert {layer.matched_by for layer in same.layers if not layer.own} == {"name", "place"}
    assert same.not_compared == 0
    assert len(same.notes) == 1
    sampler = next(node for node in bad.graph.node if node.op_type == "GridSample")
    next(attribute for attribute in sampler.attribute if attribute.name == "mode").s = b"nearest"
    first = bisected(good, bad, feeds).first
    assert sampler.name in first.candidate
    assert first.layer.operator == "GridSample"


@pytest.mark.parametrize(
    ("good", "bad", "reasons"),
    [
        ("[a] t = Abs (x) [y] y = Neg (t)", "[a] t = Abs (x) [y] y = Exp (t)", ("made by Exp in place of Neg",)),
        (
            "[a] t = Abs (x) [b] u = Sigmoid (x) [y] y = Sub (t, u)",
            "[a] t = Abs (x) [b] u = Sigmoid (x) [y] y = Sub (u, t)",
            ("input 0 is u in place of t", "input 1 is t in place of u"),
        ),
        (
            "[y] y = Mul (x, k)",
            "[y] y = Mul (x, k2)",
            ("constant k differs by up to 0.5 of its largest magnitude",),
        ),
        (
            "[y] y = LeakyRelu (x)",
            "[n] m = Neg (x) [y] y = LeakyRelu <alpha=0.5> (m)",
            (
                "attribute alpha is 0.5 in place of 0.009999999776482582",
                "input 0 is m in place of x",
                "it is computed by 2 nodes in place of 1: LeakyRelu y, Neg n",
            ),
        ),
    ],
)
def test_what_is_written_differently_is_described(good, bad, reasons):
    result = bisected(model_of(good, k=2), model_of(bad, k2=3), [{"x": X}])
    assert result.first.layer.node == "y"
    assert result.first.reasons == reasons


def test_an_attribute_is_compared_with_its_name_in_newer_opsets():
    newer = onnx.version_converter.convert_version(sampling_model(), 20)
    next(part for part in newer.graph.node[1].attribute if part.name == "padding_mode").s = b"zeros"
    reasons = bisected(sampling_model(), newer, [FLOWS]).first.reasons
    assert reasons == ("attribute padding_mode is zeros in place of border",)
