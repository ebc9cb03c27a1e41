"""Real engines and their weights: replaced, left out, and carried to newer versions."""

import pytest

from refine_export.engine.bindings import load_library
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.machine import numbers_of
from refine_export.errors import EngineError, RequestError
from refine_export.jobs.refit_engine import refit
from refine_export.jobs.validate_files import validate
from tests.support.real_tensorrt import content_of
from tests.support.refusals import refused

pytestmark = pytest.mark.tensorrt

OTHER = 1  # seed


def status_of(workshop, plan, seed=0, **given):
    return validate([plan], recipe=workshop.recipe(seed=seed, **given)).report["status"]


def test_an_engine_takes_the_weights_of_another_checkpoint(workshop, tmp_path):
    made = workshop.engine(refittable=True, optimization_level=1)
    before, precision = content_of(made.path.parent), artifact_from_engine(made.path).precision
    source = workshop.file("contextnet", precision, seed=OTHER)
    plan = tmp_path / "new.plan"
    try:
        refitted = refit(made.path, source, output=plan, recipe=workshop.recipe(seed=OTHER))
    except RequestError as error:
        if numbers_of(load_library("trt").version)[:2] == (11, 3):  # its release notes say so
            pytest.xfail(f"engines with the flag REFIT may give wrong numbers on 11.3: {error}")
        raise
    assert (refitted.fallback, refitted.manifest.details["fallbacks"][0]["status"]) == (made.fallback, "passed")
    assert status_of(workshop, plan, OTHER) == "passed"
    with TrtRunner(plan) as runner, pytest.raises(AssertionError, match="is not the reference"):
        workshop.assert_exact(runner, workshop.feeds(), precision)
    with TrtRunner(made.path) as runner:
        workshop.assert_exact(runner, workshop.feeds(), precision)
        with pytest.raises(AssertionError, match="is not the reference"):
            workshop.assert_exact(runner, workshop.feeds(), precision, seed=OTHER)
    assert content_of(made.path.parent) == before


def test_an_engine_that_takes_no_weights_says_so(workshop, tmp_path):
    made = workshop.engine()
    source = workshop.file("contextnet", artifact_from_engine(made.path).precision, seed=OTHER)
    new, recipe = tmp_path / "new.plan", workshop.recipe(seed=OTHER)
    with refused("not-refittable", RequestError):
        refit(made.path, source, output=new, recipe=recipe)


def test_an_engine_without_weights_takes_back_its_own(workshop, tmp_path):
    made = workshop.engine(strip_weights=True, optimization_level=1)
    precision = artifact_from_engine(made.path).precision
    with refused("stripped", EngineError):
        TrtRunner(made.path)
    other, plan = workshop.file("contextnet", precision, seed=OTHER), tmp_path / "whole.plan"
    recipe = workshop.recipe(seed=OTHER)
    with refused("wrong-weights", RequestError):
        refit(made.path, other, output=plan, recipe=recipe)
    assert not plan.exists()
    refit(made.path, workshop.file("contextnet", precision), output=plan, recipe=workshop.recipe())
    assert status_of(workshop, plan) == "passed"


def test_a_version_compatible_engine_runs_where_its_code_is_trusted(workshop):
    made = workshop.engine(version_compatible=True, optimization_level=1)
    with refused("host-code", RequestError):
        TrtRunner(made.path)
    with TrtRunner(made.path, options=EngineRunOptions(allow_host_code=True)) as runner:
        precision = artifact_from_engine(made.path).precision
        workshop.assert_exact(runner, workshop.feeds(), precision)
    assert status_of(workshop, made.path, allow_host_code=True) == "passed"
