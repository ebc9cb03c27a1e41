"""Real engines of the four graphs: built, proven, reused; and what is left where a build is stopped."""

import os
import signal
import subprocess
import sys

import pytest

from refine_export.engine.bindings import load_library
from refine_export.engine.engine_manifest import artifact_from_engine, engine_description
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.inspector import inspect_engine
from refine_export.jobs.validate_files import validate
from refine_export.signature import SIGNATURES
from tests.support.real_tensorrt import (
    LIMITS,
    content_of,
    copied,
    file_of,
    least,
    numbers_in_words,
    operators_of,
    saved_recipe,
    worst,
)

pytestmark = pytest.mark.tensorrt

PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "fp16"])
IN_ENGINE = {"fp32": "Float", "fp16": "Half"}
QUICK = {"fallback": "gather", "optimization_level": 1}  # without GridSample, which some versions fuse wrongly


@PRECISIONS
@pytest.mark.parametrize("graph", SIGNATURES)
def test_an_engine_of_each_graph_is_built_and_proven(workshop, graph, precision, record_property):
    made, source = workshop.engine(graph, precision), workshop.file(graph, precision)
    details = made.manifest.details
    record_property("fallbacks", numbers_in_words(made))
    record_property("precision", f"{details['precision']['convolutions']}, {details['precision']['notes'] or 'proven'}")

    *before, kept = details["fallbacks"]
    assert (kept["fallback"], kept["status"]) == (made.fallback, "passed")
    assert "passed" not in {tried["status"] for tried in before}
    of = "fp32" if made.fallback == "fp32" else precision
    limits = LIMITS.of(graph, of)
    assert 0 < worst(kept) <= limits.max_abs
    assert least(kept) >= limits.psnr_db

    operators = operators_of(file_of(made, source))
    count = operators.count("GridSample")
    sampling = {"LINEAR CLAMP aligned": count} if count else {}
    assert details["samplers"] == {"layers": count, "sampling": sampling, "repairs": []}
    convolutions = details["precision"]["convolutions"]
    assert details["precision"]["wanted"] == {IN_ENGINE[of]: operators.count("Conv") + operators.count("ConvTranspose")}
    assert sum(convolutions.values()) == sum(details["precision"]["wanted"].values())
    assert convolutions[IN_ENGINE[of]] > 0
    assert set(convolutions) <= {IN_ENGINE[of], "mixed", "unknown"}  # which are noted, and not proven

    found = engine_description(made.path)
    assert (found["manifest"], found["key"]["tensorrt"]) == ("whole", load_library("trt").version)
    artifact = artifact_from_engine(made.path)
    assert (artifact.graph, artifact.precision, artifact.fixed) == (graph, of, (1, 64, 96))
    report = validate([made.path], recipe=workshop.recipe(graph)).report
    assert report["status"] == "passed"


@PRECISIONS
def test_all_of_an_engine_has_the_types_of_its_file(workshop, precision):
    """By flag on 10, always on 11: nothing of an FP32 file is rounded, and the coordinates of an FP16 one are FP32."""
    made = workshop.engine("contextnet", precision)
    if made.fallback == "fp32" and precision == "fp16":
        pytest.skip(f"the engine of the FP16 file is that of the FP32 file: {numbers_in_words(made)}")
    with TrtRunner(made.path) as runner:
        layers = inspect_engine(load_library("trt").module, runner._engine, runner._context).layers
    types = {kind for layer in layers for kind in (*layer.inputs, *layer.outputs)}
    assert types & {"Half", "BFloat16"} == ({"Half"} if precision == "fp16" else set())
    assert "Float" in types


def test_the_size_that_ships(workshop, record_property):
    """Wide enough for coordinates of 16 bits to be off by 0.23 pixels, which is far below the limit of 58 dB."""
    made = workshop.engine(export={"size": "1088x1920"}, optimization_level=1)
    record_property("fallbacks", numbers_in_words(made))
    kept = made.manifest.details["fallbacks"][-1]
    assert {one["feed"].partition(",")[0] for one in kept["numbers"]} == {"contextnet 1088x1920"}
    assert kept["status"] == "passed"


@pytest.mark.parametrize(
    "options",
    [
        {"tf32": True, "workspace_mib": 256, "aux_streams": 0, "verbosity": "layer_names_only"},
        {"hardware_compatibility": "ampere_plus"},
        {"hardware_compatibility": "same_compute_capability", "tiling_level": "fast"},
    ],
    ids=lambda options: "-".join(options),
)
def test_tensorrt_takes_the_options(workshop, options):
    """The engine has them, and is right; ampere_plus is for GPUs of 8.0 and newer."""
    gpu = workshop.engine(**QUICK).manifest.details["key"]["compute_capability"]
    if options.get("hardware_compatibility") == "ampere_plus" and float(gpu) < 8:
        pytest.skip(f"a GPU of compute capability 8.0 is missing: this one has {gpu}")
    made = workshop.engine(**QUICK, **options)
    assert made.manifest.details["fallbacks"][-1]["status"] == "passed"
    with TrtRunner(made.path) as runner:
        has = runner._engine
        assert has.profiling_verbosity.name.lower() == options.get("verbosity", "detailed")
        assert has.hardware_compatibility_level.name.lower() == options.get("hardware_compatibility", "none")
        assert "aux_streams" not in options or has.num_aux_streams == options["aux_streams"]


def test_timings_of_one_build_serve_the_next(workshop, tmp_path):
    def build(mib):
        made = workshop.build(
            workshop.file(), tmp_path / "m.plan", **QUICK, workspace_mib=mib, timing_cache=str(tmp_path / "timing")
        )
        assert not made.reused
        return [note for note in made.manifest.details["notes"] if "timing cache" in note]

    assert len(build(512)) == 1  # there is none yet
    [path] = (tmp_path / "timing").glob("*.timing")
    assert build(513) == []  # it is there, and TensorRT takes it
    path.write_bytes(b"rubbish")
    assert len(build(514)) == 1  # TensorRT rejects it, and it is made again
    assert build(515) == []


@pytest.mark.skipif(os.name == "nt", reason="SIGINT is missing on Windows")
def test_ctrl_c_leaves_the_old_engine(workshop, tmp_path):
    plan = copied(workshop.engine(**QUICK), tmp_path / "out")
    before = content_of(plan.parent)
    recipe = saved_recipe(workshop.recipe(fallback="gather", optimization_level=2), tmp_path / "r.toml")
    code = (  # a shell starts what it runs in the background without Ctrl-C
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from refine_export.cli import program; program()"
    )
    words = [sys.executable, "-c", code, "build", workshop.file(), "-o", plan, "--recipe", recipe]
    with subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE, text=True) as process:
        try:
            heard = []
            for line in process.stderr:
                heard.append(line)
                if line.startswith("build "):  # the child is at work
                    process.send_signal(signal.SIGINT)
                    break
            said = "".join(heard) + process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert (process.returncode, "interrupted: what was not finished is not written" in said) == (130, True), said
    assert content_of(plan.parent) == before
