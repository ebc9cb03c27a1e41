"""The main job on small frames: makes everything, reuses what is unchanged, completes what was interrupted."""

import dataclasses
import json
import shutil
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from refine_export.checkpoint.checkpoint import DEMO_WEIGHTS, seeded_checkpoint
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import SceneOptions
from refine_export.errors import RequestError
from refine_export.jobs.export_graphs import export_graphs
from refine_export.jobs.load_inputs import job_inputs
from refine_export.jobs.main_job import run
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import recipe_with
from refine_export.jobs.validate_files import validate
from refine_export.support.manifest import sha256_of_file
from refine_export.support.progress import Silent

SEEDED = CheckpointOptions(weights="seeded")
SMALL = dataclasses.replace(Recipe(), checkpoint=SEEDED, scene=SceneOptions(height=64, width=96, motion_px=4))


class Log(Silent):
    """Progress that remembers."""

    def __init__(self):
        self.lines = []

    @contextmanager
    def step(self, label):
        said = []
        yield said.append
        self.lines.append(f"{label}: {said[-1] if said else ''}")


def small(folder, **given):
    return recipe_with(SMALL, {"sizes": [], "output": str(folder)} | given)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(recipe=small(folder))


@pytest.fixture
def copied(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    return folder


def test_makes_everything(finished):
    folder, result = finished
    files = ["interpolator.fp16.onnx", "interpolator.onnx", "refine.fp16.onnx", "refine.onnx"]
    names = [name for file in files for name in (file, f"{file}.json")]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "report.html", "report.json"]
    report = json.loads((folder / "report.json").read_text())
    assert report == result.report
    assert report["status"] == "passed"
    assert not result.reused
    runs = [(one["file"], one["verdict"]["feed"], one["verdict"]["runtime"]) for one in report["comparisons"]]
    assert len(runs) == len(set(runs)) == 42
    assert {(file.split(".")[-2] == "fp16", runtime) for file, _, runtime in runs} == {
        (False, "onnxruntime-cpu"),
        (True, "half"),
    }
    feeds = [feed for _, feed, _ in runs]
    assert {feed.split(",")[0] for feed in feeds} == {
        "refine 64x96",
        "refine 2x96x160",
        "refine 64x1920",
        "interpolator 64x96",
        "interpolator 2x96x160",
    }
    assert "untrained" in report["notes"][0]
    assert any("true middle frame" in note for note in report["notes"])
    page = (folder / "report.html").read_text()
    assert all(feed in page for feed in feeds)
    assert report["fingerprint"] in page


def test_a_second_run_reuses_everything(copied):
    log = Log()
    result = run(recipe=small(copied), progress=log)
    assert result.reused
    assert result.report["status"] == "passed"
    assert [line.split(":")[0] for line in log.lines if "reused" in line] == [
        "export refine",
        "export interpolator",
        "validate",
    ]


def test_only_what_changed_is_made_again(copied):
    log = Log()
    result = run(recipe=small(copied, reference="float64"), progress=log)
    assert [line.split(":")[0] for line in log.lines if "reused" in line] == ["export refine", "export interpolator"]
    assert not result.reused
    assert "float64" in result.report["reference"]


@pytest.mark.parametrize("lost", ["report.html", "report.json", "refine.onnx", "refine.onnx.json"])
def test_what_is_missing_is_made_again(copied, lost):
    (copied / lost).unlink()
    run(recipe=small(copied))
    assert (copied / lost).is_file()
    assert run(recipe=small(copied)).reused


def test_an_interrupted_run_is_completed(tmp_path, monkeypatch):
    """Stopped after the first export: that file is whole and reused, the rest is made by the next run."""
    folder = tmp_path / "run"

    class Interrupt(Log):
        @contextmanager
        def step(self, label):
            if label == "export interpolator":
                raise KeyboardInterrupt
            with super().step(label) as say:
                yield say

    with pytest.raises(KeyboardInterrupt):
        run(recipe=small(folder), progress=Interrupt())
    assert sorted(path.name for path in folder.iterdir()) == ["refine.onnx", "refine.onnx.json"]
    log = Log()
    assert run(recipe=small(folder), progress=log).report["status"] == "passed"
    assert any(line.startswith("export refine: reused") for line in log.lines)


