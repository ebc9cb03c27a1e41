"""The main job on one small graph: makes everything, reuses what is unchanged, completes what was interrupted."""

import json
import shutil
import sys
from contextlib import contextmanager

import pytest
import torch

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.engine import engine_file, engine_manifest
from refine_export.errors import RequestError, UnavailableError
from refine_export.export import export_file
from refine_export.jobs import build_engine
from refine_export.jobs.gate_report import gate
from refine_export.jobs.main_job import run
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import recipe_with, toml_from_recipe
from refine_export.runners import open_onnx_runner
from refine_export.support.progress import Silent
from tests.support.engine_models import bare_module, needs_rtx
from tests.support.paths import names_in
from tests.support.refusals import refused

SMALL = Recipe(
    checkpoint=CheckpointOptions(weights="seeded"),
    scene=SceneOptions(height=64, width=96, motion_px=4),
    frames=FramesOptions(scene_frames=2),
)


class Log(Silent):
    """Progress that remembers."""

    def __init__(self):
        self.lines = []

    @contextmanager
    def step(self, label):
        outcome = []
        yield outcome.append
        self.lines.append(f"{label}: {outcome[-1] if outcome else ''}")

    def reused(self):
        return [line.partition(":")[0] for line in self.lines if ": reused" in line]


def small(folder, **given):
    chosen = {"graphs": ["contextnet"], "dynamic": False, "size": "64x96", "flows": ["subpixel"], "sizes": []}
    return recipe_with(SMALL, chosen | {"output": str(folder), "target": "trt"} | given)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(recipe=small(folder))


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def test_makes_everything(finished):
    folder, result = finished
    files = [name for file in ("contextnet.fp16.onnx", "contextnet.onnx") for name in (file, f"{file}.json")]
    assert names_in(folder) == [*files, "report.html", "report.json"]
    report = json.loads((folder / "report.json").read_text())
    assert report == result.to_dict() == result.report
    assert (result.status, result.passed, result.reused) == ("passed", True, False)
    assert result.path == folder / "report.json"
    assert len(repr(result)) < 200
    assert result.summary().startswith("passed: ")
    runs = {(one["file"], one["verdict"]["runtime"]) for one in report["comparisons"]}
    assert runs == {("contextnet.onnx", "onnxruntime-cpu"), ("contextnet.fp16.onnx", "half")}
    page = (folder / "report.html").read_text()
    assert all(one["verdict"]["feed"] in page for one in report["comparisons"])
    assert report["fingerprint"] in page


def test_sizes_are_checked_before_the_first_long_step(tmp_path):
    log = Log()
    with refused("wrong-size", RequestError, multiple_of=32):
        run(recipe=recipe_with(SMALL, {"output": str(tmp_path), "sizes": ["100x100"]}), progress=log)
    assert not any(line.startswith("export") for line in log.lines)


def test_a_second_run_reuses_everything(copied):
    log = Log()
    result = run(recipe=small(copied), progress=log)
    assert (result.reused, result.status) == (True, "passed")
    assert log.reused() == ["export contextnet", "validate"]


def test_only_what_changed_is_made_again(copied):
    log = Log()
    result = run(recipe=small(copied), reference="float64", progress=log)
    assert log.reused() == ["export contextnet"]
    assert not result.reused
    assert "float64" in result.report["reference"]


@pytest.mark.parametrize("lost", ["report.html", "contextnet.onnx.json"])
def test_what_is_missing_is_made_again(copied, lost):
    """A file without its manifest could be another tool's: it is replaced by force only."""
    (copied / lost).unlink()
    if lost.endswith(".onnx.json"):
        with refused("output-exists", RequestError, path=copied / "contextnet.onnx"):
            run(recipe=small(copied))
    run(recipe=small(copied), force=True)
    assert (copied / lost).is_file()
    assert run(recipe=small(copied)).reused


def test_an_interrupted_run_is_completed(copied):
    """Stopped before the comparison: the files are whole and reused, the rest is made by the next run."""
    for name in ("report.html", "report.json"):
        (copied / name).unlink()

    class Interrupt(Log):
        @contextmanager
        def step(self, label):
            if label.startswith("compare"):
                raise KeyboardInterrupt
            with super().step(label) as say:
                yield say

    with pytest.raises(KeyboardInterrupt):
        run(recipe=small(copied), progress=Interrupt())
    assert not (copied / "report.json").exists()
    log = Log()
    assert run(recipe=small(copied), progress=log).passed
    assert log.reused() == ["export contextnet"]


def test_one_load_and_one_trace(tmp_path, monkeypatch):
    """More feeds and sizes cost their own runs: each file is loaded once, each graph exported once."""
    counts = {"loaded": 0, "exported": 0}

    def counted(module, name, key):
        function = getattr(module, name)

        def counting(*args, **options):
            counts[key] += 1
            return function(*args, **options)

        monkeypatch.setattr(module, name, counting)

    open_onnx_runner.sampling_problems("onnxruntime-cpu")  # loads the probe once in a process
    counted(open_onnx_runner, "OrtRunner", "loaded")
    counted(export_file, "onnx_from_network", "exported")
    recipe = small(tmp_path, dynamic=True, size=None, precision="fp32", flows=["subpixel", "zero"], sizes=["32x32"])
    result = run(recipe=recipe)
    assert {tuple(one["size"]) for one in result.report["comparisons"]} >= {(64, 96), (32, 32), (96, 160)}
    assert counts == {"loaded": 1, "exported": 1}


