"""From an ONNX file of one of the graphs to an engine that is proven and kept: the whole way, by the fake.

Each build is a real child process; ONNX Runtime on the CPU stands in for the engine, so the numbers are no TensorRT's.
"""

import json

import pytest

from refine_export.engine.engine_manifest import artifact_from_engine, engine_description
from refine_export.errors import RequestError
from refine_export.jobs.recipe_file import recipe_with, toml_from_recipe
from refine_export.jobs.validate_files import validate
from tests.support.engine_seat import RECIPE, STRICT, Seat, files_fixture, made_by, recipe_with_seed, seat_fixture  # noqa: F401 (fixtures)
from tests.support.refusals import refused

ANY_SIZE = {"min_size": "32x32", "opt_size": "64x64", "max_size": "64x96", "max_batch": 2}


@pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
def test_an_engine_is_built_proven_reused_shown_and_validated(tmp_path, files, monkeypatch, version, command):
    seat = Seat(tmp_path, files, monkeypatch, version)
    made = seat.build()
    assert (made.fallback, made.reused) == ("native", False)
    [tried] = made.manifest.details["fallbacks"]
    assert tried["status"] == "passed"
    assert len(tried["numbers"]) == 8
    assert all(0 < one["max_abs"] < 0.05 for one in tried["numbers"])
    assert seat.build().reused
    artifact = artifact_from_engine(seat.plan)
    assert (artifact.graph, artifact.precision, artifact.fixed) == ("contextnet", "fp16", (1, 64, 64))
    assert artifact.engine == f"TensorRT {version} on H200 (9.0), fallback native"
    assert engine_description(seat.plan)["key"]["fallback"] == "native"
    result = validate([seat.plan, seat.fp16], recipe=RECIPE)
    assert result.report["status"] == "passed"
    assert {comparison["verdict"]["runtime"] for comparison in result.report["comparisons"]} == {"tensorrt", "half"}
    code, shown, _ = command("inspect", seat.plan)
    assert (code, f"tensorrt: {version}" in shown, "fallback: native" in shown) == (0, True, True)


def test_an_engine_of_any_size_is_compared_over_its_whole_profile(seat, tmp_path):
    free = made_by(tmp_path / "free", recipe_with(RECIPE, {"dynamic": True}))
    made = seat.build(free, **ANY_SIZE)
    numbers = made.manifest.details["fallbacks"][0]["numbers"]
    feeds = {one["feed"] for one in numbers}
    sizes = ("32x32", "64x64", "2x64x96", "64x64, noise")
    assert feeds == {f"contextnet {size}, subpixel flow" for size in sizes}
    artifact = artifact_from_engine(seat.plan)
    assert artifact.profile == ((1, 32, 32), (1, 64, 64), (2, 64, 96))
    assert artifact.fixed == (None, None, None)
    assert artifact.sizes == "1x3x32x32 to 2x3x64x96"
    report = validate([seat.plan], recipe=RECIPE).report
    assert report["status"] == "passed"
    assert {(row["batch"], *row["size"]) for row in report["comparisons"]} == set(artifact.profile)


def test_a_wrong_engine_is_never_kept(seat):
    seat.built()
    before = {path.name: path.read_bytes() for path in seat.plan.parent.iterdir()}
    seat.fake(error=0.25)
    with refused("no-exact-engine", RequestError):
        seat.build(optimization_level=1)
    left = {path.name: path.read_bytes() for path in seat.plan.parent.iterdir()}
    assert {name: left[name] for name in before if not name.endswith(".timing")} == {
        name: content for name, content in before.items() if not name.endswith(".timing")
    }
    assert not [name for name in left if "fallbacks" in name]


def test_the_fp32_file_of_a_lowered_one_is_the_last_fallback(seat):
    """The FP32 file is the one that the manifest names."""
    made = seat.build(recipe=STRICT, fallback="auto")
    assert [tried["status"] for tried in made.manifest.details["fallbacks"]] == ["failed", "failed", "failed", "passed"]
    assert made.fallback == "fp32"
    assert artifact_from_engine(seat.plan).precision == "fp32"
    assert validate([seat.plan], recipe=RECIPE).report["thresholds"]["contextnet_fp32"]["psnr_db"] == 90


def test_without_the_fp32_file_there_is_no_last_fallback(seat):
    seat.fp32.write_bytes(seat.fp32.read_bytes() + b"\x3a\x00")  # an empty graph name: another file
    with refused("fp32-needed", RequestError):
        seat.build(fallback="fp32")
    assert (
        seat.build(fallback="fp32", fp32=made_by(seat.folder / "again").with_name("contextnet.onnx")).fallback == "fp32"
    )


def test_other_weights_than_the_files_are_refused_before_a_build(seat):
    with refused("other-weights", RequestError):
        seat.build(recipe=recipe_with_seed(1))
    assert not seat.plan.exists()


@pytest.mark.parametrize("name", ["contextnet.fp16.onnx", "contextnet.fp16.onnx.json"])
def test_the_source_is_not_overwritten(seat, name):
    output = seat.fp16.with_name(name.removesuffix(".json"))
    with refused("output-is-input", RequestError):
        seat.build(output=output, force=True)


def test_the_command_line_builds(seat, command):
    recipe = seat.folder / "r.toml"
    recipe.write_text(toml_from_recipe(RECIPE))
    build = f"build {seat.fp16} -o {seat.plan} --fallback native --optimization-level 2 -q --recipe {recipe}".split()
    code, shown, _ = command(*build)
    assert code == 0, shown
    assert "fallback native: passed, largest error" in shown
    assert "fallback native (" in shown.splitlines()[-1]
    assert json.loads(command(*build, "--json")[1])["reused"] is True


def test_weights_sizes_and_files_that_do_not_belong_together_are_refused(seat):
    large = made_by(seat.folder / "large", recipe_with(RECIPE, {"size": "96x96"})).with_name("contextnet.onnx")
    for fp32 in (seat.fp16, seat.folder / "other" / "contextnet.onnx", large):
        with pytest.raises(RequestError):
            seat.build(fp32=fp32)
    for folder in ("~nosuchuser/x", "a\0b"):
        with pytest.raises(RequestError):
            seat.build(timing_cache=folder)
    assert not seat.plan.exists()