@pytest.fixture
def pictures(tmp_path):
    """Two frames of a size that is no multiple of anything."""
    generator = np.random.default_rng(0)
    coarse = generator.random((2, 10, 13, 3))
    paths = []
    for name, array in zip(("a.png", "b.png"), coarse, strict=True):
        picture = Image.fromarray((array * 255).astype(np.uint8)).resize((101, 75), Image.Resampling.BICUBIC)
        picture.save(tmp_path / name)
        paths.append(str(tmp_path / name))
    return paths


@pytest.mark.parametrize("architecture", ["IFNet_m", "refinement"])
def test_own_weights_and_frames(tmp_path, pictures, architecture):
    weights = tmp_path / "weights.pkl"
    torch.save(dict(seeded_checkpoint(architecture, 3).state_dict), weights)
    folder = tmp_path / "run"
    result = run(recipe=small(folder, checkpoint=str(weights), frames=pictures, dynamic=False))
    assert result.report["status"] == "passed"
    graphs = {artifact["graph"]: artifact["sizes"] for artifact in result.report["artifacts"]}
    expected = {"refine": "1x3x96x128"}
    if architecture == "IFNet_m":
        expected["interpolator_m"] = "1x3x96x128"
    else:
        assert any("`network` were not compared" in note for note in result.report["notes"])
    assert graphs == expected
    assert result.report["checkpoint"]["source"] == "weights.pkl"
    assert not any("untrained" in note for note in result.report["notes"])
    assert result.report["pair"]["size"] == [75, 101]


def test_other_weights_are_noticed(finished, tmp_path):
    """A good file of other weights is refused; where it is forced, it fails, and the note says why."""
    folder, _ = finished
    other = recipe_with(small(tmp_path), {})
    other = dataclasses.replace(other, checkpoint=dataclasses.replace(other.checkpoint, seed=1))
    with pytest.raises(RequestError, match=r"was made from seeded .* give the file's own .*, or compare it .* --force"):
        validate([folder / "refine.onnx"], recipe=other)
    result = validate([folder / "refine.onnx"], recipe=other, force=True)
    assert result.report["status"] == "failed"
    assert any("made from other weights" in note for note in result.report["notes"])
    assert result.folder is None


def test_without_a_checkpoint_the_demo_weights_are_used(finished, tmp_path):
    """The file and its manifest name them, by the hash of the file; they refuse the graphs of other networks."""
    given = {"graphs": ["contextnet"], "dynamic": False, "size": "64x64", "output": str(tmp_path)}
    recipe = recipe_with(Recipe(), given)
    (file,) = export_graphs(job_inputs(recipe, None))
    artifact = file.artifact
    assert artifact.checkpoint == "demo weights (trained on drawn motion)"
    inputs = json.loads((tmp_path / "contextnet.onnx.json").read_text())["inputs"]
    assert inputs["checkpoint_sha256"] == artifact.checkpoint_sha256 == sha256_of_file(DEMO_WEIGHTS)
    with pytest.raises(RequestError, match="made from seeded .*; the reference has demo weights .* with --checkpoint"):
        validate([finished[0] / "interpolator.onnx"], recipe=recipe)


def test_a_dynamic_file_is_fed_a_batch(finished, tmp_path):
    """Every sample made from the first one: right for a batch of one alone, and so it fails."""
    model = onnx.load(finished[0] / "refine.onnx")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "zero"))
    for node in model.graph.node:
        node.input[:] = ["first" if name == "img0" else name for name in node.input]
    for index, node in enumerate(
        (
            onnx.helper.make_node("Gather", ["img0", "zero"], ["one"], axis=0),
            onnx.helper.make_node("Shape", ["img0"], ["shape"]),
            onnx.helper.make_node("Expand", ["one", "shape"], ["first"]),
        )
    ):
        model.graph.node.insert(index, node)
    onnx.save(model, tmp_path / "one.onnx")
    result = validate([tmp_path / "one.onnx"], recipe=small(tmp_path))
    found = {c["verdict"]["feed"].split(",")[0]: c["verdict"]["status"] for c in result.report["comparisons"]}
    assert found == {"refine 64x96": "passed", "refine 2x96x160": "failed", "refine 64x1920": "passed"}


