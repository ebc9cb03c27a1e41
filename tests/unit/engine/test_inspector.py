"""An engine's types are read in both forms of the inspector, and a convolution of the wrong type never passes."""

import dataclasses
import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.parser import parse_model

from refine_export.engine.inspector import (
    EngineLayers,
    OnnxNode,
    check_precision,
    inspect_engine,
    layers_from_json,
    nodes_from_onnx,
)
from refine_export.errors import GraphError
from tests.support.engine_models import fake_library
from tests.support.host_trt import loaded, plan_of
from tests.support.refusals import refused

VERSIONS = ("10.16.1", "11.4.0")
HALVES = [{"Name": "i", "Format/Datatype": "Half"}]
HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def network(kind: int = HALF, grid: int = SINGLE, size: str = "8,8") -> onnx.ModelProto:
    """Two convolutions (one transposed) of a type, with a GridSample between them."""
    type_, grid_type = ({HALF: "float16", SINGLE: "float"}[one] for one in (kind, grid))
    made = parse_model(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        g ({type_}[1,2,{size}] x, {grid_type}[1,{size},2] grid) => ({type_}[1,2,{size}] y)
        <{type_}[2,2,1,1] w1, {type_}[2,2,1,1] w2>
        {{
            a = Conv (x, w1)
            b = Relu (a)
            c = Cast <to = {grid}> (b)
            d = GridSample <align_corners = 1> (c, grid)
            e = Cast <to = {kind}> (d)
            y = ConvTranspose (e, w2)
        }}""")
    for node in made.graph.node:
        node.name = f"/{node.output[0]}/{node.op_type}"
    ones = np.ones((2, 2, 1, 1), {HALF: np.float16, SINGLE: np.float32}[kind])
    made.graph.initializer.extend(numpy_helper.from_array(ones, name) for name in ("w1", "w2"))
    return made


def built(monkeypatch: pytest.MonkeyPatch, version: str, model: onnx.ModelProto) -> EngineLayers:
    """The layers that the fake's inspector shows of an engine of `model`, at 8x8 where the model is dynamic."""
    library = fake_library(monkeypatch, version)
    shapes = {"x": (1, 2, 8, 8), "grid": (1, 8, 8, 2)}
    profile = {name: [shape] * 3 for name, shape in shapes.items()}
    engine = loaded(library.module, plan_of(library.module, model, profiles=[profile]))
    context = engine.create_execution_context()
    for name, shape in shapes.items():
        assert context.set_input_shape(name, shape)
    return inspect_engine(library.module, engine, context)


def layer(kind: str, nodes: str, inputs: list[str], outputs: list[str], **more: Any) -> dict[str, Any]:
    """A layer in the form of 10.x."""
    return {
        "Name": nodes or kind,
        "LayerType": kind,
        "Inputs": [{"Name": "i", "Format/Datatype": text} for text in inputs],
        "Outputs": [{"Name": "o", "Format/Datatype": text} for text in outputs],
        "Metadata": "\x1f".join(f"[ONNX Layer: {name}]" for name in nodes.split()),
        **more,
    }


def judged(*layers: dict[str, Any] | str, nodes: tuple[OnnxNode, ...] = ()) -> Any:
    conv = OnnxNode(name="c", op_type="Conv", type="Half")
    relu = OnnxNode(name="r", op_type="Relu", type="Half")
    cast = OnnxNode(name="k", op_type="Cast", type="Half")
    return check_precision(layers_from_json(json.dumps({"Layers": layers})), nodes or (conv, relu, cast))


# ---------------------------------------------------------------------------------------------- both forms


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("kind", "word"), [(HALF, "Half"), (SINGLE, "Float")])
@pytest.mark.parametrize("size", ["8,8", '"H","W"'], ids=["static", "dynamic"])
def test_types_are_counted(version: str, kind: int, word: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(kind, size=size)
    found = check_precision(built(monkeypatch, version, model), nodes_from_onnx(model))
    assert found.proven, found.notes
    assert found.convolutions == found.wanted == {word: 2}
    assert found.grid_samples == {"Float": 1}
    json.dumps(dataclasses.asdict(found), allow_nan=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_fp16_convolutions_that_are_not_half_fail(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = built(monkeypatch, version, network(SINGLE))
    with pytest.raises(GraphError, match="2 of 2 convolutions(?s:.)*/a/Conv(?s:.)*/y/ConvTranspose") as caught:
        check_precision(layers, nodes_from_onnx(network()))
    assert caught.value.code == "engine-types"


@pytest.mark.parametrize("version", VERSIONS)
def test_half_coordinates_fail(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(grid=HALF)
    layers = built(monkeypatch, version, model)
    with refused("engine-types", GraphError):
        check_precision(layers, nodes_from_onnx(model))


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"Layers": 3}', '{"Bindings": []}', '{"Layers": []}', '{"Layers": ["/a/Conv", "/d/GridSample"]}'],
)
def test_text_without_layers_or_types_proves_nothing(text: str) -> None:
    found = check_precision(layers_from_json(text), nodes_from_onnx(network()))
    assert (found.proven, len(found.notes)) == (False, 3)
    assert (found.convolutions, found.grid_samples) == ({"unknown": 2}, {"unknown": 1})


# ---------------------------------------------------------------------------------------------- words and separators


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("Row major linear FP32", "Float"),
        ("Row major linear FP16 format", "Half"),
        ("Channel major FP16 format where channel % 8 == 0", "Half"),
        ("Row major linear BFloat16 format", "BFloat16"),
        ("Half", "Half"),
        ("BFloat16", "BFloat16"),
        ("FP8", "FP8"),
        ("N/A due to dynamic shapes", "unknown"),
        ("Something new", "unknown"),
    ],
)
def test_words_of_the_inspector(text: str, type_: str) -> None:
    made = layers_from_json(json.dumps({"Layers": [layer("kgen", "c", [text], [text])]}))
    assert made.layers[0].inputs == made.layers[0].outputs == (type_,)
    other = {"Name": "n", "LayerType": "kgen", "Inputs": [{"Datatype": text, "Format": "Row major linear FP16 format"}]}
    assert layers_from_json(json.dumps({"Layers": [other]})).layers[0].inputs == (type_,)


