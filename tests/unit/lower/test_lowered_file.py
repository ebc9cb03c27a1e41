"""A file is lowered with its manifest, reused only while nothing changes, or refused with nothing written."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from refine_export.errors import RequestError
from refine_export.graph.linter import lint_file
from refine_export.lower import amplified_errors, lowered_file
from refine_export.lower.fp32_islands import search_from_json
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.support.manifest import sha256_of_file
from tests.support.foreign import (
    IMAGE,
    control_flow_model,
    custom_model,
    double_model,
    foreign_model,
    function_model,
    half_model,
    kernel,
    model_of,
    plain_model,
    with_initializers,
)
from tests.support.lower_files import STATIC, here_fixture, refused_fixture, run_fixture, saved, tiny  # noqa: F401 (fixtures)
from tests.support.refusals import refused

DYNAMIC = {"size": (64, 96), "without_warp": True}


def manifest(name: str = "out.onnx") -> dict:
    return json.loads(Path(f"{name}.json").read_text())


def test_result_and_manifest(run):
    """Types, reasons, options and hashes agree; a second run reuses the file, byte for byte."""
    result = run(foreign_model(STATIC))
    content = manifest()
    assert content["sha256"] == sha256_of_file(Path("out.onnx"))
    assert content["size_bytes"] == result.size_bytes == Path("out.onnx").stat().st_size
    assert content["inputs"]["source_sha256"] == sha256_of_file(Path("in.onnx"))
    assert content["options"]["precision"] == "fp16"
    assert {"onnx", "onnx-ir", "refine-export"} <= set(content["versions"])
    assert list(content["signature"]["inputs"]) == ["img0", "img1", "timestep"]
    details, plain = content["details"], result.to_dict()
    assert {name: plain[name] for name in details} == details
    assert details["source_bytes"] == Path("in.onnx").stat().st_size
    assert all(node["reason"] and node["rule"] for node in details["nodes"])
    operators = [node.op_type for node in onnx.load("out.onnx").graph.node if node.op_type != "Cast"]
    assert operators == [node["operator"] for node in details["nodes"] if node["operator"] != "Cast"]
    assert sum(result.types.values()) == sum(node.type != "none" for node in result.nodes)
    assert (result.path, result.passed, result.reused) == (Path("out.onnx"), True, False)
    assert len(repr(result)) < 400

    before = Path("out.onnx").read_bytes(), Path("out.onnx.json").read_bytes()
    again = run("in.onnx")
    assert again.reused
    assert again.to_dict() | {"seconds": 0, "reused": 0} == plain | {"seconds": 0, "reused": 0}
    assert (Path("out.onnx").read_bytes(), Path("out.onnx.json").read_bytes()) == before


def test_an_output_without_a_shape_gets_that_of_its_node(run):
    """It is optional in the standard; onnx.checker alone wants it."""
    model = tiny()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    run(saved(model))
    made, plain = onnx.load("out.onnx").graph.output[0], tiny().graph.output[0]
    assert len(made.type.tensor_type.shape.dim) == len(plain.type.tensor_type.shape.dim)


def test_only_the_same_is_reused(run):
    """Other options, another input, changed bytes or a damaged manifest: it is made again."""
    path = saved(tiny())

    def reused(**options):
        return run(path, **options).reused

    assert [reused(), reused(), reused(io="fp16"), reused()] == [False, True, False, False]
    Path("out.onnx.json").write_text(json.dumps(manifest() | {"details": {}}))
    assert not reused()
    Path("out.onnx").write_bytes(Path("out.onnx").read_bytes() + b"\x00")
    assert not reused()
    model = tiny()
    model.graph.node[-1].name = "other"
    saved(model)
    assert [reused(), reused()] == [False, True]


@pytest.mark.parametrize(
    ("options", "operator"),
    [
        ({}, "GridSample"),
        ({"gridsample": "gather"}, "GatherElements"),
        ({"precision": "bf16"}, "GridSample"),
    ],
)
def test_our_own_graph(run, exports, options, operator):
    """A file of this tool is calibrated with its own feeds, and its results are near."""
    source = exports.fp32("contextnet", size="64x96")
    run(source, **options)
    assert lint_file(Path("out.onnx")) == []
    assert operator in {node.op_type for node in onnx.load("out.onnx").graph.node}
    random = np.random.default_rng(0)
    feeds = {"image": random.random((1, 3, 64, 96)), "flow": random.uniform(-5, 5, (1, 2, 64, 96))}
    with OrtRunner(source) as expected, HalfRunner(Path("out.onnx")) as actual:
        wanted = expected.run({name: array.astype(np.float32) for name, array in feeds.items()})
        given = actual.run({info.name: feeds[info.name].astype(info.dtype) for info in actual.inputs})
    tolerance = 0.04 if options.get("precision") == "bf16" else 4e-3
    for name, array in wanted.items():
        assert np.abs(array - given[name].astype(np.float32)).max() < tolerance * np.abs(array).max()
    assert manifest()["inputs"]["checkpoint_sha256"]


def test_an_interpolator_is_calibrated_without_weights(run, exports):
    """It is fed frames alone; weights in its manifest would be taken for its own."""
    run(exports.fp32("interpolator", size="64x96"))
    inputs = manifest()["inputs"]
    assert (inputs["checkpoint_sha256"], inputs["network"], len(inputs["frames"])) == (None, None, 2)


def test_a_target_holds_at_further_sizes(run, exports):
    found = run(exports.fp32("contextnet"), target_psnr_db=50.0, sizes=["128x160", "64x64"]).search
    assert (found.reached, list(found.at_sizes)) == (True, ["64x64", "128x160"])
    assert all(accuracy.psnr_db >= 50 for accuracy in found.at_sizes.values())
    assert search_from_json(manifest()["details"]["search"]) == found


@pytest.mark.parametrize(
    ("size", "options", "code"),
    [
        ("64x96", {"sizes": ["64x64"]}, "fixed-size"),
        (None, {"sizes": ["100x100"]}, "wrong-size"),
    ],
)
def test_sizes_that_the_file_does_not_have_are_refused(refused, exports, size, options, code):
    refused(exports.fp32("contextnet", size=size), target_psnr_db=50.0, **options, code=code)


def test_faults_of_the_weights_are_notes(run):
    model = foreign_model(STATIC)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "block0.conv0.0.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0, 0, 0] = 1e6
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    notes = run(model).notes
    assert notes[-1].startswith("block0.conv0.0.weight (to 1e+06)")
    assert manifest()["details"]["notes"] == list(notes)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "not-found"),
        (tiny().SerializeToString()[:-1], "not-onnx"),
    ],
)
def test_files_that_are_not_models_are_refused(refused, content, code):
    if content is not None:
        Path("in.onnx").write_bytes(content)
    refused("in.onnx", code=code)


def test_external_data(refused, run):
    """Weights beside the file are read, and hashed; where they are missing, the file is refused."""
    onnx.save_model(
        with_initializers(foreign_model(STATIC)), "in.onnx", save_as_external_data=True, location="in.data",
        size_threshold=0,
    )  # fmt: skip
    run("in.onnx")
    assert len(onnx.load("out.onnx", load_external_data=False).graph.initializer[0].external_data) == 0
    Path("in.data").unlink()
    refused("in.onnx", "new.onnx", code="missing-external-data")


def sequence_model() -> onnx.ModelProto:
    """Split a tensor as TorchScript exports torch.split at a dynamic size."""
    nodes = "k = Constant <value_int = 0> () s = SplitToSequence <axis = 1> (x) p = SequenceAt (s, k)"
    return model_of(f"{nodes} y = Concat <axis = 1> (p, p, p)", IMAGE)


def unsorted_model() -> onnx.ModelProto:
    model = plain_model()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    return model


def _short_call(model):
    """Leave out the grid in the call of a function, which onnx.checker allows."""
    model.graph.node[0].input.pop()
    return model


@pytest.mark.parametrize(
    ("build", "code", "fields"),
    [
        (lambda: model_of("y = Relu (x)", IMAGE, opset=15), "unsupported-opset", {"opset": 15}),
        (lambda: half_model(foreign_model(STATIC)), "not-fp32", {}),
        (double_model, "not-fp32", {"tensor": "d"}),
        (plain_model, "no-sampler", {}),
        (control_flow_model, "control-flow", {"node": "choose"}),
        (sequence_model, "sequence", {}),
        (lambda: custom_model(typed=False), "unknown-type", {"tensor": "o"}),
        (unsorted_model, "invalid-onnx", {}),
        (lambda: model_of("s = Shape (x) y = Add (x, s)", IMAGE), "invalid-onnx", {}),
        (lambda: function_model(inner=17), "unsupported-functions", {}),
        (lambda: _short_call(function_model()), "unsupported-functions", {}),
    ],
)
def test_models_that_are_refused(refused, build, code, fields):
    error = refused(build(), size=(64, 96), code=code)
    assert fields.items() <= error.fields.items()


def test_operators_that_cannot_run_are_refused(refused):
    """Calibration runs the FP32 model."""
    np.savez("feed.npz", x=np.zeros((1, 3, 16, 24), np.float32), g=np.zeros((1, 16, 24, 2), np.float32))
    refused(custom_model(typed=True), feeds=["feed.npz"], code="cannot-run")


def test_a_result_that_is_nan_is_mended_or_refused(run, refused, monkeypatch):
    """Two convolutions that differ in their last bits: the quotient of their difference is 0 / 0 in FP16."""
    one = kernel("w", 3, 3, 1, 1)
    body = f"{one} {one.replace('w =', 'u =').replace('0.', '0.00001')} a = Conv (x, w) b = Conv (x, u) c = Add (a, b) "
    other = f"{kernel('v', 3, 3, 1, 1)} e = Conv (c, v) f = Conv (a, v) s = Sub (e, f) d = Div (s, s) y = Conv (d, v)"
    made = run(model_of(body + other, IMAGE), **DYNAMIC)
    assert made.psnr_db > 60
    assert "without bound" in made.notes[0]
    monkeypatch.setattr(amplified_errors, "MOST_ROUNDS", 0)
    error = refused("in.onnx", "other.onnx", code="not-finite", drawing=True, **DYNAMIC)
    assert "lowered" in str(error)


@pytest.mark.parametrize("lost", ["out.onnx", "out.onnx.json"])
def test_an_existing_file_is_overwritten_only_by_force(refused, run, lost):
    Path(lost).write_text("mine")
    path = saved(tiny())
    refused(path, code="output-exists")
    run(path, force=True)
    assert Path(lost).read_bytes() != b"mine"


def test_the_source_is_never_overwritten(refused, here):
    """Not through a link, a folder's other name or as the manifest of the output."""
    path = saved(tiny())
    Path("link.onnx").symlink_to(path)
    for output in ("in.onnx", "./in.onnx", here / "in.onnx", "link.onnx"):
        refused(path, output, force=True, code="output-is-input")
    refused(saved(tiny(), "out.onnx.json"), "out.onnx", force=True, code="output-is-input")


