"""The strict FP16 runner: what it reports of itself, and what it refuses. See also `graph/test_fp16_emulation.py`."""

import numpy as np
import onnx
import onnxruntime
import pytest

from refine_export.errors import GraphError, RequestError
from refine_export.runners import strict_fp16
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from tests.support.half_models import TYPES, model_of
from tests.support.refusals import refused


def test_properties():
    model = model_of("y = Neg (x)")
    with HalfRunner(model) as half, OrtRunner(model) as plain:
        assert (half.backend, half.device, half.version) == ("half", "cpu", plain.version)
        level = half._session.get_session_options().graph_optimization_level
        assert level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert not hasattr(half, "_session")


@pytest.mark.parametrize(("outer", "bias"), [(2, True), (7, True), (7, False), (16, False)])
def test_parts_of_a_transposed_convolution_are_equal_to_the_whole(monkeypatch, outer, bias):
    """Products of 16 channels at 1088x1920 would take 510 MiB at a time; no sum changes."""
    generator = np.random.default_rng(0)
    arrays = {"w": generator.standard_normal((5, outer, 4, 4)), "b": generator.standard_normal(outer)}
    arrays = {name: array.astype(np.float16) for name, array in arrays.items() if bias or name == "w"}
    model = model_of(
        f"y = ConvTranspose <kernel_shape = [4, 4], pads = [1, 1, 1, 1], strides = [2, 2]> (x, {', '.join(arrays)})",
        "float16[1, 5, 6, 9] x",
        f"float16[1, {outer}, 12, 18] y",
        **arrays,
    )
    feeds = {"x": generator.standard_normal((1, 5, 6, 9)).astype(np.float16)}
    counts = [node.op_type for node in onnx.load_from_string(strict_fp16._emulation(model)).graph.node]
    assert counts.count("ConvTranspose") == min(4, outer)
    with HalfRunner(model) as runner:
        found = runner.run(feeds)["y"]
    monkeypatch.setattr(strict_fp16, "_split_transposed_convolutions", lambda graph: None)
    with HalfRunner(model) as runner:
        assert np.array_equal(runner.run(feeds)["y"], found)


@pytest.mark.parametrize("name", TYPES)
def test_runs_that_fail_are_request_errors(name):
    model = model_of("y = Reshape (x, s)", f"{name}[n] x", f"{name}[m] y", s=np.array([7]))
    with HalfRunner(model) as runner:
        with pytest.raises(RequestError):
            runner.run({"x": np.ones(5, TYPES[name])})
        with pytest.raises(RequestError):
            runner.run({"x": np.ones(7, np.float32)})


def test_files_that_are_refused(tmp_path, monkeypatch):
    repeated = onnx.load_from_string(model_of("y = Neg (x)"))
    repeated.graph.node.append(repeated.graph.node[0])
    path = tmp_path / "model.onnx"
    weights = onnx.load_from_string(model_of("y = Mul (x, w)", w=np.ones(4, np.float16)))
    onnx.save_model(weights, path, save_as_external_data=True, location="w.data", size_threshold=0)
    (tmp_path / "w.data").unlink()
    cases = {
        tmp_path / "none.onnx": "not-found",
        b"\x08\x07 no model": "not-onnx",
        repeated.SerializeToString(): "invalid-onnx",
        path: "missing-external-data",
        path.read_bytes(): "missing-external-data",
        model_of("y = Unheard (x)"): None,
    }
    for model, code in cases.items():
        with pytest.raises(GraphError) as caught:
            HalfRunner(model)
        assert code in (caught.value.code, None)
    monkeypatch.setattr("refine_export.runners.strict_fp16.load_external_data", lambda *_: False)
    with refused("onnx-too-large", GraphError):
        HalfRunner(model_of("y = Neg (x)"))
