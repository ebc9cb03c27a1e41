"""`bench`: files and torch side by side, and what a machine lacks; no test depends on a speed."""

import json
import re
import shutil
import sys

import onnx
import pytest

from refine_export.bench.gpu_state import GpuState
from refine_export.bench.memory_child import Memory
from refine_export.errors import InternalError, RequestError, UnavailableError
from refine_export.jobs import bench_speed
from refine_export.jobs.bench_speed import bench
from refine_export.jobs.build_engine import build
from refine_export.jobs.recipe_file import recipe_from_toml, toml_from_recipe
from refine_export.runners.torch import TorchRunner
from tests.support.engine_models import needs_rtx
from tests.support.engine_seat import RECIPE as RECIPE_OF_ENGINES
from tests.support.engine_seat import files_fixture, seat_fixture  # noqa: F401 (fixtures)
from tests.support.foreign import Foreign, foreign_model
from tests.support.refusals import refused
from tests.support.stacks import stacked_file

RECIPE = recipe_from_toml(
    '[checkpoint]\nweights = "seeded"\narchitecture = "IFNet_m"\n[scene]\nheight = 64\nwidth = 96\nmotion_px = 8.0'
)
FAST = {"recipe": RECIPE, "rounds": 5, "memory": False}


@pytest.fixture(autouse=True)
def no_warm_up(monkeypatch):
    monkeypatch.setattr("refine_export.runners.latency.WARM_UP_ROUNDS", 1)


@pytest.fixture(scope="module")
def file(exports):
    return exports.fp32("interpolator", architecture="IFNet_m")


def subjects_of(result):
    return [(one.file, one.runtime, one.batch, one.size) for one in result.measurements]


def test_torch_and_files_of_any_tool_are_measured_at_each_size_and_reported(file, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_speed, "measure_memory", lambda subject, feeds: Memory(peak_mib=321.0, gpu_mib=None))
    foreign = tmp_path / "foreign.onnx"
    onnx.save(foreign_model(Foreign(stacked=True)), foreign)
    output = tmp_path / "out"
    result = bench([file, foreign], output=output, batches=[1, 2], **FAST | {"memory": True})
    names = [("torch", "eager"), (file.name, "onnxruntime-cpu"), ("foreign.onnx", "onnxruntime-cpu")]
    assert subjects_of(result) == [(*name, batch, (64, 128)) for batch in (1, 2) for name in names]
    assert (result.status, result.shortfalls, result.path) == ("passed", (), output / "bench.json")
    assert all(one.latency.runs == 5 and one.latency.median_ms > 0 and one.gflops > 0 for one in result.measurements)
    assert result.measurements[0].gflops / result.measurements[1].gflops == pytest.approx(
        result.measurements[1].latency.median_ms / result.measurements[0].latency.median_ms
    )
    assert json.loads(result.path.read_text()) == result.to_dict()
    assert "Measurement(" not in repr(result)
    page = (output / "bench.html").read_text()
    assert "321" in page
    assert f"{result.measurements[1].ratio:.2f}" in page
    assert not re.search(r"<script|https?://", page)
    assert len(result.summary().splitlines()) == 4
    assert page.count("<br>") == 3


def test_the_command_prints_a_row_for_each_and_exits_by_what_was_asked_for(file, tmp_path, command):
    (tmp_path / "recipe.toml").write_text(toml_from_recipe(RECIPE), encoding="utf-8")
    words = ("bench", file, "--recipe", tmp_path / "recipe.toml", "--rounds", 5, "--no-memory", "--quiet")
    code, output, _ = command(*words, "--batch", "1,2")
    assert code == 0
    assert [line.split()[:3] for line in output.splitlines()[1:5]] == [
        [*name, f"{batch}x64x96"] for batch in (1, 2) for name in (("torch", "eager"), (file.name, "onnxruntime-cpu"))
    ]
    *_, verdict = output.strip().splitlines()
    assert all(text in verdict for text in ("interpolator 2x64x96: ", " ms in torch (eager)", f" ms in {file.name} ("))
    assert output.count("measured: ") == 1
    assert "passed" not in output
    code, output, _ = command(*words, "--torch", "none", "--require", "rtx", "--json")
    content = json.loads(output)
    assert (code, content["status"], len(content["measurements"])) == (3, "not compared", 1)


