"""New weights go into an engine that takes them, and are proven before it is kept; by the fake."""

from __future__ import annotations

import dataclasses
import json

import pytest

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.artifacts import artifact_from_file
from refine_export.engine.plan import artifact_from_plan
from refine_export.errors import RequestError
from refine_export.jobs import engines as engine_jobs
from refine_export.jobs import main_job as pipeline
from refine_export.support.manifest import manifest_path
from tests.support.engine_seat import RECIPE, files_fixture, recipe_with_seed, seat_fixture  # noqa: F401 (fixtures)


def test_new_weights_go_into_an_engine(seat, tmp_path):
    seat.build(refittable=True)
    old = seat.plan.read_bytes()
    source, output = tmp_path / "other" / "contextnet.fp16.onnx", tmp_path / "out" / "new.plan"
    made = engine_jobs.refit(seat.plan, source, output, recipe_with_seed(1))
    assert (
        made.manifest.details["refitted"]["plan_sha256"] == json.loads(manifest_path(seat.plan).read_text())["sha256"]
    )
    assert seat.plan.read_bytes() == old
    assert output.read_bytes() != old
    assert artifact_from_plan(output).checkpoint_sha256 == artifact_from_file(source).checkpoint_sha256
    assert pipeline.validate_files([output], recipe_with_seed(1), None).report["status"] == "passed"
    assert pipeline.validate_files([output], RECIPE, None, force=True).report["status"] == "failed"
    assert not seat.build(source, recipe_with_seed(1), output, refittable=True).reused  # a fresh one is asked for


def test_an_engine_takes_new_weights_in_its_own_place(seat, tmp_path):
    seat.build(refittable=True)
    source = tmp_path / "other" / "contextnet.fp16.onnx"
    engine_jobs.refit(seat.plan, source, seat.plan, recipe_with_seed(1))
    assert pipeline.validate_files([seat.plan], recipe_with_seed(1), None).report["status"] == "passed"


def test_a_refit_with_wrong_numbers_is_not_kept(seat, tmp_path):
    seat.build(refittable=True)
    old = seat.plan.read_bytes()
    source = tmp_path / "other" / "contextnet.fp16.onnx"
    recipe = recipe_with_seed(1)
    limits = LimitsOptions(contextnet_fp16=Limits(max_abs=0.05, psnr_db=300.0))
    strict = dataclasses.replace(recipe, validate=dataclasses.replace(recipe.validate, limits=limits))
    with pytest.raises(RequestError, match="native failed"):
        engine_jobs.refit(seat.plan, source, seat.plan, strict)
    assert seat.plan.read_bytes() == old


def test_engines_that_take_no_weights_say_so(seat, tmp_path):
    seat.build()
    source = tmp_path / "other" / "contextnet.fp16.onnx"
    with pytest.raises(RequestError, match="takes no new weights; expected .*--refittable"):
        engine_jobs.refit(seat.plan, source, tmp_path / "new.plan", recipe_with_seed(1))
    with pytest.raises(RequestError, match="contextnet in fp16, .* is contextnet in fp32"):
        engine_jobs.refit(seat.plan, source.with_name("contextnet.onnx"), tmp_path / "new.plan", recipe_with_seed(1))


def test_a_stripped_engine_takes_back_its_own_weights_alone(seat, tmp_path):
    assert seat.build(strip_weights=True).rung == "native"  # compared with its weights
    report = pipeline.validate_files([seat.plan], RECIPE, None).report
    assert report["status"] == "failed"
    assert "was built without its weights" in report["comparisons"][0]["verdict"]["reasons"][0]
    other = tmp_path / "other" / "contextnet.fp16.onnx"
    with pytest.raises(RequestError, match="takes back those alone"):
        engine_jobs.refit(seat.plan, other, tmp_path / "new.plan", recipe_with_seed(1))
    engine_jobs.refit(seat.plan, seat.fp16, tmp_path / "new.plan", RECIPE)
    assert pipeline.validate_files([tmp_path / "new.plan"], RECIPE, None).report["status"] == "passed"
