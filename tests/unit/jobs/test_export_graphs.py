"""`export`: one graph to the file that was named; nobody else's file is overwritten."""

import json

import pytest
from safetensors.torch import save_file

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import FramesOptions
from refine_export.errors import RequestError
from refine_export.jobs.export_graphs import export, export_graphs
from refine_export.jobs.load_inputs import job_inputs
from refine_export.jobs.recipe import Recipe
from refine_export.support.manifest import sha256_of_file
from tests.support.refusals import refused

SEEDED = Recipe(checkpoint=CheckpointOptions(weights="seeded"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(dict(seeded_checkpoint("IFNet_m").state_dict), path)
    return path


def test_one_graph_to_one_file(tmp_path, weights):
    """The file and its manifest name the weights, by the hash of their file."""
    output = tmp_path / "new" / "mine.onnx"
    made = export(weights, "contextnet", output=output, size="32x64")
    assert (made.path, made.graph, made.reused, made.artifact.sizes) == (output, "contextnet", False, "1x3x32x64")
    inputs = json.loads((tmp_path / "new" / "mine.onnx.json").read_text())["inputs"]
    assert inputs["checkpoint_sha256"] == made.artifact.checkpoint_sha256 == sha256_of_file(weights)
    assert len(repr(made)) < 300
    assert json.dumps(made.to_dict())
    assert export(weights, "contextnet", output=output, size="32x64").reused


def test_refusals(tmp_path, weights):
    output = tmp_path / "mine.onnx"
    output.write_text("mine")
    for graph, given, code in (
        ("contextnet", {"size": "32x64"}, "output-exists"),
        ("contextnet", {"size": "32by63"}, "wrong-option"),
        ("nonsense", {}, "unknown-graph"),
    ):
        with refused(code, RequestError):
            export(weights, graph, output=output, **given)
    assert output.read_text() == "mine"
    with refused("wrong-size", RequestError, padded=(32, 64)):
        export(weights, "contextnet", output=tmp_path / "other.onnx", size="32x63")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]


def test_a_folder_with_another_tools_file_is_refused_before_any_work(tmp_path):
    """Another's file beside it is refused too, as is one whose own JSON is not a manifest; force overwrites both."""
    foreign = tmp_path / "unet.onnx"
    foreign.write_text("mine")
    (tmp_path / "unet.onnx.json").write_text("{}")
    inputs = job_inputs(SEEDED, None, graphs=["contextnet", "unet"], size="32x64", output=str(tmp_path))
    for suffixes in (("",), ("", ".fp16")):
        with refused("output-exists", RequestError, path=foreign):
            export_graphs(inputs, suffixes=suffixes)
        assert not (tmp_path / "contextnet.onnx").exists()
        foreign = foreign.rename(tmp_path / "unet.fp16.onnx")
    foreign.rename(tmp_path / "unet.onnx")
    assert [one.graph for one in export_graphs(inputs, force=True)] == ["contextnet", "unet"]
    assert [one.reused for one in export_graphs(inputs)] == [True, True]


def test_what_the_recipe_names_is_never_the_output(tmp_path, weights):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"mine")
    recipe = Recipe(frames=FramesOptions(inputs=(str(picture),)))
    for output in (weights, picture):
        content = output.read_bytes()
        with refused("output-is-input", RequestError):
            export(weights, "contextnet", output=output, recipe=recipe, size="32x64", force=True)
        assert output.read_bytes() == content
