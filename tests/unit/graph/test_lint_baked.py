"""The linter finds sizes and grids that an export has frozen, and none where there are none."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from refine_export.graph.linter import lint_file, lint_model
from rife.warplayer import warp
from tests.support.lint_models import BOTH, GOOD, IMAGE, OUT, model_of


class Warp(torch.nn.Module):
    def forward(self, image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        return warp(image, flow)


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*The axis name:UserWarning")
def test_dynamic_export_of_torch_bakes_the_size(tmp_path: Path):
    """The exporter freezes linspace's steps: right at the traced size, a failure at any other."""
    height, width = torch.export.Dim("h", min=1, max=64), torch.export.Dim("w", min=1, max=64)
    dynamic = {2: 32 * height, 3: 32 * width}
    example = torch.rand(1, 3, 64, 96), torch.rand(1, 2, 64, 96)
    path = tmp_path / "warp.onnx"
    torch.onnx.export(
        Warp().eval(), example, path, dynamo=True, opset_version=18, verbose=False,
        input_names=["image", "flow"], output_names=["out"], dynamic_shapes={"image": dynamic, "flow": dynamic},
    )  # fmt: skip
    findings = lint_file(path)
    assert [f.rule for f in findings] == ["baked-size", "baked-size", "baked-grid", "baked-grid"]
    assert findings[0].node == "out"
    assert "axis 2 is always 64" in findings[0].message
    assert {"[96]", "[64, 1]"} == {re.search(r"\[.*\]", f.message)[0] for f in findings[2:]}

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {"image": example[0].numpy(), "flow": example[1].numpy()}
    np.testing.assert_allclose(session.run(None, feeds)[0], warp(*example), atol=1e-5)
    with pytest.raises(Exception, match="broadcast"):
        session.run(None, {name: np.zeros((1, value.shape[1], 96, 128), np.float32) for name, value in feeds.items()})

    # the same file where the output is said to be dynamic: the nodes say otherwise
    model = onnx.load(path)
    for axis in (2, 3):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = f"out_{axis}"
    assert "axis 2 is always 64 (the file states 'out_2')" in lint_model(model)[0].message


DYNAMIC_GRID = "t = Transpose <perm=[0,2,3,1]> (flow) g = Add (t, c)"


@pytest.mark.parametrize(
    ("shape", "inputs", "found"),
    [
        ((1, 64, 96, 2), BOTH, True),
        ((1, 1, 96, 2), BOTH, True),
        ((96, 2), BOTH, True),
        ((64, 1, 1), BOTH, False),  # as the bias of a convolution, which is no part of a grid
        ((1, 1, 1, 2), BOTH, False),
        ((), BOTH, False),
        ((1, 64, 96, 2), "float[1,3,64,96] x, float[1,2,64,96] flow", False),
    ],
)
def test_baked_grid(shape: tuple[int, ...], inputs: str, found: bool):
    model = model_of(f"{DYNAMIC_GRID} y = GridSample <{GOOD}> (x, g)", inputs)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), "c"))
    nodes = [f.node for f in lint_model(model) if f.rule == "baked-grid"]
    assert nodes == ["c"] * found


@pytest.mark.parametrize(
    ("inputs", "out", "body", "axes"),
    [
        (IMAGE, 'float[1,3,64,"W"] y', "y = Relu (x)", [2]),  # the file says so, the nodes don't
        (IMAGE, OUT, "s = Constant <value_ints=[1,3,64,96]> () y = Reshape (x, s)", [2, 3]),
        (
            'float["N",3,64,96] x',
            "float[1,3,64,96] y",
            "s = Constant <value_ints=[1,3,64,96]> () y = Reshape (x, s)",
            [0],
        ),
        (IMAGE, "float[1,3,1,1] y", "y = GlobalAveragePool (x)", []),
        (IMAGE, 'float[1,3,"h","w"] y', "y = AveragePool <kernel_shape=[2,2], strides=[2,2]> (x)", []),
        ("float[1,3,64,96] x", "float[1,3,64,96] y", "y = Relu (x)", []),
        (IMAGE, "int64[4] y", "y = Shape (x)", []),
    ],
)
def test_baked_size(inputs: str, out: str, body: str, axes: list[int]):
    findings = lint_model(model_of(body, inputs, out))
    assert [(f.rule, f.node, f.message.split(" is ")[0]) for f in findings] == [
        ("baked-size", "y", f"axis {a}") for a in axes
    ]
