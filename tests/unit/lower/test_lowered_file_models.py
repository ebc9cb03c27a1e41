"""Files that `lower` refuses, and in which words; and one that does not warp."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest

from refine_export.graph.linter import lint_file
from tests.support.foreign import (
    IMAGE,
    control_flow_model,
    custom_model,
    double_model,
    foreign_model,
    function_model,
    half_model,
    model_of,
    plain_model,
    with_initializers,
)
from tests.support.lower_files import STATIC, here_fixture, refused_fixture, run_fixture, saved, tiny  # noqa: F401 (fixtures)


def with_external_data(name: str = "in.onnx") -> Path:
    """A file whose weights are in `in.data`."""
    model = with_initializers(foreign_model(STATIC))
    onnx.save_model(model, name, save_as_external_data=True, location="in.data", size_threshold=0)
    return Path(name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "in.onnx does not exist; expected a binary ONNX model: check the path"),
        (b"", "in.onnx is empty; expected a binary ONNX model: check the path, or export it again"),
        (b"RIFE, but no model\n", "in.onnx is not ONNX, or truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "in.onnx is not ONNX, or truncated"),
        (pickle.dumps([1, 2]), "in.onnx is not ONNX, or truncated"),
    ],
)
def test_no_model(refused, content, words):
    """A file that is missing, empty or no ONNX is called that, with what to do."""
    if content is not None:
        Path("in.onnx").write_bytes(content)
    refused("in.onnx", "-o", "out.onnx", words=words)


def test_truncated(refused, here):
    """A file that ends too early is refused wherever it ends: never lowered in part."""
    whole = tiny().SerializeToString()
    for length in (1, 10, len(whole) // 2, len(whole) - 1):
        Path("in.onnx").write_bytes(whole[:length])
        refused("in.onnx", "-o", "out.onnx", words="in.onnx is not ONNX, or truncated")


def test_external_data(refused, run, here):
    """Weights beside the file are read, and hashed; where they are missing, short or elsewhere, the file is refused."""
    path = with_external_data()
    assert run(path, "-o", "out.onnx")[0] == 0
    assert len(onnx.load("out.onnx", load_external_data=False).graph.initializer[0].external_data) == 0
    content = Path("in.data").read_bytes()
    Path("in.data").write_bytes(content[: len(content) // 2])
    refused(path, "-o", "new.onnx", words=("external data cannot be read", "copy or export the model again"))
    Path("in.data").unlink()
    refused(path, "-o", "new.onnx", words=("in.data is missing; expected tensor", "copy it there"))
    Path("in.data").write_bytes(content)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../in.data"
    path.write_bytes(model.SerializeToString())
    refused(path, "-o", "new.onnx", words="outside the model's folder")


def sequence_model() -> onnx.ModelProto:
    """As TorchScript exports torch.split at a dynamic size."""
    nodes = "k = Constant <value_int = 0> () s = SplitToSequence <axis = 1> (x) p = SequenceAt (s, k)"
    return model_of(f"{nodes} y = Concat <axis = 1> (p, p, p)", IMAGE)


def unsorted_model() -> onnx.ModelProto:
    model = plain_model()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    return model


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: model_of("y = Relu (x)", IMAGE, opset=15), ("opset 15", "expected 16 or newer", "export it again")),
        (lambda: half_model(plain_model()), ("has FP16 tensors already", "lower the file that this one was made from")),
        (lambda: half_model(foreign_model(STATIC)), ("FP16", "lower the file that it was made from")),
        (double_model, ("tensor 'd', made by the operator ai.onnx.Cast, is FP64", "export it in FP32")),
        (plain_model, ("no GridSample and no Gather by computed positions", "confirm it with --without-warp")),
        (lambda: control_flow_model("If"), ("node 'choose' is If", "expected a graph without control flow")),
        (lambda: control_flow_model("Loop"), ("node 'again' is Loop", "unroll the loop")),
        (sequence_model, ("SplitToSequence", "sequences of tensors", "onnx-simplifier")),
        (
            lambda: custom_model(typed=False),
            ("type of tensor 'o', made by the operator my.Odd, is not known", "replace"),
        ),
        (unsorted_model, ("not valid ONNX", "sorted", "export it again")),
        (lambda: model_of("y = Relu (nowhere)", IMAGE), ("not valid ONNX", "nowhere", "export it again")),
        (lambda: model_of("s = Shape (x) y = Add (x, s)", IMAGE), ("not valid ONNX", "Add", "export it again")),
    ],
)
def test_models_that_are_refused(refused, build, words):
    """Each with its reason, the node or tensor, and what to do; onnx.checker's words where it refuses the file."""
    refused(saved(build()), "-o", "out.onnx", "--size", "64x96", words=words)


def test_operators_that_can_not_run_are_refused(refused):
    """Calibration runs the FP32 model: what ONNX Runtime does not know is named."""
    np.savez("feed.npz", x=np.zeros((1, 3, 16, 24), np.float32), g=np.zeros((1, 16, 24, 2), np.float32))
    words = ("my:Odd", "has to run, for calibration", "replace custom ones by standard ones")
    refused(saved(custom_model(typed=True)), "-o", "out.onnx", "--calibrate", "feed.npz", words=words)


def test_functions_of_another_opset_are_refused(refused):
    """Functions are inlined; one that was written for another opset than the model's is named."""
    model = function_model()
    model.functions[0].opset_import[0].version = 17
    refused(saved(model), "-o", "out.onnx", "--size", "64x96", words=("my::WarpConv", "17", "onnx.inliner"))


def test_without_warp(run, here):
    """A graph that does not warp is lowered where that is said; `unet` needs no saying."""
    code, out, err = run(saved(plain_model()), "-o", "out.onnx", "--size", "64x96", "--without-warp")
    assert code == 0, err
    assert "3 nodes float16; 100.0% of the multiply-adds" in out
    assert lint_file(Path("out.onnx")) == []