def test_wrong_inputs_are_refused_before_anything_is_made(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", bare_module("tensorrt_rtx", "1.7.1.116"))
    refinement = tmp_path_factory.mktemp("weights") / "refinement.pkl"
    torch.save(dict(seeded_checkpoint("refinement").state_dict), refinement)
    for options, code in (
        ({"graphs": ["interpolator"], "checkpoint": str(refinement)}, "graph-not-in-weights"),
        ({"frames": ["a.png", "b.png"]}, None),
        ({"checkpoint": "absent.pkl"}, None),
        ({"strip_weights": True}, "engine-cannot-run"),
        ({"target": "rtx", "refittable": True}, "unsupported-option"),
        ({"dynamic": True, "size": None, "opt_size": "100x100"}, "wrong-size"),
    ):
        with pytest.raises(RequestError) as caught:
            run(recipe=small(tmp_path, **options))
        assert code in (None, caught.value.code)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def without_gpu(monkeypatch):
    def current_gpu():
        raise UnavailableError("no GPU", code="no-gpu")

    monkeypatch.setattr(engine_manifest, "current_gpu", current_gpu)
    monkeypatch.setattr(engine_file, "has_gpu_of", lambda machine: False)


@needs_rtx
def test_an_engine_is_built_and_stands_beside_the_verdict_of_what_was_compared(copied, without_gpu, monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    log = Log()
    result = run(recipe=small(copied, target="rtx", require=["rtx", "ort"]), progress=log)
    assert (result.status, "tensorrt_rtx" in sys.modules) == ("passed", False)  # imported in the child alone
    assert any(line.startswith("build contextnet.fp16.onnx") for line in log.lines)
    [engine] = result.report["engines"]
    assert (engine["file"], engine["library"], engine["executed"]) == ("contextnet.fp16.rtx", "rtx", False)
    assert engine["types"]["CONVOLUTION HALF -> HALF"] == 8
    assert engine["samplers"] == engine["types"]["GRID_SAMPLE FLOAT FLOAT -> FLOAT"] == 4
    [shortfall] = result.report["shortfalls"]
    assert (shortfall["what"], shortfall["status"], shortfall["counts"]) == (
        "contextnet.fp16.rtx",
        "not compared",
        False,
    )
    assert {one["file"] for one in result.report["comparisons"]} == {"contextnet.onnx", "contextnet.fp16.onnx"}
    assert engine["proven"] in (copied / "report.html").read_text()
    assert gate(result, require=["rtx"]).passed
    assert gate(result, require=["trt"]).status == "not compared"
    assert run(recipe=small(copied, target="rtx", require=["rtx", "ort"])).reused


@pytest.mark.parametrize(("target", "module"), [("trt", "tensorrt"), ("rtx", "tensorrt_rtx")])
@pytest.mark.parametrize(("required", "status", "code"), [(False, "passed", 0), (True, "not compared", 3)])
def test_a_library_that_is_missing_is_named(
    copied, tmp_path, monkeypatch, command, target, module, required, status, code
):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(build_engine, "driver_status", lambda: 0)
    recipe = tmp_path / "r.toml"
    recipe.write_text(toml_from_recipe(small(copied, target=target)))
    found, out, _ = command("run", "--recipe", recipe, "-q", *(["--require", target] if required else []))
    assert (found, f": not compared, {module} is not installed: pip install" in out) == (code, True)
    report = json.loads((copied / "report.json").read_text())
    [shortfall] = report["shortfalls"]
    assert (report["status"], shortfall["runtime"], shortfall["counts"]) == (status, target, required)
    [verdict] = [line for line in out.splitlines() if "are within their limits" in line]
    cause = f"; {shortfall['what']} is required (--require {target}) and not compared"
    assert verdict.endswith(cause) is required


@pytest.mark.parametrize("rtx", [False, True])
def test_without_a_gpu_the_library_that_builds_without_one_is_advised(monkeypatch, rtx):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(build_engine, "driver_status", lambda: None)
    monkeypatch.setattr(build_engine, "find_spec", lambda name: (rtx and name == "tensorrt_rtx") or None)
    _, shortfalls = build_engine.engine_targets(recipe_with(Recipe(), {"target": "trt"}))
    [reason] = [one.reason for one in shortfalls if one.what == "TensorRT"]
    assert reason.startswith("tensorrt is not installed, and needs an NVIDIA GPU")
    assert reason.endswith(": pip install tensorrt-rtx") == (not rtx)


@needs_rtx
@pytest.mark.parametrize(
    ("error", "required", "status"),
    [
        (UnavailableError("Myelin", code="tensorrt-failed"), [], "passed"),
        (UnavailableError("Myelin", code="tensorrt-failed"), ["rtx"], "failed"),
        (RequestError("coordinates of 16 bits", code="engine-types"), [], "failed"),  # the file samples wrongly
    ],
)
def test_a_build_that_fails_counts_where_it_is_required(copied, monkeypatch, without_gpu, error, required, status):
    def failing(*given, **more):
        raise error

    monkeypatch.setattr(build_engine, "engine_file", failing)
    result = run(recipe=small(copied, target="rtx", require=required))
    [shortfall] = result.report["shortfalls"]
    assert (result.status, shortfall["status"], shortfall["counts"]) == (status, "failed", status == "failed")
    assert gate(result, require=["rtx"]).status == "failed"
