"""From an ONNX file of one of the graphs to an engine that is proven, reported, refitted: the whole way, by the fake.

Each build is a real child process; ONNX Runtime on the CPU stands in for the engine, so the numbers are no TensorRT's.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys

import pytest
from fake_tensorrt import make_fake, write_fake
from test_engine_child import MACHINE
from test_runner_trt import HostDevice

from refine_export import engine_jobs, pipeline
from refine_export.cli import main
from refine_export.engine import machine
from refine_export.engine.engine_manifest import sealed
from refine_export.engine.plan import artifact_from_plan, describe
from refine_export.errors import GraphError, RecipeError, RequestError, UnavailableError
from refine_export.limits import Limits, LimitsOptions
from refine_export.manifest import Manifest, manifest_path
from refine_export.onnx_file import artifact_from_file
from refine_export.recipe import recipe_from_toml, recipe_with
from refine_export.runners import trt as runner_module

RECIPE = recipe_from_toml("""
    [checkpoint]
    weights = "seeded"
    [scene]
    height = 64
    width = 64
    motion_px = 4.0
    [run]
    graphs = ["contextnet"]
    [export]
    dynamic = false
    size = "64x64"
    [build]
    rung = "native"
    [validate]
    sizes = []
    flows = ["subpixel"]
    [validate.limits]
    contextnet_fp16 = { max_abs = 0.05, psnr_db = 40.0 }
