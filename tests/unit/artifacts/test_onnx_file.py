"""A file is reused while nothing that it depends on changes, and made again when anything does."""

import dataclasses
import json
import os
from pathlib import Path

import onnx
import pytest

from refine_export import artifacts as onnx_file
from refine_export.artifacts import artifact_from_file, describe, export_file, model_source
from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.errors import GraphError, InternalError
from refine_export.export.export_options import ExportOptions
from refine_export.support import manifest
from refine_export.support.manifest import Manifest, fingerprint, manifest_path, sha256_of_file

STATIC = ExportOptions(dynamic=False, size="32x64")
LARGER = ExportOptions(dynamic=False, size="64x64")


@pytest.fixture(scope="module")
def made(tmp_path_factory, references, checkpoint):
    path = tmp_path_factory.mktemp("made") / "contextnet.onnx"
    artifact = export_file(lambda: references("IFNet"), checkpoint, "contextnet", STATIC, path)
    return path, artifact


@pytest.fixture
def copied(made, tmp_path):
    """The file and its manifest in a folder of its own."""
    path, _ = made
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    manifest_path(copy).write_bytes(manifest_path(path).read_bytes())
    return copy


def never():
    raise AssertionError("the network was asked for, though the file can be reused")


def test_manifest_says_what_it_was_made_from(made, checkpoint):
    path, artifact = made
    content = json.loads(manifest_path(path).read_text())
    said = Manifest(**content)
    assert said.sha256 == sha256_of_file(path) == artifact.sha256
    assert said.inputs == {
        "checkpoint": checkpoint.source,
        "checkpoint_sha256": checkpoint.sha256,
        "graph": "contextnet",
    }
    assert said.options == dataclasses.asdict(STATIC)
    assert {"torch", "onnx", "onnxscript", "refine-export", "python"} <= set(said.versions)
    assert said.signature["inputs"] == {"image": [1, 3, 32, 64], "flow": [1, 2, 32, 64]}
    assert list(said.signature["outputs"]) == ["f1", "f2", "f3", "f4"]


def test_the_file_says_it_too(made, checkpoint):
    path, _ = made
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata["refine_export.checkpoint"] == "seeded random weights (seed 0, untrained)"
    assert metadata["refine_export.checkpoint_sha256"] == checkpoint.sha256
    assert metadata["refine_export.graph"] == "contextnet"
    assert "flow: pixels of the full-size frame" in metadata["refine_export.units"]
    assert metadata["refine_export.version"]


def test_unchanged_is_reused(copied, checkpoint):
    artifact = export_file(never, checkpoint, "contextnet", STATIC, copied)
    assert artifact.reused
    assert artifact.seconds is None


def test_anything_changed_is_made_again(copied, checkpoint, monkeypatch):
    with pytest.raises(AssertionError, match="was asked for"):
        export_file(never, checkpoint, "contextnet", LARGER, copied)
    with pytest.raises(AssertionError, match="was asked for"):
        export_file(never, seeded_checkpoint("IFNet", 1), "contextnet", STATIC, copied)
    with pytest.raises(AssertionError, match="was asked for"):
        export_file(never, checkpoint, "unet", STATIC, copied)
    monkeypatch.setattr(onnx_file, "versions", lambda packages: {"torch": "99"})
    with pytest.raises(AssertionError, match="was asked for"):
        export_file(never, checkpoint, "contextnet", STATIC, copied)


@pytest.mark.parametrize("damage", ["bytes", "manifest", "no manifest", "no file"])
def test_damage_is_not_reused(copied, checkpoint, damage):
    if damage == "bytes":
        copied.write_bytes(copied.read_bytes()[:-1])
    elif damage == "manifest":
        manifest_path(copied).write_text('{"artifact": "contextnet.onnx"')
    else:
        (copied if damage == "no file" else manifest_path(copied)).unlink()
    with pytest.raises(AssertionError, match="was asked for"):
        export_file(never, checkpoint, "contextnet", STATIC, copied)


