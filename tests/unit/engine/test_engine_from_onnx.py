"""A build gives an engine with its reports, shows its progress, can be stopped, and names why it failed.

On TensorRT for RTX.
"""

import json

import numpy as np
import onnx
import pytest

from refine_export.engine import engine_from_onnx as module
from refine_export.engine.bindings import Log
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_from_onnx import engine_from_onnx, memory_from_log
from refine_export.engine.engine_manifest import engine_header
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.grid_sample_check import grid_sample_layers
from refine_export.engine.profile_shapes import shapes_from_options
from refine_export.errors import GraphError, UnavailableError
from refine_export.signature import TensorInfo
from tests.support.engine_models import fake_library, model, needs_rtx, rtx_fixture  # noqa: F401 (fixture)
from tests.support.refusals import refused

pytestmark = needs_rtx
IMAGE = TensorInfo(name="image", dtype="float32", shape=("N", 4, "H", "W"))


def build(rtx, content=None, log=None, *, gpu=(), max_size=None, max_batch=1, **more):
    options = BuildOptions(opt_size="32x32", max_size=max_size, max_batch=max_batch, gpu=gpu)
    shapes = shapes_from_options([IMAGE], options, None)
    content = model().SerializeToString() if content is None else content
    return engine_from_onnx(rtx, content, options, shapes, log=log or Log(rtx.module), **more)


def test_a_build_gives_an_engine_and_its_reports(rtx, tmp_path):
    built = build(rtx, timings=tmp_path / "a.timing")
    header = engine_header(built.engine, tmp_path)
    assert (header.library, header.text) == ("rtx", rtx.version)
    assert (built.samplers.layers, built.samplers.repairs) == (1, ())
    assert built.inferred.types == {"GRID_SAMPLE FLOAT FLOAT -> FLOAT": 1, "CONVOLUTION HALF -> HALF": 1}
    assert (built.unfused, built.notes) == ((), ())
    assert set(json.loads(json.dumps(built.memory))) == {"scratch_bytes", "activation_bytes", "weight_bytes"}
    assert not list(tmp_path.iterdir())  # it has no timings


def test_an_engine_is_not_run_without_a_gpu(rtx):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UnavailableError):
        TrtRunner(build(rtx).engine, unchecked=True)


def test_an_engine_that_no_rtx_gpu_holds_is_refused(rtx, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_GPU_BYTES", 1)
    with refused("too-large", GraphError):
        build(rtx)


def test_a_range_of_sizes_whose_memory_tensorrt_does_not_count_is_refused(rtx):
    """TensorRT would build it."""
    with pytest.raises(GraphError, match="choose a smaller size") as caught:
        build(rtx, max_size="16384x16384", max_batch=2)
    assert (caught.value.code, caught.value.fields["needed"]) == ("too-large", 2 * 4 * 4 * 16384**2)
    assert build(rtx, max_size="4096x4096").memory


def test_the_same_input_gives_the_same_bytes_and_other_gpus_others(rtx):
    first = build(rtx)
    assert first.engine == build(rtx).engine
    assert first.engine != build(rtx, gpu=("turing",)).engine


def test_the_engine_is_built_from_the_checked_network(rtx, monkeypatch):
    """A parser that samples nearest gives the same engine once it is repaired, and another where nobody looks."""
    inner, right = module.network_from_onnx, build(rtx)

    def misread(trt, *given):
        parsed = inner(trt, *given)
        for layer in grid_sample_layers(trt, parsed.network):
            layer.interpolation_mode = trt.InterpolationMode.NEAREST
        return parsed

    monkeypatch.setattr(module, "network_from_onnx", misread)
    repaired = build(rtx)
    assert [repair.set for repair in repaired.samplers.repairs] == ["LINEAR"]
    assert repaired.engine == right.engine
    monkeypatch.setattr(module, "check_grid_samples", lambda *given: right.samplers)
    assert build(rtx).engine != right.engine


def test_external_data_are_found_beside_the_file(rtx, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save_model(model(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    assert build(rtx, path.read_bytes(), path=path).engine == build(rtx).engine
    (tmp_path / "m.bin").unlink()
    with pytest.raises(GraphError):
        build(rtx, path.read_bytes(), path=path)


def test_progress_is_reported_by_phase(rtx):
    seen = []
    build(rtx, progress=lambda *step: seen.append(step) or True)
    phase, _, steps = seen[0]
    assert [done for name, done, _ in seen if name == phase] == [*range(steps + 1)]
    assert all(0 <= done <= steps for _, done, steps in seen)
    assert len({name for name, *_ in seen}) > 2


def test_a_build_can_be_stopped(rtx):
    """TensorRT ends it there, and the callback is not called again."""
    asked, log = [], Log(rtx.module)

    def progress(phase, done, steps):
        asked.append(done)
        return len(asked) < 4

    with refused("stopped", UnavailableError):
        build(rtx, log=log, progress=progress)
    assert len(asked) == 4
    assert "BuildCanceled" in log.errors()[-1]


@pytest.mark.parametrize("error", [ValueError("of the callback"), KeyboardInterrupt()])
def test_what_the_callback_raises_stops_the_build_and_comes_out(rtx, capfd, error):
    def progress(phase, done, steps):
        raise error

    with pytest.raises(type(error)) as raised:
        build(rtx, progress=progress)
    assert raised.value is error
    assert "Exception caught" not in capfd.readouterr().err  # as TensorRT prints what a monitor raises


def test_a_build_that_fails_shows_the_log(rtx):
    other = model()
    other.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8  # the profile has 4 channels
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 8, 3, 3), np.float16), "weight"))
    with pytest.raises(UnavailableError, match="profile 0") as caught:
        build(rtx, other.SerializeToString())
    assert caught.value.code == "tensorrt-failed"


def test_memory_is_read_from_the_log():
    lines = ["Max Scratch Memory: 20807680 bytes", "Total Weights Memory: 5 bytes", "Total Host: 1 bytes", "chatter"]
    assert memory_from_log(lines) == {"scratch_bytes": 20807680, "weight_bytes": 5}
