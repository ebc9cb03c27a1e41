"""Engines for RTX GPUs, built by the real TensorRT for RTX, which needs no GPU for it."""

import sys

import onnx
import pytest

from refine_export.engine import engine_file as engine_file_module
from refine_export.engine.bindings import load_library
from refine_export.engine.plan import artifact_from_plan, describe
from refine_export.errors import GraphError, RequestError
from refine_export.jobs.build_engine import build
from refine_export.jobs.refit_engine import refit
from tests.support.engine_models import error_code, needs_rtx

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
    described = describe(output)
    assert (described["manifest"], described["library"]) == ("whole", "TensorRT for RTX")
    assert described["tensorrt"] == load_library("rtx").version
    assert (described["key"]["library"], described["key"]["compute_capability"]) == ("rtx", "sm89, sm120")
    assert artifact_from_plan(output).profile == ((1, 64, 64), (1, 64, 96), (1, 96, 128))
    assert build(source, output=output, target="rtx", gpu=["sm120", "sm89"], **SIZES).reused
    refused = error_code(RequestError, lambda: refit(made, source, output=tmp_path / "other.rtx"))
    assert (refused, (tmp_path / "other.rtx").exists()) == ("not-refittable", False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["refine.rtx", "refine.rtx.json"]


def test_what_rtx_cannot_honour_is_refused_before_anything_is_written(exports, tmp_path, monkeypatch):
    source = exports.lowered("contextnet")
    refused = error_code(
        RequestError, lambda: build(source, output=tmp_path / "a.rtx", target="rtx", refittable=True, **SIZES)
    )
    assert (refused, list(tmp_path.iterdir())) == ("unsupported-option", [])
    bad = {"target": "rtx", **SIZES}
    refused = error_code(RequestError, lambda: build(source, output=tmp_path / "x.onnx", **bad))
    assert (refused, list(tmp_path.iterdir())) == ("wrong-suffix", [])
    for gpu in ("sm86,", "h100", "sm99"):
        refused = error_code(
            RequestError, lambda g=gpu: build(source, output=tmp_path / "a.rtx", gpu=g.split(","), **bad)
        )
        assert (refused, list(tmp_path.iterdir())) == ("wrong-option", [])
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # nor do sizes need the library
    for sizes, code in (
        ({"opt_size": "16384x16384", "max_batch": 256}, "bad-shape"),  # more elements than a tensor may have
        ({"opt_size": "65x64"}, "wrong-size"),
    ):
        refused = error_code(RequestError, lambda s=sizes: build(source, output=tmp_path / "a.rtx", target="rtx", **s))
        assert (refused, list(tmp_path.iterdir())) == (code, [])


@pytest.mark.parametrize("node", [("Unique", ""), ("Warp", "vendor")])
def test_an_operator_that_tensorrt_lacks_is_reported_once_and_by_name(exports, tmp_path, node):
    operator, domain = node
    model = onnx.load(exports.fp32("contextnet"))
    model.graph.node.add(op_type=operator, domain=domain, name="odd", input=["img0"], output=["odd"])
    model.opset_import.add(domain="vendor", version=1)
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(GraphError) as caught:
        build(tmp_path / "odd.onnx", output=tmp_path / "a.rtx", target="rtx", **SIZES)
    assert caught.value.code == "parser-refused"
    assert [error.count("odd") for error in caught.value.fields["errors"]] == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]