def test_what_it_calibrates_with_is_never_overwritten(here):
    Path("feed.npz").write_text("mine")
    with refused("output-is-input", RequestError):
        lowered_file.check_output(Path("in.onnx"), Path("feed.npz"), force=True, others=[here / "feed.npz"])


@pytest.mark.parametrize(
    ("output", "code"),
    [("", "not-a-file"), ("folder", "not-a-file"), ("a" * 230, "name-too-long"), ("out.onnx", "not-a-file")],
)
def test_outputs_that_are_not_files(refused, output, code):
    Path("folder").mkdir()
    Path("out.onnx.json").mkdir()
    refused(tiny(), output, force=True, code=code)


def test_a_folder_is_made_before_any_work(refused, run, monkeypatch):
    run(tiny(), "new/folder/out.onnx")
    Path("file").write_text("not a folder")
    monkeypatch.setattr(lowered_file, "read_file", lambda _: pytest.fail("work was done"))
    refused("in.onnx", "file/out.onnx", code="cannot-write")


def test_an_interrupted_write_leaves_the_old_file(refused, run, monkeypatch):
    """A full disk while writing: the old file and its manifest stay, and nothing else is left behind."""
    run(tiny())
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    refused("in.onnx", force=True, io="fp16", code="cannot-write", drawing=True)


