"""Faults that a lowering could make without a word: each was made once, and is kept from coming back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from refine_export.cli.main import main
from refine_export.errors import GraphError, InternalError
from refine_export.graph import retype
from refine_export.graph.linter import lint_model
from refine_export.graph.model_file import external_files
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import Prepared, calibrated, lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from tests.support.foreign import GRID, IMAGE, OUT, kernel, model_of

SAMPLE = 'GridSample <padding_mode = "border", align_corners = 1>'
CONV = "Conv <pads = [1,1,1,1]>"
WEIGHTS = f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)}"


def ready(model: onnx.ModelProto, *feeds: dict[str, Any], **options: Any) -> Prepared:
    prepared = prepare_model(ir.from_proto(model), LowerOptions(**options), without_warp=True)
    return calibrated(prepared, [("feed", feed) for feed in feeds]) if feeds else prepared


def types(prepared: Prepared, **options: Any) -> dict[str, str]:
    return {node.node: node.type for node in lower(prepared, LowerOptions(**options)).nodes}


def outputs(runner: OrtRunner, feed: dict[str, Any]) -> dict[str, Any]:
    with runner:
        return runner.run(feed)


def both(prepared: Prepared, feed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The outputs in FP32, and those of the lowered graph with strict FP16."""
    lowered = lower(prepared, LowerOptions()).model.SerializeToString()
    return outputs(OrtRunner(ir.to_proto(prepared.model).SerializeToString()), feed), outputs(HalfRunner(lowered), feed)


def image(height: int = 16, width: int = 24, **_: Any) -> np.ndarray:
    return np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)


def test_an_affine_grid_is_made_in_fp32():
    """Grid = base * theta is a matrix product, but of three terms: it moves points, it estimates nothing."""
    body = f"shape = Constant <value_ints = [1,16,24,2]> () {WEIGHTS} [points] p = MatMul (base, theta) "
    body += f"g = Reshape (p, shape) s = {SAMPLE} (x, g) y = {CONV} (s, w)"
    model = model_of(body, f"{IMAGE}, float[1,384,3] base, float[1,3,2] theta")
    assert types(ready(model))["points"] == "float32"
    estimate = model_of(body, f"{IMAGE}, float[1,384,64] base, float[1,64,2] theta")
    assert types(ready(estimate))["points"] == "float16"


def test_lint_finds_an_affine_grid_in_fp16():
    body = (
        "b = Cast <to = 10> (base) t = Cast <to = 10> (theta) p = MatMul (b, t) q = Cast <to = 1> (p) "
        f"shape = Constant <value_ints = [1,16,24,2]> () g = Reshape (q, shape) y = {SAMPLE} (x, g)"
    )
    model = model_of(body, f"{IMAGE}, float[1,384,3] base, float[1,3,2] theta")
    assert "fp16-coordinates" in {finding.rule for finding in lint_model(model)}


def test_positions_that_become_integers_stay_fp32():
    """A splat scatters to rounded positions: at 1920 FP16 is a pixel off."""
    body = (
        f"{WEIGHTS} f = {CONV} (x, w) [move] m = Add (at, by) [round] r = Round (m) [whole] i = Cast <to = 7> (r) "
        f"[put] s = ScatterElements <axis = 3> (f, i, f) y = {CONV} (s, v)"
    )
    found = types(ready(model_of(body, f"{IMAGE}, float[1,3,16,24] at, float[1,3,16,24] by", opset=18)))
    assert [found[node] for node in ("move", "round", "whole")] == ["float32"] * 3


def test_scales_that_are_computed_stay_fp32():
    """10 as 1/0.1: in FP16 0.1 is 0.09998 and its inverse 10.002."""
    body = (
        "one = Constant <value_float = 1.0> () ones = Constant <value_floats = [1.0, 1.0]> () "
        f"[inverse] d = Div (one, scale) [scales] k = Concat <axis = 0> (ones, d, d) {WEIGHTS} c = {CONV} (x, w) "
        f'r = Resize <mode = "linear"> (c, , k) y = {CONV} (r, v)'
    )
    model = model_of(body, f"{IMAGE}, float[1] scale")
    prepared = ready(model, {"x": image(), "scale": np.full(1, 0.5, np.float32)})
    assert {types(prepared)[node] for node in ("inverse", "scales")} == {"float32"}