""")
ANY_SIZE = {"dynamic": True, "min_size": "32x32", "opt_size": "64x64", "max_size": "64x96", "max_batch": 2}


def made_by(folder, recipe=RECIPE, **given):
    """The file that `export` and `lower` make."""
    chosen = recipe_with(recipe, {"output": str(folder)} | given)
    pipeline.export(chosen)
    source = folder / "contextnet.onnx"
    lowered = folder / "contextnet.fp16.onnx"
    pipeline.lower(source, lowered, chosen)
    return lowered


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """FP32 and FP16, static; and those of other weights."""
    folder = tmp_path_factory.mktemp("files")
    made_by(folder / "one")
    made_by(folder / "other", recipe_with_seed(1))
    return folder


def recipe_with_seed(seed):
    return dataclasses.replace(RECIPE, checkpoint=dataclasses.replace(RECIPE.checkpoint, seed=seed))


class Seat:
    """A folder with the files, and a machine that seems to have TensorRT."""

    def __init__(self, folder, files, monkeypatch, version):
        self.folder, self.monkeypatch, self.version = folder, monkeypatch, version
        for name in ("one", "other"):
            shutil.copytree(files / name, folder / name)
        self.fp32, self.fp16 = folder / "one" / "contextnet.onnx", folder / "one" / "contextnet.fp16.onnx"
        self.plan = folder / "out" / "contextnet.plan"
        (folder / "fake").mkdir()
        monkeypatch.syspath_prepend(folder / "fake")
        monkeypatch.setattr(machine, "current_gpu", lambda: ("NVIDIA H200", (9, 0)))
        monkeypatch.setattr(machine, "_cuda_major", lambda: 13)
        monkeypatch.setattr(runner_module, "CudaDevice", HostDevice)
        self.fake()

    def fake(self, **behaviour):
        """Another TensorRT, here and in the children."""
        runner_module.process_log.cache_clear()
        self.monkeypatch.setitem(sys.modules, "tensorrt", make_fake(self.version, **behaviour))
        path = write_fake(self.folder / "fake", self.version, **behaviour)
        path.write_text(path.read_text() + MACHINE)

    def build(self, source=None, recipe=RECIPE, output=None, **given):
        more = {name: given.pop(name) for name in ("force", "fp32") if name in given}
        return engine_jobs.build(source or self.fp16, output or self.plan, recipe_with(recipe, given), **more)


@pytest.fixture
def seat(tmp_path, files, monkeypatch):
    return Seat(tmp_path, files, monkeypatch, "11.4.0")


@pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
def test_an_engine_is_built_proven_reused_shown_and_validated(tmp_path, files, monkeypatch, version, capsys):
    seat = Seat(tmp_path, files, monkeypatch, version)
    made = seat.build()
    assert (made.rung, made.reused) == ("native", False)
    [tried] = made.manifest.details["ladder"]
    assert tried["status"] == "passed"
    assert len(tried["numbers"]) == 8
    assert all(0 < one["max_abs"] < 0.05 for one in tried["numbers"])
    assert seat.build().reused
    artifact = artifact_from_plan(seat.plan)
    assert (artifact.graph, artifact.precision, artifact.fixed) == ("contextnet", "fp16", (1, 64, 64))
    assert artifact.engine == f"TensorRT {version} on H200 (9.0), rung native"
    assert describe(seat.plan)["key"]["rung"] == "native"
    result = pipeline.validate_files([seat.plan, seat.fp16], RECIPE, None)
    assert result.report["status"] == "passed"
    assert {comparison["verdict"]["runtime"] for comparison in result.report["comparisons"]} == {"tensorrt", "half"}
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", str(seat.plan)])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert "tensorrt: " + version in shown
    assert "rung: native" in shown


def test_an_engine_of_any_size_is_compared_over_its_whole_profile(seat, tmp_path):
    free = made_by(tmp_path / "free", recipe_with(RECIPE, {"dynamic": True}))
    sizes = {name: value for name, value in ANY_SIZE.items() if name != "dynamic"}
    made = seat.build(free, **sizes)
    numbers = made.manifest.details["ladder"][0]["numbers"]
    feeds = {one["feed"] for one in numbers}
    sizes = ("32x32", "64x64", "2x64x96", "64x64, noise")
    assert feeds == {f"contextnet {size}, subpixel flow" for size in sizes}
    artifact = artifact_from_plan(seat.plan)
    assert artifact.profile == ((1, 32, 32), (1, 64, 64), (2, 64, 96))
    assert artifact.fixed == (None, None, None)
    assert artifact.sizes == "1x3x32x32 to 2x3x64x96"
    report = pipeline.validate_files([seat.plan], RECIPE, None).report
    assert report["status"] == "passed"
    assert {(row["batch"], *row["size"]) for row in report["comparisons"]} == set(artifact.profile)


def test_a_wrong_engine_is_never_kept(seat):
    seat.build()
    before = {path.name: path.read_bytes() for path in seat.plan.parent.iterdir()}
    seat.fake(wrong="always")
    with pytest.raises(
        RequestError, match=r"none of the rungs native is exact enough(.|\n)*native failed: max_abs 0\.09"
    ):
        seat.build(optimization_level=1)
    left = {path.name: path.read_bytes() for path in seat.plan.parent.iterdir()}
    assert {name: left[name] for name in before if not name.endswith(".timing")} == {
        name: content for name, content in before.items() if not name.endswith(".timing")
    }
    assert not [name for name in left if "rungs" in name]


def test_the_fp32_file_of_a_lowered_one_is_the_last_rung(seat):
    """Wherever anything is FP16 this TensorRT is wrong; the FP32 file is the one that the manifest names."""
    seat.fake(wrong="half")
    made = seat.build(rung="auto")
    assert [tried["status"] for tried in made.manifest.details["ladder"]] == ["failed", "failed", "failed", "passed"]
    assert made.rung == "fp32"
    assert artifact_from_plan(seat.plan).precision == "fp32"
    assert pipeline.validate_files([seat.plan], RECIPE, None).report["thresholds"]["contextnet_fp32"]["psnr_db"] == 90


def test_without_the_fp32_file_there_is_no_last_rung(seat):
    seat.fake(wrong="half")
    seat.fp32.write_bytes(seat.fp32.read_bytes() + b"\x3a\x00")  # an empty graph name: another file
    with pytest.raises(RequestError, match="the rung fp32 needs the FP32 file; give it with --fp32"):
        seat.build(rung="fp32")
    assert seat.build(rung="fp32", fp32=made_by(seat.folder / "again").with_name("contextnet.onnx")).rung == "fp32"


def test_other_weights_than_the_files_are_refused_before_a_build(seat):
    with pytest.raises(RequestError, match="was made from seeded .*give the file's own weights with --checkpoint"):
        seat.build(recipe=recipe_with_seed(1))
    assert not seat.plan.exists()


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("contextnet.plan", "is no TensorRT plan; choose another name"),
        ("contextnet.plan.json", "is there without contextnet.plan"),
        ("contextnet.plan.gather.onnx", "is there without contextnet.plan"),
    ],
)
def test_a_file_that_is_no_engines_is_not_overwritten(seat, there, words):
    path = seat.plan.with_name(there)
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(RequestError, match=words):
        seat.build()
    assert path.read_text() == "mine"
    assert seat.build(force=True).rung == "native"


@pytest.mark.parametrize("name", ["contextnet.fp16.onnx", "contextnet.fp16.onnx.json"])
def test_the_source_is_not_overwritten(seat, name):
    output = seat.fp16.with_name(name.removesuffix(".json"))
    with pytest.raises(RequestError, match="is read, and would be overwritten"):
        seat.build(output=output, force=True)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"opt_size": "128x64"}, "the file is made for height 64"),
        ({"opt_size": "65x64"}, "expected multiples of 32"),
        ({"max_batch": 4}, "the file is made for batch 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_without_tensorrt(seat, monkeypatch, size, words):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(RequestError, match=words):
        seat.build(**size)


def test_without_tensorrt_one_sentence_says_what_to_install(seat, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match=r"^this needs tensorrt.*pip install 'refine-export\[trt\]'$"):
        seat.build()


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


def test_the_main_job_builds_compares_and_reports_the_engine(seat, tmp_path):
    recipe = recipe_with(RECIPE, {"output": str(tmp_path / "run"), "require": ["ort", "trt"]})
    result = pipeline.run(recipe)
    assert result.report["status"] == "passed"
    assert result.report["shortfalls"] == []
    files = {row["file"]: row["verdict"]["runtime"] for row in result.report["comparisons"]}
    assert files == {
        "contextnet.onnx": "onnxruntime-cpu",
        "contextnet.fp16.onnx": "half",
        "contextnet.fp16.plan": "tensorrt",
    }
    assert "TensorRT 11.4.0 on H200 (9.0), rung native" in (tmp_path / "run" / "report.html").read_text()
    assert pipeline.run(recipe).reused


def test_a_main_job_whose_engine_is_wrong_fails(seat, tmp_path):
    seat.fake(wrong="always")
    report = pipeline.run(recipe_with(RECIPE, {"output": str(tmp_path / "run")})).report
    assert report["status"] == "failed"
    [shortfall] = report["shortfalls"]
    assert shortfall["what"] == "contextnet.fp16.plan"
    assert "none of the rungs native is exact enough" in shortfall["reason"]


def test_a_main_job_whose_build_dies_is_not_green(seat, tmp_path):
    seat.fake(dies_at_step=1)
    report = pipeline.run(recipe_with(RECIPE, {"output": str(tmp_path / "run")})).report
    assert report["status"] == "not compared"
    assert "was killed by SIGKILL" in report["shortfalls"][0]["reason"]


def test_the_main_job_builds_no_engine_that_it_could_not_run(seat, tmp_path):
    with pytest.raises(RecipeError, match=r"build\.strip_weights is true"):
        pipeline.run(recipe_with(RECIPE, {"output": str(tmp_path / "run"), "strip_weights": True}))


@pytest.mark.parametrize(("required", "status", "code"), [([], "passed", 0), (["trt"], "not compared", 3)])
def test_without_tensorrt_the_report_says_so(files, tmp_path, monkeypatch, capsys, required, status, code):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    shutil.copytree(files / "one", tmp_path / "one")
    recipe = tmp_path / "r.toml"
    text = (
        '[checkpoint]\nweights = "seeded"\n[scene]\nheight = 64\nwidth = 64\nmotion_px = 4.0\n'
        '[run]\ngraphs = ["contextnet"]\n[export]\ndynamic = false\n'
    )
    recipe.write_text(f'{text}size = "64x64"\n[validate]\nsizes = []\nflows = ["subpixel"]\n')
    arguments = [argument for name in required for argument in ("--require", name)]
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--recipe", str(recipe), "-o", str(tmp_path / "one"), "-q", *arguments])
    assert exit_.value.code == code
    assert "TensorRT: not compared, tensorrt is not installed" in capsys.readouterr().out
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert report["status"] == status
    assert report["shortfalls"][0]["counts"] is bool(required)
    assert "TensorRT: not compared, tensorrt is not installed" in (tmp_path / "one" / "report.html").read_text()


def test_validate_names_a_required_runtime_that_nothing_was_run_by(files):
    recipe = recipe_with(RECIPE, {"require": ["trt", "ort"]})
    report = pipeline.validate_files([files / "one" / "contextnet.fp16.onnx"], recipe, None).report
    assert report["status"] == "not compared"
    assert [(one["what"], one["reason"]) for one in report["shortfalls"]] == [
        ("TensorRT", "it is required, and nothing was run by it")
    ]


def test_an_engine_without_tensorrt_is_not_compared(seat, monkeypatch):
    seat.build()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    report = pipeline.validate_files([seat.plan], RECIPE, None).report
    assert report["status"] == "not compared"
    assert "pip install 'refine-export[trt]'" in report["comparisons"][0]["verdict"]["reasons"][0]


def test_an_engine_of_another_machine_fails_in_words(seat, monkeypatch):
    seat.build()
    monkeypatch.setattr(machine, "current_gpu", lambda: ("NVIDIA L4", (8, 9)))
    report = pipeline.validate_files([seat.plan], RECIPE, None).report
    assert report["status"] == "failed"
    assert "built for TensorRT 11.4.0 on H200 (9.0), this is 11.4.0 on L4 (8.9)" in str(report["comparisons"])


def test_a_version_compatible_engine_runs_where_its_code_is_trusted(seat):
    seat.build(version_compatible=True)
    report = pipeline.validate_files([seat.plan], RECIPE, None).report
    assert "brings a lean runtime, which is code" in report["comparisons"][0]["verdict"]["reasons"][0]
    trusted = recipe_with(RECIPE, {"allow_host_code": True})
    assert pipeline.validate_files([seat.plan], trusted, None).report["status"] == "passed"


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda details: details.update(artifact=None), "is none of the graphs"),
        (lambda details: details["artifact"].update(graph="other"), "was altered"),
        (lambda details: details["artifact"].pop("opset"), "was altered"),
    ],
)
def test_a_manifest_that_was_altered_is_refused(seat, alter, words):
    seat.build()
    content = json.loads(manifest_path(seat.plan).read_text())
    alter(content["details"])
    manifest_path(seat.plan).write_text(json.dumps(dataclasses.asdict(sealed(Manifest(**content)))))
    with pytest.raises(GraphError, match=words):
        artifact_from_plan(seat.plan)


def test_the_command_line_builds(seat, capsys):
    code = f"build {seat.fp16} -o {seat.plan} --rung native --optimization-level 2 -q".split()
    recipe = seat.folder / "r.toml"
    text = '[checkpoint]\nweights = "seeded"\n[scene]\nheight = 64\nwidth = 64\nmotion_px = 4.0\n'
    recipe.write_text(f'{text}[validate]\nflows = ["subpixel"]\n')
    with pytest.raises(SystemExit) as exit_:
        main([*code, "--recipe", str(recipe)])
    shown = capsys.readouterr().out
    assert exit_.value.code == 0, shown
    assert "rung native: passed, largest error" in shown
    assert "rung native (" in shown.splitlines()[-1]
    with pytest.raises(SystemExit):
        main([*code, "--recipe", str(recipe), "--json"])
    assert json.loads(capsys.readouterr().out)["reused"] is True
