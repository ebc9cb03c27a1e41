"""Recognising and describing ONNX files of the four graphs."""

import json
import shutil

import onnx
import pytest

from refine_export.artifacts import artifact_from_file, model_source, onnx_description
from refine_export.errors import GraphError
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def contextnet(exports):
    return exports.fp32("contextnet", size="64x96")


@pytest.fixture
def copied(contextnet, tmp_path):
    return shutil.copy(contextnet, tmp_path / contextnet.name)


def test_artifact_from_file(contextnet, checkpoint):
    artifact = artifact_from_file(contextnet)
    assert (artifact.graph, artifact.fixed, artifact.sizes) == ("contextnet", (1, 64, 96), "1x3x64x96")
    assert (artifact.opset, artifact.precision, artifact.reused) == (18, "fp32", False)
    assert artifact.checkpoint_sha256 == checkpoint.sha256


def test_a_file_of_any_size_says_so(exports):
    artifact = artifact_from_file(exports.fp32("contextnet"))
    assert artifact.fixed == (None, None, None)
    assert artifact.sizes == "Nx3xHxW: any batch, height, width; sides are multiples of 32"


def test_another_graph_is_refused(copied):
    model = onnx.load(copied)
    model.graph.output[0].name = "features"
    for node in model.graph.node:
        node.output[:] = ["features" if name == "f1" else name for name in node.output]
    onnx.save(model, copied)
    with refused("unknown-graph", GraphError) as caught:
        artifact_from_file(copied)
    assert caught.value.fields["outputs"] == ["f2", "f3", "f4", "features"]


def test_a_name_that_is_not_utf8_is_damage(tmp_path):
    """Protobuf gives such a name as bytes."""
    value = onnx.helper.make_tensor_value_info
    io = [value("aQQ", 1, [1]), value("b", 1, [1])], [value("c", 1, [1])]
    node = onnx.helper.make_node("Add", ["aQQ", "b"], ["c"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", *io))
    path = tmp_path / "foreign.onnx"
    path.write_bytes(model.SerializeToString().replace(b"aQQ", b"a\xff\xfe"))
    with refused("not-onnx", GraphError):
        artifact_from_file(path)


def reshaped(path, change):
    model = onnx.load(path)
    change({value.name: value.type.tensor_type for value in (*model.graph.input, *model.graph.output)})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("change", "code", "tensor"),
    [
        (lambda v: setattr(v["image"], "elem_type", 11), "unsupported-dtype", "image"),
        (lambda v: setattr(v["f4"], "elem_type", 8), "unsupported-dtype", "f4"),
        (lambda v: setattr(v["f4"], "elem_type", 99), "unsupported-dtype", "f4"),
        (lambda v: v["image"].shape.dim.pop(), "unsupported-shape", "image"),
        (lambda v: setattr(v["image"].shape.dim[2], "dim_value", 100), "unsupported-shape", "image"),
        (lambda v: setattr(v["image"].shape.dim[0], "dim_value", 0), "unsupported-shape", "image"),
    ],
)
def test_types_and_shapes_that_no_runner_feeds_are_refused(copied, change, code, tensor):
    with refused(code, GraphError, tensor=tensor):
        artifact_from_file(reshaped(copied, change))


def test_free_dimensions_need_no_name(copied):
    def unnamed(values):
        for dim in (values["image"].shape.dim[0], values["image"].shape.dim[3]):
            dim.Clear()

    assert artifact_from_file(reshaped(copied, unnamed)).fixed == (None, 64, None)


def test_describe(contextnet):
    description = onnx_description(contextnet)
    assert description["opsets"] == {"ai.onnx": 18}
    assert description["inputs"][1] == {"name": "flow", "dtype": "float", "shape": [1, 2, 64, 96]}
    assert description["nodes"]["GridSample"] == 4
    assert description["metadata"]["refine_export.graph"] == "contextnet"


def test_what_is_loaded_is_what_was_hashed(copied):
    artifact = artifact_from_file(copied)
    assert model_source(copied, artifact) == copied.read_bytes()
    model = onnx.load(copied)
    model.producer_name = "another"
    onnx.save(model, copied)
    with refused("file-changed", GraphError):
        model_source(copied, artifact)


def test_external_data_are_part_of_the_file(copied):
    """Changed weights are a changed file; weights outside the model's folder are not read."""
    model = onnx.load(copied)
    onnx.save(model, copied, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    weights = copied.with_name("weights.bin")
    before = artifact_from_file(copied)
    assert before.size_bytes > copied.stat().st_size
    assert model_source(copied, before) == copied
    content = bytearray(weights.read_bytes())
    content[1000] ^= 0xFF
    weights.write_bytes(content)
    assert artifact_from_file(copied).sha256 != before.sha256
    with refused("file-changed", GraphError):
        model_source(copied, before)
    weights.unlink()
    with refused("missing-external-data", GraphError):
        artifact_from_file(copied)

    model = onnx.load(copied, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"
    copied.write_bytes(model.SerializeToString())
    with refused("unsafe-external-data", GraphError):
        artifact_from_file(copied)


@pytest.mark.parametrize("size", [4, 5_000_000])
def test_what_a_file_states_in_other_encodings_or_at_length_is_described_as_json(copied, size):
    """Protobuf gives text that is not UTF-8 as bytes, which JSON does not take."""
    model = onnx.load(copied)
    for key, value in (("MARK", "v"), ("refine_export.checkpoint", "MARK" * (size // 4))):
        model.metadata_props.add(key=key, value=value)
    model.opset_import.add(domain="MARK", version=1)
    copied.write_bytes(model.SerializeToString().replace(b"MARK", b"\xff\xfeRK"))
    assert len(json.dumps(onnx_description(copied), allow_nan=False)) > size
    assert isinstance(artifact_from_file(copied).checkpoint, str)
