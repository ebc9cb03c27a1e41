"""The main job and `validate` report an engine, one that fails and one that is missing; by the fake."""

import json
import sys

from refine_export.engine import machine
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.errors import EngineError
from refine_export.jobs.main_job import run
from refine_export.jobs.recipe_file import recipe_with
from refine_export.jobs.validate_files import validate
from refine_export.support.manifest import manifest_path
from tests.support.engine_seat import RECIPE, files_fixture, seat_fixture  # noqa: F401 (fixtures)
from tests.support.refusals import refused


def test_the_main_job_builds_compares_and_reports_the_engine(seat, tmp_path):
    recipe = recipe_with(RECIPE, {"output": str(tmp_path / "run"), "require": ["ort", "trt"]})
    result = run(recipe=recipe)
    assert result.report["status"] == "passed"
    assert result.report["shortfalls"] == []
    files = {row["file"]: row["verdict"]["runtime"] for row in result.report["comparisons"]}
    assert files == {
        "contextnet.onnx": "onnxruntime-cpu",
        "contextnet.fp16.onnx": "half",
        "contextnet.fp16.plan": "tensorrt",
    }
    assert "TensorRT 11.4.0 on H200 (9.0), fallback native" in (tmp_path / "run" / "report.html").read_text()
    assert run(recipe=recipe).reused


def test_a_main_job_whose_engine_is_wrong_fails(seat, tmp_path):
    seat.fake(error=0.25)
    report = run(recipe=recipe_with(RECIPE, {"output": str(tmp_path / "run")})).report
    assert report["status"] == "failed"
    [shortfall] = report["shortfalls"]
    assert shortfall["what"] == "contextnet.fp16.plan"
    assert "native failed" in shortfall["reason"]


def test_a_main_job_whose_build_dies_is_not_green(seat, tmp_path):
    seat.fake("import os\ntrt.Builder = lambda logger: os.kill(os.getpid(), 9)\n")
    report = run(recipe=recipe_with(RECIPE, {"output": str(tmp_path / "run")})).report
    assert report["status"] == "not compared"
    assert "SIGKILL" in report["shortfalls"][0]["reason"]


def test_validate_names_a_required_runtime_that_nothing_was_run_by(files):
    recipe = recipe_with(RECIPE, {"require": ["trt", "ort"]})
    report = validate([files / "one" / "contextnet.fp16.onnx"], recipe=recipe).report
    assert report["status"] == "not compared"
    assert [(one["what"], one["reason"]) for one in report["shortfalls"]] == [
        ("TensorRT", "it is required, and nothing was run by it")
    ]


def test_an_engine_without_tensorrt_is_not_compared(seat, monkeypatch):
    seat.built()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # where that one is, the engine is refused
    report = validate([seat.plan], recipe=RECIPE).report
    assert report["status"] == "not compared"
    assert "pip install tensorrt" in report["comparisons"][0]["verdict"]["reasons"][0]


def test_an_engine_of_another_machine_fails_in_words(seat, monkeypatch):
    seat.built()
    monkeypatch.setattr(machine, "current_gpu", lambda: ("NVIDIA L4", (8, 9)))
    report = validate([seat.plan], recipe=RECIPE).report
    assert report["status"] == "failed"
    assert "built for TensorRT 11.4.0 on H200 (9.0), this is TensorRT 11.4.0 on L4 (8.9)" in str(report["comparisons"])


def test_a_version_compatible_engine_runs_where_its_code_is_trusted(seat):
    seat.build(version_compatible=True)
    report = validate([seat.plan], recipe=RECIPE).report
    assert "brings a lean runtime, which is code" in report["comparisons"][0]["verdict"]["reasons"][0]
    trusted = recipe_with(RECIPE, {"allow_host_code": True})
    assert validate([seat.plan], recipe=trusted).report["status"] == "passed"


def test_an_engine_of_another_graph_is_refused(seat):
    seat.built()
    content = json.loads(manifest_path(seat.plan).read_text())
    content["details"]["artifact"] = None
    manifest_path(seat.plan).write_text(json.dumps(content))
    with refused("unknown-graph", EngineError):
        artifact_from_engine(seat.plan)
