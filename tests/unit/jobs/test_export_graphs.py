"""`export`: one graph to the file that was named; nobody else's file is overwritten."""

import json

from refine_export.checkpoint.checkpoint import DEMO_WEIGHTS
from refine_export.errors import RequestError
from refine_export.jobs.export_graphs import export, export_graphs
from refine_export.jobs.load_inputs import job_inputs
from refine_export.support.manifest import sha256_of_file
from tests.support.refusals import refused


def test_one_graph_to_one_file_of_the_demo_weights(tmp_path):
    """The file and its manifest name the weights, by the hash of their file."""
    output = tmp_path / "new" / "mine.onnx"
    made = export(None, "contextnet", output=output, size="32x64")
    assert (made.path, made.graph, made.reused, made.artifact.sizes) == (output, "contextnet", False, "1x3x32x64")
    inputs = json.loads((tmp_path / "new" / "mine.onnx.json").read_text())["inputs"]
    assert inputs["checkpoint_sha256"] == made.artifact.checkpoint_sha256 == sha256_of_file(DEMO_WEIGHTS)
    assert len(repr(made)) < 300
    assert json.dumps(made.to_dict())
    assert export(None, "contextnet", output=output, size="32x64").reused


def test_refusals(tmp_path):
    output = tmp_path / "mine.onnx"
    output.write_text("mine")
    for graph, given, code in (
        ("contextnet", {"size": "32x64"}, "output-exists"),
        ("contextnet", {"size": "32x63"}, "wrong-option"),
        ("nonsense", {}, "unknown-graph"),
    ):
        with refused(code, RequestError):
            export(None, graph, output=output, **given)
    assert output.read_text() == "mine"


def test_a_folder_with_another_tools_file_is_refused_before_any_work(tmp_path):
    """Another's file beside it is refused too, as is one whose own JSON is not a manifest; force overwrites both."""
    foreign = tmp_path / "unet.onnx"
    foreign.write_text("mine")
    (tmp_path / "unet.onnx.json").write_text("{}")
    inputs = job_inputs(None, None, graphs=["contextnet", "unet"], size="32x64", output=str(tmp_path))
    for suffixes in (("",), ("", ".fp16")):
        with refused("output-exists", RequestError, path=foreign):
            export_graphs(inputs, suffixes=suffixes)
        assert not (tmp_path / "contextnet.onnx").exists()
        foreign = foreign.rename(tmp_path / "unet.fp16.onnx")
    foreign.rename(tmp_path / "unet.onnx")
    assert [one.graph for one in export_graphs(inputs, force=True)] == ["contextnet", "unet"]
    assert [one.reused for one in export_graphs(inputs)] == [True, True]


def test_the_weights_are_never_the_output(tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(DEMO_WEIGHTS.read_bytes())
    with refused("output-is-input", RequestError):
        export(weights, "contextnet", output=weights, size="32x64", force=True)
    assert sha256_of_file(weights) == sha256_of_file(DEMO_WEIGHTS)