def test_files_of_the_same_name_keep_their_own_pictures(finished, tmp_path):
    (tmp_path / "copy").mkdir()
    shutil.copy(finished[0] / "refine.onnx", tmp_path / "copy" / "refine.onnx")
    files = [finished[0] / "refine.onnx", tmp_path / "copy" / "refine.onnx"]
    result = validate(files, recipe=small(tmp_path))
    keys = [comparison["key"] for comparison in result.report["comparisons"]]
    assert len(set(keys)) == len(keys) == 32


def test_a_failure_is_tried_again(finished, tmp_path, monkeypatch):
    """Its cause may have passed; only what passed is reused."""
    from refine_export.errors import UnavailableError
    from refine_export.validate import runtimes as candidates

    def missing(source, provider):
        raise UnavailableError("not today")

    files, recipe = [finished[0] / "refine.onnx"], small(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(candidates, "OrtRunner", missing)
        assert validate(files, recipe=recipe, report=tmp_path / "report").report["status"] == "not compared"
    assert validate(files, recipe=recipe, report=tmp_path / "report").report["status"] == "passed"


def test_a_missing_runtime_is_not_compared(finished, tmp_path, monkeypatch):
    from refine_export.errors import UnavailableError
    from refine_export.validate import runtimes as candidates

    def missing(path, provider):
        raise UnavailableError("no CUDA here")

    monkeypatch.setattr(candidates, "OrtRunner", missing)
    folder, _ = finished
    result = validate(
        [folder / "refine.onnx"], recipe=small(tmp_path, runtimes=["onnxruntime-cuda"]), report=tmp_path / "report"
    )
    assert result.report["status"] == "not compared"
    page = (tmp_path / "report" / "report.html").read_text().lower()
    assert "not compared" in page
    assert "no cuda here" in page


def test_a_broken_file_is_reported_to_the_end(finished, tmp_path):
    """NaN in the output: failed, counted, written as JSON and as a page."""
    model = onnx.load(finished[0] / "refine.onnx")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "unet.conv.bias")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    result = validate([tmp_path / "nan.onnx"], recipe=small(tmp_path), report=tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report == result.report
    assert report["status"] == "failed"
    assert report["comparisons"][0]["verdict"]["outputs"][0]["metrics"]["worst"]["candidate"] is None
    assert "18432 NaN" in report["comparisons"][0]["verdict"]["reasons"][0]
    assert "NaN" in (tmp_path / "report" / "report.html").read_text()


def test_refuses(tmp_path):
    with pytest.raises(
        RequestError, match="IFNet weights do not make the graph 'interpolator_m'; these weights make: "
    ):
        run(recipe=small(tmp_path, graphs=["interpolator_m"]))
    with pytest.raises(RequestError, match="does not exist"):
        run(recipe=small(tmp_path, frames=["a.png", "b.png"]))


def test_one_load_and_one_trace(tmp_path, monkeypatch):
    """More feeds and sizes cost their own runs: each file is loaded once, each graph exported once."""
    from refine_export import artifacts as onnx_file
    from refine_export.validate import runtimes as candidates

    counts = {"loaded": 0, "exported": 0}
    runner, exporter = candidates.OrtRunner, onnx_file.onnx_from_network

    def loading(*args, **options):
        counts["loaded"] += 1
        return runner(*args, **options)

    def exporting(*args, **options):
        counts["exported"] += 1
        return exporter(*args, **options)

    monkeypatch.setattr(candidates, "OrtRunner", loading)
    monkeypatch.setattr(onnx_file, "onnx_from_network", exporting)
    result = run(recipe=small(tmp_path, graphs=["contextnet"], sizes=["32x32", "96x64"]))
    assert len(result.report["comparisons"]) == 56
    assert counts == {"loaded": 1, "exported": 1}  # the FP16 file has another runner
