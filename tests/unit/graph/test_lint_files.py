"""The linter reads files with their external data, and says what is wrong with one that can't be read."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from refine_export.errors import GraphError
from refine_export.graph import model_file as load
from refine_export.graph.linter import lint_file, lint_model
from tests.support.lint_models import IMAGE, model_of, only, warp_model


def saved(folder: Path, *, shape: bool = False) -> Path:
    """A file whose weight, or whose Reshape's shape, is in w.data."""
    weight = np.array([0, 0, -1], np.int64) if shape else np.ones((3, 1, 1), np.float32)
    model = model_of("y = Reshape (x, w)", IMAGE, "float[1,3,s] y") if shape else model_of("y = Add (x, w)", IMAGE)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    return path


def test_file_is_linted(tmp_path: Path):
    path = tmp_path / "warp.onnx"
    onnx.save(warp_model('mode="linear", padding_mode="border", align_corners=1', 20), path)
    only(lint_file(path), "gridsample-nearest", "warp")


@pytest.mark.parametrize("shape", [False, True])
def test_external_data_are_read(tmp_path: Path, shape: bool):
    """Shapes too, which onnx.checker cannot read in place."""
    path = saved(tmp_path, shape=shape)
    assert lint_file(path) == []
    model = onnx.load(path, load_external_data=False)
    assert lint_model(model, folder=tmp_path) == []
    with pytest.raises(GraphError, match=r"'w' is in the file 'w\.data': pass its folder"):
        lint_model(model)


def test_external_data_too_large_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beyond 2 GiB the checker gets the path, and weights stay where they are."""
    path = saved(tmp_path)
    monkeypatch.setattr(load, "_IN_MEMORY_BYTES", 8)
    assert lint_file(path) == []
    with pytest.raises(GraphError, match=r"2 GiB.*lint_file"):
        lint_model(onnx.load(path, load_external_data=False), folder=tmp_path)


def test_external_data_missing_or_short(tmp_path: Path):
    path = saved(tmp_path)
    (tmp_path / "w.data").write_bytes(b"123")
    with pytest.raises(GraphError, match=r"external data cannot be read, .* again: .*w"):
        lint_file(path)
    (tmp_path / "w.data").unlink()
    with pytest.raises(GraphError, match=r"w\.data is missing; expected tensor 'w' in it"):
        lint_file(path)


def test_bad_files(tmp_path: Path):
    contents = {"empty": b"", "text": b"this is no model\n", "html": b"<html></html>", "zeros": bytes(64)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    states = {
        "absent": "(does not exist)",
        "": "(a directory)",
        "empty": "empty",
        "text": "not ONNX",
        "html": "not ONNX",
        "zeros": "not ONNX",
    }
    for name, state in states.items():
        with pytest.raises(
            GraphError, match=f"{re.escape(str(tmp_path / name))} (is )?{state}.*; expected .*: check the path"
        ):
            lint_file(tmp_path / name)


def test_truncated_file_at_every_byte(tmp_path: Path):
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    whole = model.SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(GraphError, match="truncated"):
            lint_file(path)
    path.write_bytes(whole)
    assert lint_file(path) == []
