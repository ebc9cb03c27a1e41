"""`validate` on shared exports: verdicts on right, wrong, broken and foreign files, and its notes."""

import dataclasses
import importlib.util
import json
import shlex
import shutil

import numpy as np
import onnx
import pytest
import torch

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.cli.render.print_verdicts import print_report
from refine_export.engine import engine_manifest
from refine_export.errors import RequestError, UnavailableError
from refine_export.graph.stacked_input import with_stacked_input
from refine_export.jobs.build_engine import build
from refine_export.jobs.lint_files import lint
from refine_export.jobs.recipe_file import recipe_from_toml
from refine_export.jobs.validate_files import validate
from refine_export.runners import open_onnx_runner
from tests.support.refusals import refused

RECIPE = recipe_from_toml("""
    [checkpoint]
    weights = "seeded"
    [frames]
    scene_frames = 2
    [scene]
    height = 64
    width = 96
    motion_px = 4.0
    [validate]
    sizes = []
    flows = ["subpixel"]
""")
IFNET_M = dataclasses.replace(RECIPE, checkpoint=CheckpointOptions(weights="seeded", architecture="IFNet_m"))
OTHER = dataclasses.replace(RECIPE, checkpoint=CheckpointOptions(weights="seeded", seed=1))


@pytest.fixture(scope="module")
def static(exports):
    return exports.fp32("contextnet", size="64x96")


@pytest.fixture(scope="module")
def dynamic(exports):
    return exports.fp32("contextnet")


@pytest.mark.parametrize("job", [validate, lint])
def test_no_file_is_not_a_pass(job):
    with refused("no-artifact", RequestError):
        job([])


@pytest.mark.parametrize(("batch", "height", "channels"), [(2, 64, 2), (1, 128, 2), (1, 64, 4)])
def test_arrays_that_no_file_takes_are_not_compared(static, tmp_path, batch, height, channels):
    """Of another batch or size, or with the names of another graph: they were given to be compared on."""
    name = {2: "image", 4: "img0"}[channels]
    arrays = {name: np.zeros((batch, 3, height, 96)), "flow": np.zeros((batch, 2, height, 96))}
    if channels == 4:
        arrays = {"img0": arrays["img0"], "img1": arrays["img0"]}
    np.savez(tmp_path / "feeds.npz", **arrays)
    frames = dataclasses.replace(RECIPE.frames, inputs=(str(tmp_path / "feeds.npz"),))
    result = validate(static, recipe=dataclasses.replace(RECIPE, frames=frames))
    assert (result.passed, result.status) == (False, "not compared")
    assert [one["what"] for one in result.report["shortfalls"]] == ["feeds.npz"]


def test_a_file_or_several_paths_or_results(static, tmp_path):
    result = validate(static, recipe=RECIPE)
    assert (result.passed, result.path, result.folder) == (True, None, None)
    copy = shutil.copy(static, tmp_path / static.name)  # of the same name: each has comparisons and pictures of its own
    both = validate([str(static), copy], recipe=RECIPE, report=tmp_path / "report")
    keys = [comparison["key"] for comparison in both.report["comparisons"]]
    assert len(set(keys)) == len(keys) == 2 * len(result.report["comparisons"])
    assert (tmp_path / "report" / "report.html").is_file()


def test_other_weights_are_noticed(static):
    """A good file of other weights is refused; where it is forced, it fails, and the note says why."""
    with refused("other-weights", RequestError):
        validate(static, recipe=OTHER)
    result = validate(static, recipe=OTHER, force=True)
    assert result.status == "failed"
    assert not result.passed
    assert any("other weights" in note for note in result.notes)
    assert result.summary().count("failed") > 1


def test_fp16_that_misses_its_limits_says_what_it_takes(exports):
    """The command that a note gives is one that the command line takes."""
    files = [exports.fp32("contextnet"), exports.lowered("contextnet")]
    limits = {"contextnet_fp16": {"max_abs": 1e-6, "psnr_db": 120.0}}
    result = validate(files, recipe=RECIPE, sizes=["64x128"], limits=limits)
    [note] = [note for note in result.notes if "does not hold" in note]
    words = shlex.split(note.rpartition(": ")[2])
    assert words[:3] == ["refine-export", "lower", str(files[0])]
    assert {"64x128", "64x96"} < set(words[words.index("--sizes") + 1].split(","))
    assert (words[words.index("--target-psnr") + 1], words[words.index("--max-error") + 1]) == ("120.0", "1e-06")
    assert not any("does not hold" in note for note in validate(files[0], recipe=RECIPE).notes)