def test_what_is_compared_is_not_rounded_before():
    """Img > 0.1 decides by differences that FP16 does not have."""
    body = f"t = Constant <value_float = 0.1> () b = Greater (x, t) m = Cast <to = 1> (b) {WEIGHTS} y = {CONV} (m, w)"
    x = (0.1 + np.random.default_rng(0).uniform(-1e-5, 1e-5, (1, 3, 16, 24))).astype(np.float32)
    exact, rounded = both(ready(model_of(body, IMAGE), {"x": x}), {"x": x})
    assert np.abs(exact["y"] - rounded["y"]).max() < 1e-2 * np.abs(exact["y"]).max()


def test_the_standard_domain_has_two_names():
    """`ai.onnx` is the domain "": its opset counts, and `linear` goes from opset 20 on."""
    how = 'mode = "linear", padding_mode = "border", align_corners = 1'
    body = f"{WEIGHTS} c = {CONV} (x, w) s = GridSample <{how}> (c, g) y = {CONV} (s, v)"
    model = model_of(body, f"{IMAGE}, {GRID}", opset=22)
    for imported in model.opset_import:
        imported.domain = imported.domain or "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    lowered = lower(ready(model), LowerOptions())
    assert lint_model(lowered.model) == []
    assert "float16" in {node.type for node in lowered.nodes}
    older = model_of(body.replace("linear", "bilinear"), f"{IMAGE}, {GRID}", opset=18)
    for imported in older.opset_import:
        imported.domain = imported.domain or "ai.onnx"
    assert lint_model(lower(ready(older, precision="bf16"), LowerOptions(precision="bf16")).model) == []


def test_external_data_of_constant_nodes_count(tmp_path):
    """A tensor of an attribute can lie in another file, which belongs to the hash of the model."""
    model = model_of(f"{WEIGHTS} y = {CONV} (x, w)", IMAGE)
    tensor = model.graph.node[0].attribute[0].t
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)))
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "w.bin")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    assert external_files(model, tmp_path) == [tmp_path / "w.bin"]
    tensor.external_data[0].value = "../w.bin"
    with pytest.raises(GraphError, match="outside the model's folder"):
        external_files(model, tmp_path)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["lower", *arguments, "--quiet"])
    return int(stopped.value.code or 0)


def test_a_result_that_is_nan_is_refused(tmp_path, monkeypatch, capsys):
    """X / sqrt(sum(x * x)) of tiny x: in FP16 the sum is 0."""
    monkeypatch.chdir(tmp_path)
    body = (
        f"k = Constant <value_float = 0.0001> () {WEIGHTS} c = {CONV} (x, w) t = Mul (c, k) q = Mul (t, t) "
        f"n = ReduceSum (q) r = Sqrt (n) d = Div (t, r) y = {CONV} (d, v)"
    )
    onnx.save(model_of(body, IMAGE), "in.onnx")
    assert run("in.onnx", "-o", "out.onnx", "--size", "64x96", "--without-warp") == 2
    assert "NaN or infinite values on the calibration feeds" in capsys.readouterr().err
    assert not Path("out.onnx").exists()


@pytest.mark.parametrize(
    "node",
    [
        "s = LpNormalization <axis = 3> (c)",
        "s = MeanVarianceNormalization (c)",
        "s = LpPool <kernel_shape = [8, 8]> (c)",
        "s = GlobalLpPool (c)",
    ],
)
def test_sums_of_squares_stay_fp32(node):
    """24 squares of 100 are beyond 8188, though no tensor is."""
    body = f"u = Constant <value_floats = [1.0, 1.0, 1.0]> () {WEIGHTS} [sum] {node} y = {CONV} (s, v)"
    for scale, kind in ((100, "float32"), (0.01, "float16")):
        feed = {"c": image() * np.float32(scale)}
        assert types(ready(model_of(body, 'float["N",3,"H","W"] c', opset=21), feed))["sum"] == kind


