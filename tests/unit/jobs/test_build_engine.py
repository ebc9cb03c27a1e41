"""Engines for RTX GPUs, built by the real TensorRT for RTX, which needs no GPU for it."""

import sys

import onnx
import pytest

from refine_export.engine import engine_file as engine_file_module
from refine_export.engine.bindings import load_library
from refine_export.engine.engine_manifest import artifact_from_engine, engine_description
from refine_export.errors import GraphError, RequestError
from refine_export.jobs.build_engine import build
from refine_export.jobs.refit_engine import refit
from tests.support.engine_models import needs_rtx
from tests.support.paths import names_in
from tests.support.refusals import refused

pytestmark = needs_rtx
SIZES = {"min_size": "64x64", "opt_size": "64x96", "max_size": "96x128"}


def test_a_graph_becomes_an_engine_that_is_type_checked_and_not_executed(exports, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    source, output = exports.lowered("refine"), tmp_path / "refine.rtx"
    made = build(source, output=output, target="rtx", gpu=["rtx40", "rtx50"], **SIZES)
    assert (made.passed, made.reused, made.fallback) == (None, False, "native")
    assert made.notes[0].startswith("built and type-checked by TensorRT for RTX")
    assert made.notes[0].endswith("not executed: no RTX GPU")
    details = made.manifest.details
    assert details["inferred"]["types"] == {
        "CONVOLUTION HALF -> HALF": 25,
        "DECONVOLUTION HALF -> HALF": 4,
        "GRID_SAMPLE FLOAT FLOAT -> FLOAT": 8,
    }
    assert details["inferred"]["promised"] == details["inferred"]["types"]
    assert (details["inferred"]["unchecked"], details["samplers"]) == (
        [],
        {
            "layers": 8,
            "sampling": {"LINEAR CLAMP aligned": 8},
            "repairs": [],
        },
    )
    assert details["fallbacks"][0]["status"] == "not executed"
    assert (details["probed"], details["precision"]) == (False, None)
    assert set(details["memory"]) == {"scratch_bytes", "activation_bytes", "weight_bytes"}
    described = engine_description(output)
    assert (described["manifest"], described["library"]) == ("whole", "TensorRT for RTX")
    assert described["tensorrt"] == load_library("rtx").version
    assert (described["key"]["library"], described["key"]["compute_capability"]) == ("rtx", "sm89, sm120")
    assert artifact_from_engine(output).profile == ((1, 64, 64), (1, 64, 96), (1, 96, 128))
    assert build(source, output=output, target="rtx", gpu=["sm120", "sm89"], **SIZES).reused
    with refused("not-refittable", RequestError):
        refit(made, source, output=tmp_path / "other.rtx")
    assert not (tmp_path / "other.rtx").exists()
    assert names_in(tmp_path) == ["refine.rtx", "refine.rtx.json"]


def test_what_rtx_cannot_honour_is_refused_before_anything_is_written(exports, tmp_path, monkeypatch):
    source = exports.lowered("contextnet")
    with refused("unsupported-option", RequestError):
        build(source, output=tmp_path / "a.rtx", target="rtx", refittable=True, **SIZES)
    bad = {"target": "rtx", **SIZES}
    with refused("wrong-suffix", RequestError):
        build(source, output=tmp_path / "x.onnx", **bad)
    for gpu in ("sm86,", "h100", "sm99"):
        with refused("wrong-option", RequestError):
            build(source, output=tmp_path / "a.rtx", gpu=gpu.split(","), **bad)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # nor do sizes need the library
    for sizes, code in (
        ({"opt_size": "16384x16384", "max_batch": 256}, "bad-shape"),  # more elements than a tensor may have
        ({"opt_size": "65x64"}, "wrong-size"),
    ):
        with refused(code, RequestError):
            build(source, output=tmp_path / "a.rtx", target="rtx", **sizes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("node", [("Unique", ""), ("Warp", "vendor")])
def test_an_operator_that_tensorrt_lacks_is_reported_once_and_by_name(exports, tmp_path, node):
    operator, domain = node
    model = onnx.load(exports.fp32("contextnet"))
    model.graph.node.add(op_type=operator, domain=domain, name="odd", input=["img0"], output=["odd"])
    model.opset_import.add(domain="vendor", version=1)
    onnx.save(model, tmp_path / "odd.onnx")
    with refused("parser-refused", GraphError) as caught:
        build(tmp_path / "odd.onnx", output=tmp_path / "a.rtx", target="rtx", **SIZES)
    assert [error.count("odd") for error in caught.value.fields["errors"]] == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]
