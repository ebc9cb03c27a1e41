"""Files and their external data are read, or refused with what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from refine_export.errors import GraphError
from refine_export.graph import model_file
from refine_export.graph.linter import lint_file
from refine_export.graph.model_file import external_files, has_grid_sample, load_model, seems_onnx
from tests.support.lint_models import IMAGE, model_of, only, warp_model
from tests.support.refusals import refused


def saved(folder: Path, *, shape: bool = False) -> Path:
    """Save a file whose weight, or whose Reshape's shape, is in w.data."""
    weight = np.array([0, 0, -1], np.int64) if shape else np.ones((3, 1, 1), np.float32)
    model = model_of("y = Reshape (x, w)", IMAGE, "float[1,3,s] y") if shape else model_of("y = Add (x, w)", IMAGE)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    return path


def test_a_file_is_linted(tmp_path):
    path = tmp_path / "warp.onnx"
    onnx.save(warp_model('mode="linear", padding_mode="border", align_corners=1', 20), path)
    only(lint_file(path), "gridsample-nearest", "warp")


@pytest.mark.parametrize("shape", [False, True])
def test_external_data_are_read(tmp_path, shape):
    """Shapes too, which onnx.checker cannot read in place."""
    path = saved(tmp_path, shape=shape)
    assert lint_file(path) == []
    assert load_model(path).graph.initializer[0].raw_data


def test_external_data_too_large_for_memory(tmp_path, monkeypatch):
    """Beyond 2 GiB the checker gets the path, and weights stay where they are."""
    path = saved(tmp_path)
    monkeypatch.setattr(model_file, "_IN_MEMORY_BYTES", 8)
    assert lint_file(path) == []
    with refused("model-too-large", GraphError):
        load_model(path)


def test_external_data_missing_short_or_unreadable(tmp_path):
    path = saved(tmp_path)
    (tmp_path / "w.data").write_bytes(b"123")
    with refused("damaged-external-data", GraphError):
        lint_file(path)
    (tmp_path / "w.data").unlink()
    with refused("missing-external-data", GraphError):
        lint_file(path)
    model = onnx.load(path, load_external_data=False)
    next(entry for entry in model.graph.initializer[0].external_data if entry.key == "offset").value = "much"
    onnx.save(model, path)
    with refused("damaged-external-data", GraphError):
        lint_file(path)


def test_external_data_of_constant_nodes_count(tmp_path):
    """A tensor of an attribute can lie in another file, which belongs to the hash of the model."""
    model = model_of("w = Constant <value = float[1] {2}> () y = Mul (x, w)", IMAGE)
    tensor = model.graph.node[0].attribute[0].t
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)))
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "w.bin")
    tensor.data_location = TensorProto.EXTERNAL
    assert external_files(model, tmp_path) == [tmp_path / "w.bin"]
    for location in ("../w.bin", "a/../../w.bin", str(tmp_path / "w.bin")):
        tensor.external_data[0].value = location
        with refused("unsafe-external-data", GraphError):
            external_files(model, tmp_path)


def test_a_model_and_its_data_can_be_links(tmp_path):
    """As in a Hugging Face cache: both are links to files of other names, outside the folder."""
    for folder in ("blobs", "snapshot"):
        (tmp_path / folder).mkdir()
    model = model_of("y = Mul (x, w)", IMAGE)
    model.graph.initializer.append(numpy_helper.from_array(np.full(3, 2, np.float32), "w"))
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx_data", size_threshold=0)
    for name in ("m.onnx", "m.onnx_data"):
        blob = (tmp_path / name).rename(tmp_path / "blobs" / name.replace(".", "_"))
        (tmp_path / "snapshot" / name).symlink_to(f"../blobs/{blob.name}")
    loaded = load_model(tmp_path / "snapshot" / "m.onnx")
    assert numpy_helper.to_array(loaded.graph.initializer[0]).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("absent", None, "not-found"),
        ("", None, "is-directory"),
        ("empty", b"", "not-onnx"),
        ("text", b"this is no model\n", "not-onnx"),
    ],
)
def test_files_that_are_not_models(tmp_path, name, content, code):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with refused(code, GraphError):
        lint_file(tmp_path / name)
    assert not seems_onnx(tmp_path / name)


def test_a_file_truncated_at_every_byte(tmp_path):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    path = tmp_path / "cut"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with refused("not-onnx", GraphError):
            lint_file(path)
    path.write_bytes(whole)
    assert lint_file(path) == []
    assert seems_onnx(path)


@pytest.mark.parametrize("sampler", ["GridSample", "Add"])
@pytest.mark.parametrize("place", ["function", "body"])
def test_samplers_in_functions_and_bodies_are_found(sampler, place):
    """A runtime that samples wrongly must not pass for right because the main graph only calls the sampler."""
    branch = f"t () => (float[n] b) {{ b = {sampler} (x, y) }}"
    calls = {
        "function": "z = f.warp (x, y)",
        "body": f"z = If (c) <then_branch = {branch}, else_branch = {branch}>",
    }
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 18, "f" : 1]>
        g (bool c, float[1,4,8,8] x, float[1,8,8,2] y) => (float[1,4,8,8] z) {{ {calls[place]} }}
        <domain: "f", opset_import: ["" : 18]> warp (x, y) => (z) {{ z = {sampler} (x, y) }}"""
    )
    assert has_grid_sample(model) == (sampler == "GridSample")
