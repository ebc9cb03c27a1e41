"""The canary tells right sampling from each wrong one; torch, ONNX Runtime and numpy agree on which is which."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from refine_export.engine.canary import OUTPUT, TOLERANCE, canary_feeds, canary_onnx, check_canary, expected_outputs
from refine_export.runners.onnxruntime import OrtRunner
from tests.support.fake_tensorrt import make_fake


def run(model: onnx.ModelProto | bytes) -> NDArray[Any]:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with OrtRunner(content, optimize=False) as runner:
        return runner.run(canary_feeds())[OUTPUT]


def changed(**attributes: Any) -> onnx.ModelProto:
    """The canary with other attributes of GridSample."""
    model = onnx.load_from_string(canary_onnx())
    for node in model.graph.node:
        if node.op_type == "GridSample":
            kept = [attribute for attribute in node.attribute if attribute.name not in attributes]
            del node.attribute[:]
            node.attribute.extend([*kept, *(onnx.helper.make_attribute(*pair) for pair in attributes.items())])
    return model


def half_coordinates() -> onnx.ModelProto:
    """The canary with its grids cast to FP16 and back."""
    model = onnx.load_from_string(canary_onnx())
    nodes = []
    for node in model.graph.node:
        if node.op_type == "GridSample":
            grid = node.input[1]
            nodes.append(onnx.helper.make_node("Cast", [grid], [f"{grid}_16"], to=onnx.TensorProto.FLOAT16))
            nodes.append(onnx.helper.make_node("Cast", [f"{grid}_16"], [f"{grid}_32"], to=onnx.TensorProto.FLOAT))
            node.input[1] = f"{grid}_32"
        nodes.append(node)
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copied)
    return model


WRONG = {
    "nearest": lambda: changed(mode="nearest"),
    "zeros padding": lambda: changed(padding_mode="zeros"),
    "unaligned corners": lambda: changed(align_corners=0),
    "fp16 coordinates": half_coordinates,
}


def test_the_file_is_valid_and_typed_as_it_says() -> None:
    model = onnx.load_from_string(canary_onnx())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("GridSample") == 2
    inferred = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    }
    for node in model.graph.node:
        assert node.name
        if node.op_type == "GridSample":
            assert {inferred[name] for name in (*node.input, *node.output)} == {onnx.TensorProto.FLOAT}
    assert inferred["dark"] == inferred["sampled16"] == onnx.TensorProto.FLOAT16


def test_onnxruntime_gives_the_right_answer() -> None:
    """|ORT - numpy| < 2e-3."""
    canary = check_canary(run(canary_onnx()))
    assert canary.passed
    assert canary.error is not None
    assert canary.error < TOLERANCE
    assert canary.fault is None
    assert "bilinear" in canary.words


@pytest.mark.parametrize("fault", WRONG)
def test_each_fault_is_named(fault: str) -> None:
    """A wrong variant is off by more than 0.05 and is called by its name."""
    canary = check_canary(run(WRONG[fault]()))
    assert not canary.passed
    assert canary.error is not None
    assert canary.error > 0.05
    assert canary.fault == fault
    assert fault in canary.words


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("right", {"mode": "bilinear", "padding_mode": "border", "align_corners": True}),
        ("nearest", {"mode": "nearest", "padding_mode": "border", "align_corners": True}),
        ("zeros padding", {"mode": "bilinear", "padding_mode": "zeros", "align_corners": True}),
        ("unaligned corners", {"mode": "bilinear", "padding_mode": "border", "align_corners": False}),
    ],
)
def test_numpy_and_torch_agree(name: str, options: dict[str, Any]) -> None:
    """Our own arithmetic is torch.nn.functional.grid_sample in FP64, to 1e-9."""
    feeds = {key: torch.from_numpy(value).double() for key, value in canary_feeds().items()}
    height, width = feeds["picture"].shape[2:]
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, dtype=torch.float64),
        torch.linspace(-1, 1, width, dtype=torch.float64),
        indexing="ij",
    )
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1)], dtype=torch.float64)
    step = feeds["flow"].permute(0, 2, 3, 1) * scale
    base = torch.stack([x, y], dim=-1)[None]
    warped = [torch.nn.functional.grid_sample(feeds["picture"], grid, **options) for grid in (base + step, base - step)]
    assert np.abs(torch.cat(warped, dim=1).numpy() - expected_outputs()[name]).max() < 1e-9


def test_other_wrong_answers_have_no_name() -> None:
    right = expected_outputs()["right"]
    assert check_canary(right).passed
    assert check_canary(right + 0.25).fault == "unknown"
    assert check_canary(right[:, :2]).fault == "shape"
    broken = right.copy()
    broken[0, 0, 0, 0] = np.nan
    assert check_canary(broken).fault == "not finite"
    one_pixel = right.copy()
    one_pixel[0, 0, 3, 3] += 0.1
    assert not check_canary(one_pixel).passed


def test_the_result_is_data() -> None:
    for actual in (expected_outputs()["right"], expected_outputs()["nearest"], np.full((1, 4, 16, 2048), np.inf)):
        json.dumps(dataclasses.asdict(check_canary(actual)), allow_nan=False)


@pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
def test_tensorrts_parser_takes_it(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control flow only: the fake parses it strongly typed, and its two samplers are seen."""
    fake = make_fake(version)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    logger = fake.Logger(fake.Logger.ERROR)
    builder = fake.Builder(logger)
    network = builder.create_network(1 << int(fake.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert fake.OnnxParser(network, logger).parse(canary_onnx())
    kinds = [network.get_layer(place).type for place in range(network.num_layers)]
    assert kinds.count(fake.LayerType.GRID_SAMPLE) == 2
    assert builder.build_serialized_network(network, builder.create_builder_config()) is not None