@pytest.mark.parametrize(
    "metadata",
    [
        "[ONNX Layer: /a[0]/Conv]\x1f[ONNX Layer: /b/Relu]",
        "[ONNX Layer: /a[0]/Conv][ONNX Layer: /b/Relu]",
        "[ONNX Layer: /a[0]/Conv | Local Function: f]\x1fplugin [ONNX Layer: /b/Relu]\x1f[ONNX Layer: /b/Relu]",
    ],
)
def test_nodes_of_a_layer(metadata: str) -> None:
    """Raw control characters, which strict JSON refuses, are taken as well."""
    text = json.dumps({"Layers": [{"Name": "n", "Metadata": metadata}]})
    for spelled in (text, text.replace("\\u001f", "\x1f")):
        assert layers_from_json(spelled).layers[0].nodes == ("/a[0]/Conv", "/b/Relu")


# ---------------------------------------------------------------------------------------------- what proves what


@pytest.mark.parametrize(
    ("made", "convolutions", "proven"),
    [
        ([layer("CaskConvolution", "c r", ["Half"], ["Half"])], {"Half": 1}, True),
        ([layer("CaskConvActPool", "c r k", ["Half"], ["Float"])], {"Half": 1}, True),  # casts what it writes
        ([layer("fusion", "c", ["Half"], ["Half"], ParameterType="Convolution")], {"Half": 1}, True),
        ([layer("CaskConvolution", "c", ["N/A"], ["N/A"], Weights={"Type": "Half"})], {"Half": 1}, True),
        ([layer("CaskConvolution", "c", ["Half", "Float"], ["Half"])], {"Half": 1}, True),  # adds an FP32 residual
        ([layer("CaskConvolution", "c", ["Float"], ["Half"], Weights={"Type": "Half"})], {"mixed": 1}, False),
        ([layer("CaskConvolution", "c", ["N/A"], ["Half"])], {"unknown": 1}, False),
        ([layer("kgen", "c r", ["Half"], ["Half"])], {"Half": 1}, True),
        ([layer("kgen", "c r k", ["Half"], ["Half"])], {"unknown": 1}, False),  # a cast in it: inside may be FP32
        ([layer("kgen", "c other", ["Half"], ["Half"])], {"unknown": 1}, False),
        ([layer("kgen", "c r", ["Half"], ["Float"])], {"mixed": 1}, False),
        ([layer("kgen", "c", ["Half"], ["Half"]), layer("gemm", "c", ["N/A"], ["Half"])], {"unknown": 1}, False),
        ([layer("kgen", "c", ["Int32", "Half"], ["Half"])], {"Half": 1}, True),
        ([layer("Reformat", "c", ["Float"], ["Float"])], {"unknown": 1}, False),  # moves data, computes nothing
        ([layer("Reformat", "c", ["Float"], ["Half"]), layer("kgen", "c", ["Half"], ["Half"])], {"Half": 1}, True),
        ([layer("CaskConvolution", "c", [], [])], {"unknown": 1}, False),  # keys that are called something else
        ([{"Name": "c", "LayerType": "CaskConvolution", "Inputs": HALVES, "Outputs": HALVES}], {"unknown": 1}, False),
        ([], {"unknown": 1}, False),
        (["c"], {"unknown": 1}, False),
    ],
)
def test_what_proves_a_convolution(made: list[Any], convolutions: dict[str, int], proven: bool) -> None:
    found = judged(*made)
    assert (found.convolutions, found.proven) == (convolutions, proven)
    assert proven or found.notes


def test_an_fp32_convolution_that_became_half_fails() -> None:
    """An island that the file keeps in FP32 is a request as well."""
    node = OnnxNode(name="c", op_type="Conv", type="Float")
    made = layer("CaskConvolution", "c", ["Half"], ["Half"])
    with refused("engine-types", GraphError):
        judged(made, nodes=(node,))


def test_nodes_without_names_are_not_proven_and_all_counted() -> None:
    node = OnnxNode(name="", op_type="Conv", type="Half")
    found = judged(layer("CaskConvolution", "", ["Half"], ["Half"]), nodes=(node, node))
    assert (found.convolutions, found.wanted, found.proven) == ({"unknown": 2}, {"Half": 2}, False)


@pytest.mark.parametrize("name", ["g", ""], ids=["named", "not named"])
def test_a_half_sampler_fails_whatever_its_name(name: str) -> None:
    node = OnnxNode(name="g", op_type="GridSample", type="Float")
    made = layer("GridSample", name, ["Half", "Half"], ["Half"])
    with refused("engine-types", GraphError):
        judged(made, nodes=(node,))


def test_a_sampler_in_a_generated_kernel_is_not_proven() -> None:
    """With the casts in the same kernel, its inputs and outputs do not show the type of the coordinates."""
    nodes = tuple(OnnxNode(name=n, op_type=o, type="Float") for n, o in (("g", "GridSample"), ("k", "Cast")))
    found = judged(layer("kgen", "k g", ["Half", "Half"], ["Half"]), nodes=nodes)
    assert (found.proven, found.grid_samples) == (False, {"unknown": 1})
    assert judged(layer("kgen", "g", ["Float"], ["Float"]), nodes=nodes).grid_samples == {"Float": 1}
