"""New weights go into an engine that takes them, and are proven before it is kept; by the fake."""

import dataclasses
import json

from refine_export.artifacts import artifact_from_file
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.errors import RequestError
from refine_export.jobs.recipe_file import recipe_with
from refine_export.jobs.refit_engine import refit
from refine_export.jobs.validate_files import validate
from refine_export.support.manifest import manifest_path
from tests.support.engine_seat import RECIPE, STRICT, files_fixture, made_by, recipe_with_seed, seat_fixture  # noqa: F401 (fixtures)
from tests.support.refusals import refused


def test_new_weights_go_into_an_engine(seat, tmp_path):
    seat.built(refittable=True)
    old = seat.plan.read_bytes()
    source, output = tmp_path / "other" / "contextnet.fp16.onnx", tmp_path / "out" / "new.plan"
    made = refit(seat.plan, source, output=output, recipe=recipe_with_seed(1))
    assert (
        made.manifest.details["refitted"]["plan_sha256"] == json.loads(manifest_path(seat.plan).read_text())["sha256"]
    )
    assert seat.plan.read_bytes() == old
    assert output.read_bytes() != old
    assert artifact_from_engine(output).checkpoint_sha256 == artifact_from_file(source).checkpoint_sha256
    assert validate([output], recipe=recipe_with_seed(1)).report["status"] == "passed"
    assert validate([output], recipe=RECIPE, force=True).report["status"] == "failed"
    assert not seat.build(source, recipe_with_seed(1), output, refittable=True).reused  # a fresh one is asked for


def test_an_engine_takes_new_weights_in_its_own_place(seat, tmp_path):
    seat.built(refittable=True)
    source = tmp_path / "other" / "contextnet.fp16.onnx"
    refit(seat.plan, source, output=seat.plan, recipe=recipe_with_seed(1))
    assert validate([seat.plan], recipe=recipe_with_seed(1)).report["status"] == "passed"


def test_a_refit_with_wrong_numbers_is_not_kept(seat, tmp_path):
    seat.built(refittable=True)
    old = seat.plan.read_bytes()
    source = tmp_path / "other" / "contextnet.fp16.onnx"
    strict = dataclasses.replace(STRICT, checkpoint=recipe_with_seed(1).checkpoint)
    with refused("no-exact-engine", RequestError):
        refit(seat.plan, source, output=seat.plan, recipe=strict)
    assert seat.plan.read_bytes() == old


def test_engines_that_take_no_weights_say_so(seat, tmp_path):
    seat.built()
    source = tmp_path / "other" / "contextnet.fp16.onnx"
    new = tmp_path / "new.plan"
    with refused("not-refittable", RequestError):
        refit(seat.plan, source, output=new, recipe=recipe_with_seed(1))
    fp32 = source.with_name("contextnet.onnx")
    with refused("not-the-engines-file", RequestError):
        refit(seat.plan, fp32, output=new, recipe=recipe_with_seed(1))


def test_a_stripped_engine_takes_back_its_own_weights_alone(seat, tmp_path):
    assert seat.build(strip_weights=True).fallback == "native"  # compared with its weights
    report = validate([seat.plan], recipe=RECIPE).report
    assert report["status"] == "failed"
    assert "was built without its weights" in report["comparisons"][0]["verdict"]["reasons"][0]
    other = tmp_path / "other" / "contextnet.fp16.onnx"
    new = tmp_path / "new.plan"
    with refused("wrong-weights", RequestError):
        refit(seat.plan, other, output=new, recipe=recipe_with_seed(1))
    refit(seat.plan, seat.fp16, output=tmp_path / "new.plan", recipe=RECIPE)
    assert validate([tmp_path / "new.plan"], recipe=RECIPE).report["status"] == "passed"


def test_a_refit_with_a_file_of_another_size_or_over_its_own_manifest_is_refused(seat, tmp_path):
    seat.built(refittable=True)
    large = made_by(seat.folder / "large", recipe_with(RECIPE, {"size": "96x96"}))
    with refused("wrong-shapes", RequestError):
        refit(seat.plan, large, output=tmp_path / "new.plan", recipe=RECIPE)
    manifest = manifest_path(seat.plan)
    before = manifest.read_bytes()
    with refused("output-is-input", RequestError):
        refit(seat.plan, seat.fp16, output=manifest, recipe=RECIPE, force=True)
    assert manifest.read_bytes() == before