def test_a_failure_leaves_the_old_file(copied, references, checkpoint, monkeypatch):
    """Interrupted while it is written: the old file and manifest stay, nothing half-written is left."""
    before = copied.read_bytes()

    def interrupted(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_file(lambda: references("IFNet"), checkpoint, "contextnet", LARGER, copied)
    assert copied.read_bytes() == before
    assert sorted(path.name for path in copied.parent.iterdir()) == ["contextnet.onnx", "contextnet.onnx.json"]


def test_what_a_killed_process_left_is_removed(copied, references, checkpoint):
    """But not what a process that still runs is writing."""
    gone, running = (copied.with_name(f".contextnet.onnx.partial-{pid}") for pid in (2**22 + 1, os.getppid()))
    for left_over in (gone, running):
        left_over.write_bytes(b"half")
    export_file(lambda: references("IFNet"), checkpoint, "contextnet", LARGER, copied)
    assert not gone.exists()
    assert running.exists()


def test_our_own_files_are_linted(references, checkpoint, monkeypatch, tmp_path):
    from refine_export.graph.lint_rules import Finding

    finding = Finding(rule="r", severity="error", node="n", message="bad", why="w", fix="f")
    monkeypatch.setattr(onnx_file, "lint_model", lambda model: [finding])
    with pytest.raises(InternalError, match="does not pass our own lint: n: bad"):
        export_file(lambda: references("IFNet"), checkpoint, "unet", STATIC, tmp_path / "unet.onnx")
    assert list(tmp_path.iterdir()) == []


def test_recognised_by_its_names(made, tmp_path):
    path, artifact = made
    assert artifact.graph == "contextnet"
    assert artifact.fixed == (1, 32, 64)
    assert artifact.sizes == "1x3x32x64"
    model = onnx.load(path)
    model.graph.output[0].name = "features"
    for node in model.graph.node:
        node.output[:] = ["features" if name == "f1" else name for name in node.output]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(GraphError, match="is not one of the graphs contextnet, .*the outputs f2, f3, f4, features"):
        artifact_from_file(tmp_path / "other.onnx")


def test_describe(made):
    described = describe(made[0])
    assert described["opsets"] == {"ai.onnx": 18}
    assert described["inputs"][1] == {"name": "flow", "dtype": "float", "shape": [1, 2, 32, 64]}
    assert described["nodes"]["GridSample"] == 4


def test_fingerprints_see_every_part():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len({fingerprint(1), fingerprint("1"), fingerprint([1]), fingerprint(1, 1), fingerprint({"a": 1})}) == 5


def test_fingerprints_see_the_tools_own_source(monkeypatch):
    """A changed tool never shows an old proof."""
    before = fingerprint(1)
    monkeypatch.setattr(manifest, "_source_sha256", lambda: "another")
    assert fingerprint(1) != before


def external(path, name="weights.bin"):
    """The file with its weights beside it."""
    model = onnx.load(path)
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=name,
        size_threshold=1024,
        convert_attribute=False,
    )
    return path.with_name(name)


def test_external_data_are_part_of_the_file(copied):
    """Changed weights are a changed file, and a file that changes under way is refused."""
    weights = external(copied)
    before = artifact_from_file(copied)
    assert before.size_bytes > copied.stat().st_size
    assert model_source(copied, before) == copied
    content = bytearray(weights.read_bytes())
    content[1000] ^= 0xFF
    weights.write_bytes(content)
    assert artifact_from_file(copied).sha256 != before.sha256
    with pytest.raises(GraphError, match="changed while it was being checked"):
        model_source(copied, before)
    weights.unlink()
    with pytest.raises(GraphError, match=r"weights\.bin is missing"):
        artifact_from_file(copied)


def test_external_data_outside_the_folder_are_refused(copied):
    external(copied)
    model = onnx.load(copied, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"
    copied.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="outside the model's folder"):
        artifact_from_file(copied)


def test_what_is_loaded_is_what_was_hashed(copied):
    artifact = artifact_from_file(copied)
    assert model_source(copied, artifact) == copied.read_bytes()
    model = onnx.load(copied)
    model.producer_name = "another"
    onnx.save(model, copied)
    with pytest.raises(GraphError, match="changed while it was being checked"):
        model_source(copied, artifact)


def reshaped(path, change):
    model = onnx.load(path)
    change({value.name: value.type.tensor_type for value in (*model.graph.input, *model.graph.output)})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: setattr(v["image"], "elem_type", 11), "image is double; expected float or float16 I/O"),
        (lambda v: setattr(v["f4"], "elem_type", 8), "f4 is string; expected float"),
        (lambda v: v["image"].shape.dim.pop(), "image has 3 dimensions; expected N, C, H, W"),
        (lambda v: setattr(v["image"].shape.dim[2], "dim_value", 100), "expected .* sides multiples of 32"),
        (lambda v: setattr(v["image"].shape.dim[0], "dim_value", 0), "image is .0, 3, 32, 64.; expected"),
    ],
)
def test_a_graph_of_another_kind_is_refused(copied, change, message):
    with pytest.raises(GraphError, match=message):
        artifact_from_file(reshaped(copied, change))


def test_free_dimensions_need_no_name(copied):
    def unnamed(values):
        for dim in (values["image"].shape.dim[0], values["image"].shape.dim[3]):
            dim.Clear()

    assert artifact_from_file(reshaped(copied, unnamed)).fixed == (None, 32, None)


def test_a_name_that_is_no_utf8_is_shown_and_no_bug(tmp_path):
    """Protobuf gives such a name as bytes."""
    value = onnx.helper.make_tensor_value_info
    io = [value("aQQ", 1, [1]), value("b", 1, [1])], [value("c", 1, [1])]
    node = onnx.helper.make_node("Add", ["aQQ", "b"], ["c"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", *io))
    path = tmp_path / "foreign.onnx"
    path.write_bytes(model.SerializeToString().replace(b"aQQ", b"a\xff\xfe"))
    with pytest.raises(GraphError, match="is not one of the graphs"):
        artifact_from_file(path)