@pytest.mark.slow
def test_weights_that_do_not_make_the_graph_are_refused(exports):
    with refused("graph-not-in-weights", RequestError):
        validate(exports.fp32("interpolator", size="64x96"), recipe=IFNET_M)  # the file is IFNet's


def test_stacks_are_compared_with_torch_and_a_wrong_one_fails(exports, tmp_path):
    weights, pair = exports.network("rife4_6")
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    model = with_stacked_input(onnx.load(pair), "stacked11", 32)
    onnx.save(model, good)
    [split] = [node for node in model.graph.node if node.op_type == "Split" and node.input[0] == "input"]
    split.output[0], split.output[1] = split.output[1], split.output[0]  # the frames exchanged
    onnx.save(model, bad)
    for path, status in ((good, "passed"), (bad, "failed")):
        assert validate(path, checkpoint=weights, recipe=RECIPE).status == status


def test_own_weights_and_frames(static, tmp_path):
    weights = tmp_path / "weights.pkl"
    torch.save(dict(seeded_checkpoint("IFNet").state_dict), weights)
    result = validate(static, checkpoint=weights, sizes=(), flows=("subpixel",), recipe=RECIPE, force=True)
    assert result.passed
    assert result.report["checkpoint"]["source"] == "weights.pkl"


def test_a_dynamic_file_is_fed_a_batch(dynamic, tmp_path):
    """Every sample made from the first one: right for a batch of one alone, and so it fails."""
    model = onnx.load(dynamic)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "zero"))
    for node in model.graph.node:
        node.input[:] = ["first" if name == "image" else name for name in node.input]
    for index, node in enumerate(
        (
            onnx.helper.make_node("Gather", ["image", "zero"], ["one"], axis=0),
            onnx.helper.make_node("Shape", ["image"], ["shape"]),
            onnx.helper.make_node("Expand", ["one", "shape"], ["first"]),
        )
    ):
        model.graph.node.insert(index, node)
    onnx.save(model, tmp_path / "one.onnx")
    result = validate(tmp_path / "one.onnx", recipe=RECIPE)
    found = {(one["batch"], one["verdict"]["status"]) for one in result.report["comparisons"]}
    assert found == {(1, "passed"), (2, "failed")}


def test_a_missing_runtime_is_not_compared_and_tried_again(static, tmp_path, monkeypatch):
    """Only what passed is reused: the cause of the rest may have gone."""

    def missing(source, **given):
        raise UnavailableError("not today", code="missing-package")

    with monkeypatch.context() as patched:
        patched.setattr(open_onnx_runner, "OrtRunner", missing)
        result = validate(static, recipe=RECIPE, report=tmp_path)
    assert result.status == "not compared"
    assert not result.passed
    assert "not today" in (tmp_path / "report.html").read_text()
    assert validate(static, recipe=RECIPE, report=tmp_path).passed
    assert validate(static, recipe=RECIPE, report=tmp_path).report["status"] == "passed"


def test_a_broken_file_is_reported_to_the_end_and_located(static, tmp_path):
    """NaN in the output: failed, counted, written as JSON and as a page; the node is found."""
    model = onnx.load(static)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("conv1.conv1.0.bias"))
    broken = np.full_like(onnx.numpy_helper.to_array(tensor), np.nan)
    tensor.CopyFrom(onnx.numpy_helper.from_array(broken, tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    result = validate(tmp_path / "nan.onnx", recipe=RECIPE, report=tmp_path / "report", locate=True)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report == result.report
    assert report["status"] == "failed"
    assert report["comparisons"][0]["verdict"]["outputs"][0]["metrics"]["nan_count"] > 0
    assert len(report["bisect"]) == 1
    assert "NaN" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed: pip install tensorrt-rtx"
)
def test_an_engine_for_rtx_gpus_is_not_compared_and_does_not_fail_the_other_files(
    static, tmp_path, monkeypatch, capsys
):
    def no_gpu():
        raise UnavailableError("no GPU", code="no-gpu")

    monkeypatch.setattr(engine_manifest, "current_gpu", no_gpu)
    engine = build(static, output=tmp_path / "contextnet.rtx", target="rtx", recipe=RECIPE)
    both = validate([static, engine], recipe=RECIPE)
    assert (both.passed, [one["file"] for one in both.report["groups"]]) == (True, [str(static)])
    [shortfall] = both.report["shortfalls"]
    assert (shortfall["what"], shortfall["status"], shortfall["counts"]) == ("contextnet.rtx", "not compared", False)
    alone = validate(engine, recipe=RECIPE)
    assert alone.status == "not compared"
    print_report(alone)
    assert "()" not in capsys.readouterr().out  # no sentence about the limits of no graph
