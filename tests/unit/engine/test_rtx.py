"""Engines for RTX GPUs, built by the real TensorRT for RTX, which needs no GPU for it."""

<<<<<<< HEAD
import subprocess
import sys
=======
import importlib.util
>>>>>>> 26f2d49 (Build every graph and precision in CI, and prove the reproduce script)

import pytest

from refine_export.engine import engine_file as engine_file_module
from refine_export.engine.bindings import Log, load_library
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.build_plan import build_plan
<<<<<<< HEAD
from refine_export.engine.onnx_source import read_source
from refine_export.engine.plan import artifact_from_plan, describe
from refine_export.errors import RequestError
from refine_export.jobs.build_engine import build
from tests.support.engine_models import error_code, needs_rtx, rtx_fixture  # noqa: F401 (fixture)
=======
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.plan import artifact_from_plan, describe
from refine_export.engine.profile_shapes import shapes_from_options
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.jobs.build_engine import build
from refine_export.jobs.refit_engine import refit
from refine_export.signature import TensorInfo
from tests.support.engine_models import error_code, model
>>>>>>> 26f2d49 (Build every graph and precision in CI, and prove the reproduce script)

pytestmark = needs_rtx
SIZES = {"min_size": "64x64", "opt_size": "64x96", "max_size": "96x128"}


def test_a_graph_becomes_an_engine_that_is_type_checked_and_not_executed(exports, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    source, output = exports.lowered("refine"), tmp_path / "refine.rtx"
    made = build(source, output=output, target="rtx", gpu=["rtx40", "rtx50"], **SIZES)
    assert (made.passed, made.reused, made.rung) == (None, False, "native")
    assert made.notes[0].startswith("built and type-checked by TensorRT for RTX")
    assert made.notes[0].endswith("not executed: no RTX GPU")
    details = made.manifest.details
    assert details["inferred"]["types"] == {
        "CONVOLUTION HALF -> HALF": 25,
        "DECONVOLUTION HALF -> HALF": 4,
        "GRID_SAMPLE FLOAT FLOAT -> FLOAT": 8,
    }
    assert (details["inferred"]["unchecked"], details["samplers"]) == ([], {"layers": 8, "repairs": []})
    assert details["fallbacks"][0]["status"] == "not executed"
    assert (details["probed"], details["precision"]) == (False, None)
    assert set(details["memory"]) == {"scratch_bytes", "activation_bytes", "weight_bytes"}
    described = describe(output)
    assert (described["manifest"], described["library"]) == ("whole", "TensorRT for RTX")
    assert described["tensorrt"] == load_library("rtx").version
    assert (described["key"]["library"], described["key"]["compute_capability"]) == ("rtx", "sm89, sm120")
    assert artifact_from_plan(output).profile == ((1, 64, 64), (1, 64, 96), (1, 96, 128))
    assert build(source, output=output, target="rtx", gpu=["sm120", "sm89"], **SIZES).reused
    refused = error_code(RequestError, lambda: refit(made, source, output=tmp_path / "other.rtx"))
    assert (refused, (tmp_path / "other.rtx").exists()) == ("not-refittable", False)
    [script] = [path for path in tmp_path.iterdir() if path.suffix == ".sh"]
    assert "POLYGRAPHY_USE_TENSORRT_RTX=1" in script.read_text()


<<<<<<< HEAD
def test_polygraphy_builds_the_same_bytes(exports, rtx, tmp_path):
    """NVIDIA's own tool agrees, for the same profile and options. (Builds of contextnet alone differ in 35 bytes.)"""
    pytest.importorskip("polygraphy", reason="polygraphy is not installed: pip install polygraphy")
    source, options = exports.lowered("refine"), BuildOptions(target="rtx", opt_size="256x448")
    shapes = read_source(source, options).shapes
    code = f"""
from polygraphy.backend.trt import CreateConfig, Profile, engine_bytes_from_network, network_from_onnx_path
import sys, tensorrt_rtx as trt
profile = Profile()
for name, *shapes in {[(one.name, one.minimum, one.optimum, one.maximum) for one in shapes]!r}:
    profile.add(name, *shapes)
config = CreateConfig(
    profiles=[profile], builder_optimization_level=3, profiling_verbosity=trt.ProfilingVerbosity.DETAILED
)
network = network_from_onnx_path(sys.argv[1], strongly_typed=True)
open(sys.argv[2], "wb").write(bytes(engine_bytes_from_network(network, config=config)))
"""
    paths = {"PYTHONPATH": ":".join(sys.path), "POLYGRAPHY_USE_TENSORRT_RTX": "1", "PATH": "/usr/bin:/bin"}
    words = [sys.executable, "-c", code, source, tmp_path / "m.rtx"]
    done = subprocess.run(words, env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ours = build_plan(rtx, source.read_bytes(), options, shapes, log=Log(rtx.module)).plan
    assert (tmp_path / "m.rtx").read_bytes() == ours


def test_what_rtx_cannot_honour_and_torch_cannot_run_is_refused(exports, tmp_path):
=======
def test_what_rtx_cannot_honour_is_refused_before_anything_is_written(exports, tmp_path):
>>>>>>> 26f2d49 (Build every graph and precision in CI, and prove the reproduce script)
    source = exports.lowered("contextnet")
    refused = error_code(
        RequestError, lambda: build(source, output=tmp_path / "a.rtx", target="rtx", refittable=True, **SIZES)
    )
    assert (refused, list(tmp_path.iterdir())) == ("unsupported-option", [])
<<<<<<< HEAD
=======
    vast = {"opt_size": "16384x16384", "max_batch": 256}  # more elements than a tensor may have
    refused = error_code(GraphError, lambda: build(source, output=tmp_path / "a.rtx", target="rtx", **vast))
    assert (refused, list(tmp_path.iterdir())) == ("bad-shape", [])


def test_an_engine_is_not_run_without_a_gpu(library):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UnavailableError):
        TrtRunner(built(library).plan, unchecked=True)
>>>>>>> 26f2d49 (Build every graph and precision in CI, and prove the reproduce script)
