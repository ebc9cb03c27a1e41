"""The main job on a machine with TensorRT, and what stands beside it: other builders, ONNX Runtime's providers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refine_export.doctor.diagnosis import diagnose
from refine_export.engine.cross_checks import cross_checks
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import UnavailableError
from refine_export.runners.onnxruntime import OrtRunner
from tests.support.real_tensorrt import file_of, run_python, saved_recipe

pytestmark = pytest.mark.tensorrt


def test_doctor_says_that_engines_work_here():
    checks = {check.name: check for check in diagnose()}
    assert [checks[name] for name in ("GPU", "torch, CUDA", "TensorRT") if not checks[name].works] == []


def test_the_main_job_passes_and_is_reused(workshop, tmp_path):
    recipe = saved_recipe(workshop.recipe(output=str(tmp_path / "out")), tmp_path / "r.toml")
    command = ("-m", "refine_export.cli.main", "run", "--recipe", recipe, "--require", "ort,trt", "-q", "--json")
    done = run_python(*command)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert (report["status"], report["shortfalls"]) == ("passed", [])
    [engine] = [artifact for artifact in report["artifacts"] if artifact["engine"]]
    assert (engine["file"], engine["graph"]) == ("contextnet.fp16.plan", "contextnet")
    verdicts = [row["verdict"] for row in report["comparisons"] if row["file"] == engine["file"]]
    assert {(one["runtime"], one["status"]) for one in verdicts} == {("tensorrt", "passed")}
    assert engine["engine"] in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    plan = (tmp_path / "out" / engine["file"]).read_bytes()
    again = run_python(*command)
    assert (again.returncode, json.loads(again.stdout)) == (0, report)
    assert (tmp_path / "out" / engine["file"]).read_bytes() == plan


@pytest.mark.parametrize("tool", ["trtexec", "polygraphy"])
def test_another_tool_builds_an_engine_that_is_as_exact(workshop, tool):
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    if missing := [name for name in ("sh", tool) if shutil.which(name, path=path) is None]:
        pytest.skip(f"{' and '.join(missing)} is not on PATH")
    made = workshop.engine()
    commands = cross_checks(made.manifest, file_of(made, workshop.file()), made.path)[tool]
    done = subprocess.run(
        ["sh", "-ec", commands],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    precision = artifact_from_engine(made.path).precision
    with TrtRunner(made.path.with_name(f"contextnet.{tool}.plan"), unchecked=True) as runner:
        workshop.assert_exact(runner, workshop.feeds(), precision)


@pytest.mark.parametrize(
    ("provider", "precision", "gridsample"),
    [
        ("cuda", "fp32", "native"),
        ("cuda", "fp16", "native"),
        ("tensorrt", "fp16", "gather"),  # nothing guards the samplers there, and TF32 can't be turned off for FP32
    ],
)
def test_a_provider_of_onnx_runtime_is_exact(workshop, provider, precision, gridsample, record_property):
    try:
        runner = OrtRunner(workshop.file("contextnet", precision, gridsample=gridsample), provider=provider)
    except UnavailableError as error:
        pytest.skip(str(error))
    with runner:
        record_property("provider", f"{runner.provider} on {runner.device}")
        workshop.assert_exact(runner, workshop.feeds(), precision)
