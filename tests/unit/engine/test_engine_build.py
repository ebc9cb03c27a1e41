"""A build gives a plan with what is known of it, tells its progress, can be stopped, and says why it failed."""

from __future__ import annotations

import sys
from typing import Any

import onnx
import pytest
from onnx.parser import parse_model

from refine_export.engine.bindings import Log
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.build_plan import Built, _monitor, _Watch, build_plan, tensor_types
from refine_export.engine.profile_shapes import shapes_from_options
from refine_export.errors import GraphError, UnavailableError
from refine_export.signature import TensorInfo
from tests.support.engine_models import model
from tests.support.fake_tensorrt import make_fake

INPUTS = (
    TensorInfo(name="image", dtype="float32", shape=("N", 4, "H", "W")),
    TensorInfo(name="grid", dtype="float32", shape=(1, 32, 32, 2)),
)
OPTIONS = BuildOptions(opt_size="32x32")


@pytest.fixture(params=["10.16.1", "11.4.0"])
def trt(request, monkeypatch):
    module = make_fake(request.param, build_log=[("WARNING", "weights are small")])
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def build(trt: Any, content: bytes | None = None, log: Log | None = None, **options: Any) -> Built:
    shapes = shapes_from_options(INPUTS[:1], OPTIONS, None)
    content = model().SerializeToString() if content is None else content
    return build_plan(content, OPTIONS, shapes, log=log or Log(trt), **options)


def test_a_build_gives_a_plan_and_what_is_known_of_it(trt):
    log = Log(trt)
    built = build(trt, log=log)
    assert trt.Runtime(log.logger).deserialize_cuda_engine(built.plan).num_io_tensors == 3
    assert type(built.plan) is bytes
    assert [repair.set for repair in built.guard.repairs] == ["LINEAR"]
    assert (built.guard.layers, built.unfused, built.rejected_cache) == (1, (), None)
    assert built.types == {"float": 3, "float16": 2}
    assert ("WARNING", "weights are small") in built.log


def test_the_engine_is_built_from_the_guarded_network(trt):
    """A parser that is right gives the same plan; one that is wrong without a repair gives another."""
    repaired = build(trt)
    trt.fake.knows_linear = True
    right = build(trt)
    assert (len(repaired.guard.repairs), len(right.guard.repairs)) == (1, 0)
    assert repaired.plan == right.plan


def test_the_timing_cache_goes_from_build_to_build(trt):
    first = build(trt)
    assert first.timing_cache is not None
    assert build(trt, cache=first.timing_cache).rejected_cache is None
    again = build(trt, cache=b"rubbish")
    assert again.rejected_cache is not None
    assert again.timing_cache == first.timing_cache


def test_unfused(trt):
    """With a TensorRT that computes fused warps wrongly, the engines differ."""
    trt.fake.wrong = "fused_grid_sample"
    fused, unfused = build(trt), build(trt, unfuse=True)
    assert unfused.unfused == ("soft", "moved")
    assert fused.plan != unfused.plan


def test_external_data_are_found_beside_the_file(trt, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save_model(model(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    assert build(trt, path.read_bytes(), path=path).plan
    (tmp_path / "m.bin").unlink()
    with pytest.raises(GraphError, match=r"m\.bin is missing; expected tensor 'weight' in it"):
        build(trt, path.read_bytes(), path=path)


def test_progress_is_told_by_phase(trt):
    told: list[tuple[str, int, int]] = []

    def progress(*step: Any) -> bool:
        told.append(step)
        return True

    build(trt, progress=progress)
    steps = [("Selecting tactics", done, 3) for done in (0, 1, 2, 3, 3)]
    assert told == [("Building engine", 0, 1), *steps, ("Building engine", 1, 1)]


def test_a_build_can_be_stopped(trt):
    """TensorRT ends it there, and nobody is asked again."""
    asked, log = [], Log(trt)

    def progress(phase: str, done: int, steps: int) -> bool:
        asked.append(done)
        return done < 2

    with pytest.raises(UnavailableError, match="was stopped in 'Selecting tactics', as was asked"):
        build(trt, log=log, progress=progress)
    assert asked == [0, 0, 1, 2]
    assert "the build was cancelled" in log.errors()[-1]


@pytest.mark.parametrize("error", [ValueError("of the callback"), KeyboardInterrupt()])
def test_what_the_callback_raises_stops_the_build_and_comes_out(trt, capsys, error):
    def progress(phase: str, done: int, steps: int) -> bool:
        raise error

    with pytest.raises(type(error)) as raised:
        build(trt, progress=progress)
    assert raised.value is error
    assert "Exception caught" not in capsys.readouterr().err
    monitor = _monitor(trt, _Watch(progress))  # TensorRT prints and forgets what these raise
    monitor.phase_start("a phase", None, 2)
    assert monitor.step_complete("a phase", 0) is False
    monitor.phase_finish("a phase")


def test_no_gpu(trt):
    trt.fake.gpu = False
    with pytest.raises(UnavailableError) as error:
        build(trt)
    words = str(error.value)
    assert f"TensorRT {trt.__version__} finds no GPU that it can use; expected an NVIDIA GPU with a driver" in words
    assert words.endswith("CUDA initialization failure with error: 35. Is a GPU there, and its driver?")


def test_a_build_that_fails_ends_with_tensorrts_words(trt):
    trt.fake.failing.add("build_serialized_network")
    with pytest.raises(UnavailableError, match="could not build the engine: build_serialized_network: Error Code 1"):
        build(trt)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a model", "the ONNX file is not ONNX, or truncated"),
        (
            model().SerializeToString().replace(b"Relu", b"Zelu"),
            r"1 error.*\n  UNSUPPORTED_NODE node 0 '.*' \(Zelu\): Plugin not found",
        ),
    ],
)
def test_a_file_that_is_refused(trt, content, words):
    with pytest.raises(GraphError, match=words):
        build(trt, content)


def test_without_tensorrt(monkeypatch):
    log = Log(make_fake())
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match=r"refine-export\[trt\]"):
        build(None, log=log)


def test_each_tensor_is_counted_once():
    """Weights that are inputs as well, constants, casts, and values that a shape inference has declared."""
    made = parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        g (float[2] x, float[2] w) => (float16[2] y) <float[2] w = {1, 2}>
        { c = Constant <value = int64[1] {3}> ()\n s = Add (x, w)\n y = Cast <to = 10> (s) }"""
    )
    assert tensor_types(made) == {"float": 2, "float16": 1, "int64": 1}
    assert tensor_types(onnx.shape_inference.infer_shapes(made))["float"] == 3