def test_16_bit_files_run_in_onnx_runtime_with_a_note_and_paths_tell_files_of_one_name_apart(exports, tmp_path):
    lowered = exports.lowered("contextnet")
    copy = shutil.copy(lowered, tmp_path / lowered.name)
    result = bench([lowered, copy], torch=["none"], **FAST)
    assert [one.file for one in result.measurements] == [str(lowered), str(copy)]
    assert any("16-bit" in note for note in result.notes)
    assert result.passed


@pytest.mark.parametrize("channels", [7, 11])
def test_files_that_take_a_stack_are_fed_with_one(tmp_path, channels):
    path = stacked_file(tmp_path / "stack.onnx", channels)
    result = bench(path, batches=[1], sizes=["64x96"], torch=["none"], **FAST | {"memory": True})
    assert subjects_of(result) == [("stack.onnx", "onnxruntime-cpu", 1, (64, 96))]
    assert (result.status, result.measurements[0].memory is not None) == ("passed", True)


def test_a_refinement_is_fed_by_the_network_or_by_hand_with_a_note(exports):
    refine = exports.fp32("refine", architecture="IFNet_m")
    assert not any("drawn flow" in note for note in bench(refine, **FAST).notes)
    other = recipe_from_toml('[checkpoint]\nweights = "seeded"\n[scene]\nheight = 64\nwidth = 96\nmotion_px = 8.0')
    result = bench(refine, **FAST | {"recipe": other})
    assert subjects_of(result) == [("refine.onnx", "onnxruntime-cpu", 1, (64, 96))]
    assert any("drawn flow" in note for note in result.notes)
    assert [(one.what, one.status, one.counts) for one in result.shortfalls] == [
        ("refine in torch (eager)", "not compared", False)
    ]


def test_a_file_of_other_weights_than_torch_has_is_noted(file):
    other = recipe_from_toml(toml_from_recipe(RECIPE).replace("seed = 0", "seed = 1", 1))
    for recipe, noted in ((RECIPE, False), (other, True)):
        notes = bench(file, **FAST | {"recipe": recipe}).notes
        assert any("was made from seeded random weights (seed 0" in note for note in notes) == noted


