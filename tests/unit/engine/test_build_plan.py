"""A build gives an engine with its reports, shows its progress, can be stopped, and names why it failed."""

import onnx
import pytest
from onnx.parser import parse_model

from refine_export.engine.bindings import Log
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.build_plan import build_plan, memory_from_log, tensor_types
from refine_export.engine.profile_shapes import shapes_from_options
from refine_export.errors import GraphError, UnavailableError
from refine_export.signature import TensorInfo
from tests.support.engine_models import error_code, fake_library, model

IMAGE = TensorInfo(name="image", dtype="float32", shape=("N", 4, "H", "W"))
OPTIONS = BuildOptions(opt_size="32x32")


@pytest.fixture(params=["10.16.1", "11.4.0"])
def library(request, monkeypatch):
    return fake_library(monkeypatch, request.param, build_log=[("INFO", "Max Scratch Memory: 512 bytes")])


def build(library, content=None, log=None, **options):
    shapes = shapes_from_options([IMAGE], OPTIONS, None)
    content = model().SerializeToString() if content is None else content
    return build_plan(library, content, OPTIONS, shapes, log=log or Log(library.module), **options)


def test_a_build_gives_an_engine_and_its_reports(library):
    log = Log(library.module)
    built = build(library, log=log)
    assert library.module.Runtime(log.logger).deserialize_cuda_engine(built.plan).num_io_tensors == 3
    assert [repair.set for repair in built.samplers.repairs] == ["LINEAR"]
    assert built.inferred.types["GRID_SAMPLE FLOAT FLOAT -> FLOAT"] == 1
    assert (built.unfused, built.types, built.notes) == ((), {"float": 3, "float16": 2}, ())
    assert built.memory == {"scratch_bytes": 512}


def test_the_engine_is_built_from_the_checked_network(library):
    """A parser that is right gives the same engine; one that is wrong without a repair gives another."""
    repaired = build(library)
    library.module.fake.knows_linear = True
    right = build(library)
    assert (len(repaired.samplers.repairs), len(right.samplers.repairs)) == (1, 0)
    assert repaired.plan == right.plan


def test_timings_are_kept(library, tmp_path):
    path = tmp_path / "a.timing"
    assert build(library, timings=path).notes != ()
    assert build(library, timings=path).notes == ()


def test_unfused(library):
    """With a TensorRT that computes fused warps wrongly, the engines differ."""
    library.module.fake.wrong = "fused_grid_sample"
    fused, unfused = build(library), build(library, unfuse=True)
    assert unfused.unfused == ("soft", "moved")
    assert fused.plan != unfused.plan


def test_external_data_are_found_beside_the_file(library, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save_model(model(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    assert build(library, path.read_bytes(), path=path).plan
    (tmp_path / "m.bin").unlink()
    with pytest.raises(GraphError):
        build(library, path.read_bytes(), path=path)


def test_progress_is_reported_by_phase(library):
    seen = []
    build(library, progress=lambda *step: seen.append(step) or True)
    steps = [("Selecting tactics", done, 3) for done in (0, 1, 2, 3, 3)]
    assert seen == [("Building engine", 0, 1), *steps, ("Building engine", 1, 1)]


def test_a_build_can_be_stopped(library):
    """TensorRT ends it there, and the callback is not called again."""
    asked, log = [], Log(library.module)

    def progress(phase, done, steps):
        asked.append(done)
        return done < 2

    assert error_code(UnavailableError, lambda: build(library, log=log, progress=progress)) == "stopped"
    assert asked == [0, 0, 1, 2]
    assert "the build was cancelled" in log.errors()[-1]


@pytest.mark.parametrize("error", [ValueError("of the callback"), KeyboardInterrupt()])
def test_what_the_callback_raises_stops_the_build_and_comes_out(library, capsys, error):
    def progress(phase, done, steps):
        raise error

    with pytest.raises(type(error)) as raised:
        build(library, progress=progress)
    assert raised.value is error
    assert "Exception caught" not in capsys.readouterr().err  # as TensorRT prints what a monitor raises


def test_what_fails_has_a_code(library):
    fake = library.module.fake
    assert error_code(GraphError, lambda: build(library, b"not a model"))
    zelu = model().SerializeToString().replace(b"Relu", b"Zelu")
    assert error_code(GraphError, lambda: build(library, zelu)) == "parser-refused"
    fake.failing.add("build_serialized_network")
    with pytest.raises(UnavailableError, match="build_serialized_network: Error Code 1") as caught:
        build(library)
    assert caught.value.code == "tensorrt-failed"
    fake.gpu = False
    assert error_code(UnavailableError, lambda: build(library)) == "no-gpu"


def test_each_tensor_is_counted_once():
    """Weights that are inputs as well, constants, casts, and values that a shape inference has declared."""
    made = parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        g (float[2] x, float[2] w) => (float16[2] y) <float[2] w = {1, 2}>
        { c = Constant <value = int64[1] {3}> ()\n s = Add (x, w)\n y = Cast <to = 10> (s) }"""
    )
    assert tensor_types(made) == {"float": 2, "float16": 1, "int64": 1}
    assert tensor_types(onnx.shape_inference.infer_shapes(made))["float"] == 3


def test_memory_is_read_from_the_log():
    lines = ["Max Scratch Memory: 20807680 bytes", "Total Weights Memory: 5 bytes", "Total Host: 1 bytes", "chatter"]
    assert memory_from_log(lines) == {"scratch_bytes": 20807680, "weight_bytes": 5}