@pytest.mark.parametrize(("value", "kind"), [(0.5, "float16"), (1e-8, "float32"), (1e6, "float32")])
def test_constants_of_a_shape(value, kind):
    """The value of a ConstantOfShape is a constant: FP16 has to hold it."""
    body = f"[filled] k = ConstantOfShape <value = float[1] {{{value}}}> (n) {WEIGHTS} c = Mul (x, k) y = {CONV} (c, w)"
    assert types(ready(model_of(body, f"{IMAGE}, int64[4] n")))["filled"] == kind


def test_an_fp32_output_reads_what_is_moved():
    """A Concat of FP32 tensors that is an output is not rounded for a convolution that reads it too."""
    body = f"{WEIGHTS} s = {SAMPLE} (x, g) [both] b = Concat <axis = 0> (s, x) y = {CONV} (b, w)"
    model = model_of(body, f"{IMAGE}, {GRID}", f"{OUT}, float[A,3,B,D] b")
    assert types(ready(model))["both"] == "float32"
    assert types(ready(model, io="fp16"), io="fp16")["both"] == "float16"


def test_an_output_may_be_listed_twice():
    model = model_of(f"{WEIGHTS} c = {CONV} (x, w) o = {CONV} (c, v)", IMAGE, "float[A,B,C,D] c, float[A,B,C,D] o")
    model.graph.output.insert(0, model.graph.output[0])
    result = lower(ready(model), LowerOptions(fp32_tail=False)).model
    assert [value.name for value in result.graph.output] == ["c", "c", "o"]
    assert {value.type.tensor_type.elem_type for value in result.graph.output} == {onnx.TensorProto.FLOAT}


def test_a_constant_may_be_an_output():
    model = model_of(f"{WEIGHTS} y = {CONV} (x, w)", IMAGE, OUT)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "k"))
    model.graph.output.append(helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, [1, 3, 8, 8]))
    result = lower(ready(model, io="fp16"), LowerOptions(io="fp16")).model
    onnx.checker.check_model(result, full_check=True)
    assert [value.name for value in result.graph.output] == ["y", "k"]
    assert result.graph.output[1].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_a_mask_may_be_infinite():
    """Where(mask, -inf, x) in front of a Softmax is no broken graph; its neighbours stay FP32."""
    body = (
        "low = Constant <value_float = -inf> () half = Constant <value_float = 0.5> () m = Greater (x, half) "
        f"[masked] q = Where (m, low, x) [soft] p = Softmax (q) {WEIGHTS} y = {CONV} (p, w)"
    )
    found = types(ready(model_of(body, IMAGE), {"x": image()}))
    assert (found["masked"], found["soft"]) == ("float32", "float32")


def test_a_tensor_may_be_empty():
    body = (
        "a = Constant <value_ints = [0]> () k = Constant <value_ints = [2]> () e = Slice (x, a, a, k) "
        f"c = Concat <axis = 2> (x, e) {WEIGHTS} y = {CONV} (c, w)"
    )
    exact, rounded = both(ready(model_of(body, IMAGE), {"x": image()}), {"x": image()})
    assert np.abs(exact["y"] - rounded["y"]).max() < 1e-2


def test_custom_operators_run_strictly():
    """What is lowered can be judged: the declared type of a custom operator is known to the strict runner."""
    model = model_of(f"{WEIGHTS} c = com.microsoft.Gelu (x) y = {CONV} (c, w)", IMAGE)
    model.graph.value_info.append(helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [1, 3, 16, 24]))
    exact, rounded = both(ready(model, {"x": image()}), {"x": image()})
    assert 0 < np.abs(exact["y"] - rounded["y"]).max() < 1e-2


def test_a_cast_like_says_its_type():
    """CastLike(count, x) is FP32 before x becomes FP16: 2049 stays 2049."""
    body = (
        f"n = Constant <value_ints = [2049]> () [like] k = CastLike (n, x) {WEIGHTS} c = Mul (x, k) y = {CONV} (c, w)"
    )
    result = lower(ready(model_of(body, IMAGE)), LowerOptions()).model
    assert "CastLike" not in {node.op_type for node in result.graph.node}


def test_retype_breaks_no_promise_silently():
    model = ready(model_of(f"{WEIGHTS} y = {CONV} (x, w)", IMAGE)).model
    with pytest.raises(InternalError, match="no type was decided"):
        retype.Retype({}, {})(model)