def test_files_are_measured_without_torch(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("refine_export.jobs.load_inputs.checkpoint_from_options", _lacking)
    result = bench(file, **FAST)
    assert subjects_of(result) == [(file.name, "onnxruntime-cpu", 1, (64, 96))]
    assert (result.status, [one.what for one in result.shortfalls]) == ("passed", ["interpolator in torch (eager)"])
    required = bench(file, require=["torch"], **FAST)
    assert (required.status, len(required.shortfalls)) == ("not compared", 1)


def _lacking(*given):
    raise UnavailableError("this needs torch", code="missing-package")


def test_torch_compile_without_a_compiler_is_not_measured(file, monkeypatch):
    def fails(runner, feeds, outputs=None):
        raise UnavailableError("no C++ compiler", code="cannot-compile")

    monkeypatch.setattr(TorchRunner, "run_torch", fails)
    result = bench(file, torch=["compile"], **FAST)
    assert subjects_of(result) == [(file.name, "onnxruntime-cpu", 1, (64, 96))]
    assert [(one.what, one.reason) for one in result.shortfalls] == [
        ("interpolator in torch (compile)", "no C++ compiler")
    ]
    assert result.passed


def test_what_was_asked_for_and_is_missing_is_never_green(file):
    lacking = bench(file, torch=["none"], runtimes=["onnxruntime-cpu", "onnxruntime-cuda"], **FAST)
    assert (lacking.status, [one.counts for one in lacking.shortfalls]) == ("not compared", [True])
    required = bench(file, torch=["none"], require=["ort", "trt"], **FAST)
    assert (required.status, [one.what for one in required.shortfalls]) == ("not compared", ["TensorRT"])
    elsewhere = bench(file, device="cuda:7", **FAST)
    assert (elsewhere.status, [one.runtime for one in elsewhere.shortfalls]) == ("not compared", ["torch"])
    nothing = bench(file, torch=["none"], runtimes=["onnxruntime-cuda"], **FAST)
    assert (nothing.status, nothing.measurements, nothing.summary()) == ("not compared", (), "nothing was measured")


def test_a_file_that_fails_in_a_run_fails_and_the_others_are_measured(file, exports, monkeypatch):
    run = TorchRunner.run

    def fails(runner, feeds):
        raise RequestError("out of range", code="run-failed")

    monkeypatch.setattr(TorchRunner, "run", fails)
    result = bench(file, **FAST)
    assert (result.status, [one.status for one in result.shortfalls]) == ("failed", ["failed"])
    assert subjects_of(result) == [(file.name, "onnxruntime-cpu", 1, (64, 96))]
    assert run is not TorchRunner.run


def test_memory_that_cannot_be_measured_is_a_note(file, monkeypatch):
    def killed(subject, feeds):
        raise UnavailableError("was killed by signal SIGKILL", code="child-ended")

    monkeypatch.setattr(bench_speed, "measure_memory", killed)
    result = bench(file, torch=["none"], **FAST | {"memory": True})
    assert (result.measurements[0].memory, result.passed) == (None, True)
    assert any("SIGKILL" in note for note in result.notes)
    assert not any("memory" in heading for heading in result.tables()[0].headings)


def test_the_state_of_the_gpu_is_in_the_result_or_its_absence_in_the_notes(file, monkeypatch):
    states = iter(GpuState(clock_mhz=mhz, temperature_c=50, power_w=300.0) for mhz in (1980, 1700))
    monkeypatch.setattr(bench_speed, "on_gpu", lambda runner: True)
    monkeypatch.setattr(bench_speed, "gpu_state", lambda device: next(states))
    result = bench(file, torch=["none"], **FAST)
    [state] = result.gpu_states
    assert (state.before.clock_mhz, state.after.clock_mhz) == (1980, 1700)
    assert [row[2] for row in result.tables()[1].rows] == ["1980", "1700"]
    monkeypatch.setattr(bench_speed, "gpu_state", _lacking)
    result = bench(file, torch=["none"], **FAST)
    assert (result.gpu_states, any("Clocks" in note for note in result.notes)) == ((), True)


def test_bad_requests_are_refused_before_anything_is_measured(file, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_speed, "ready_subject", _bug)
    for given, code in (
        (([file, file],), "given-twice"),
        (([],), "no-artifact"),
        ((tmp_path / "none.onnx",), "not-found"),
    ):
        with refused(code, RequestError):
            bench(*given, **FAST, output=tmp_path / "out")
    with refused("wrong-size", RequestError):
        bench(file, sizes=["64x70"], **FAST, output=tmp_path / "out")
    with refused("not-found", RequestError):
        bench(file, checkpoint=tmp_path / "none.pkl", **FAST, output=tmp_path / "out")
    with refused("wrong-option", RequestError):
        bench(file, batches=[0], **FAST, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _bug(*given):
    raise InternalError("it was measured")


def test_an_engine_is_measured_by_its_library(seat):
    seat.built()
    result = bench([seat.plan, seat.fp32], **FAST | {"recipe": RECIPE_OF_ENGINES}, require=["trt"])
    names = [("torch", "eager"), ("contextnet.plan", "tensorrt"), ("contextnet.onnx", "onnxruntime-cpu")]
    assert subjects_of(result) == [(*name, 1, (64, 64)) for name in names]
    assert all(one.gflops for one in result.measurements)
    assert result.passed


@needs_rtx
def test_an_engine_for_rtx_gpus_without_one_is_not_measured(seat, tmp_path, monkeypatch):
    monkeypatch.undo()
    engine = build(seat.fp16, output=tmp_path / "m.rtx", target="rtx", recipe=RECIPE_OF_ENGINES)
    alone = bench(engine, torch=["none"], **FAST)
    assert (alone.status, [one.counts for one in alone.shortfalls]) == ("not compared", [False])
    assert "no RTX GPU" in alone.shortfalls[0].reason
    assert bench([engine, seat.fp32], torch=["none"], **FAST).passed
    required = bench([engine, seat.fp32], torch=["none"], require=["rtx"], **FAST)
    assert (required.status, len(required.shortfalls)) == ("not compared", 1)