def test_a_search_reaches_its_target(run):
    """A target that FP16 misses is met with FP32 regions, which the manifest keeps."""
    result = run(plain_model(), target_psnr_db=100, **DYNAMIC)
    found = result.search
    assert result.passed
    assert found.reached
    assert found.start.psnr_db < 100 <= found.final.psnr_db
    assert [step.region for step in found.steps] in (["w"], ["v"])
    assert tuple(node.node for node in result.nodes if node.rule == "island") == found.islands
    again = run("in.onnx", force=True, target_psnr_db=100, **DYNAMIC)
    assert (again.reused, again.search) == (True, found)


def test_a_target_that_is_missed(run):
    """The file has every region in FP32, the best there is; so it is when reused."""
    for reused in (False, True):
        result = run(plain_model(), target_psnr_db=399, force=True, **DYNAMIC)
        assert (result.reused, result.passed, result.types) == (reused, False, {"float32": 3})


def test_an_exact_result_has_an_infinite_psnr(run):
    """With FP32 regions nothing may differ at all: in JSON that PSNR is null, in the result infinite; reused or not."""
    model = model_of("w = Constant <value = float[3,1,1,1] {0.3, 0.7, 0.9}> () y = Conv <group = 3> (x, w)", IMAGE)
    for _ in range(2):
        result = run(model, target_psnr_db=200, force=True, **DYNAMIC)
        assert (result.search.final.psnr_db, result.psnr_db) == (math.inf, math.inf)
        assert result.to_dict()["search"]["final"] == {"psnr_db": None, "max_error": 0.0}
    assert manifest()["details"]["search"]["final"]["psnr_db"] is None