def test_an_array_is_judged_by_its_header(tmp_path, monkeypatch, capsys):
    """Zeros pack a thousandfold: an array of another shape is refused before it is unpacked."""
    monkeypatch.chdir(tmp_path)
    onnx.save(model_of(f"{WEIGHTS} c = {CONV} (x, w) s = {SAMPLE} (c, g) y = {CONV} (s, v)"), "in.onnx")
    feed = {"x": np.zeros((1, 3, 20000, 64), np.float32), "g": np.zeros((1, 16, 24, 2), np.float32)}
    np.savez_compressed("bomb.npz", **feed)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was unpacked"))
    assert run("in.onnx", "-o", "out.onnx", "--calibrate", "bomb.npz") == 2
    assert "bomb.npz: x is [1, 3, 20000, 64]; expected [" in capsys.readouterr().err


def test_names_of_the_file_are_left_alone():
    """Tensors called as our measures and our constants would be are the file's own."""
    body = f"h = Constant <value_float = -0.5> () {WEIGHTS} c = {CONV} (x, w) "
    body += f"s = {SAMPLE} (c, g) t = Mul (s, h) y = {CONV} (t, v)"
    model = model_of(body, f"{IMAGE}, {GRID}")
    names = {"h": "gather/float32_-1.0", "t": "c/shape"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    feed = {"x": image(), "g": np.zeros((1, 16, 24, 2), np.float32)}
    prepared = ready(model, feed, gridsample="gather", precision="fp32")
    result = lower(prepared, LowerOptions(gridsample="gather", precision="fp32")).model.SerializeToString()
    expected, actual = outputs(OrtRunner(model.SerializeToString()), feed), outputs(OrtRunner(result), feed)
    assert np.abs(expected["y"] - actual["y"]).max() < 1e-6


def test_a_scalar_input_gets_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = f"{WEIGHTS} c = {CONV} (x, w) m = Mul (c, timestep) s = {SAMPLE} (m, g) y = {CONV} (s, v)"
    model = model_of(body, "float[1,3,64,96] x, float[1,64,96,2] g, float timestep", "float[1,3,64,96] y")
    del model.graph.input[2].type.tensor_type.shape.dim[:]
    model.graph.input[2].type.tensor_type.shape.SetInParent()
    onnx.save(model, "in.onnx")
    assert run("in.onnx", "-o", "out.onnx") == 0


@pytest.mark.parametrize(("output", "words"), [("", "is a folder"), (".", "is a folder"), ("a" * 230, "is too long")])
def test_outputs_that_are_no_file(tmp_path, monkeypatch, capsys, output, words):
    monkeypatch.chdir(tmp_path)
    onnx.save(model_of(f"{WEIGHTS} c = {CONV} (x, w) s = {SAMPLE} (c, g) y = {CONV} (s, v)"), "in.onnx")
    assert run("in.onnx", "-o", output) == 2
    assert words in capsys.readouterr().err


def test_the_manifest_of_the_output_is_not_the_input(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(model_of(f"{WEIGHTS} c = {CONV} (x, w) s = {SAMPLE} (c, g) y = {CONV} (s, v)"), "out.onnx.json")
    before = Path("out.onnx.json").read_bytes()
    assert run("out.onnx.json", "-o", "out.onnx", "--force") == 2
    assert "is the file to be lowered itself" in capsys.readouterr().err
    assert Path("out.onnx.json").read_bytes() == before


def test_a_batch_is_calibrated_as_one(tmp_path, monkeypatch):
    """Our own static file of two pairs a call is fed two pairs."""
    from refine_export.checkpoint.checkpoint import seeded_checkpoint
    from refine_export.export.export_options import ExportOptions
    from refine_export.export.onnx_from_network import onnx_from_network
    from refine_export.export.reference_network import reference_network

    monkeypatch.chdir(tmp_path)
    options = ExportOptions(dynamic=False, batch=2, size="64x64")
    onnx.save(onnx_from_network(reference_network(seeded_checkpoint("IFNet")), "contextnet", options), "in.onnx")
    assert run("in.onnx", "-o", "out.onnx") == 0
