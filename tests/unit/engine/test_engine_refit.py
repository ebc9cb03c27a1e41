"""New weights arrive in the plan, whole; what does not fit is refused by name, and the old plan is never touched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from refine_export.engine.bindings import Log
from refine_export.engine.refit_weights import refit_plan
from refine_export.errors import GraphError, RequestError, UnavailableError
from tests.support.fake_tensorrt import make_fake

pytestmark = pytest.mark.parametrize("version", ["10.12.0", "10.16.1", "11.4.0"])


def network(value: float = 1.0, channels: int = 2, name: str = "w") -> onnx.ModelProto:
    """One convolution, all of whose weights are `value`."""
    shape = [1, channels, 4, 4]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", name], ["y"], name="conv")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.full((channels, channels, 1, 1), value, np.float32), name)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def seam(monkeypatch: pytest.MonkeyPatch, version: str, *flags: str) -> tuple[Any, Log, bytes]:
    """The fake, the log, and the plan of `network()` built with these flags."""
    fake = make_fake(version)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    log = Log(fake)
    builder = fake.Builder(log.logger)
    net = builder.create_network(1 << int(fake.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert fake.OnnxParser(net, log.logger).parse(network().SerializeToString())
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(getattr(fake.BuilderFlag, flag))
    return fake, log, bytes(builder.build_serialized_network(net, config))


def weights(fake: Any, log: Log, plan: bytes) -> Any:
    """Of the engine that the plan gives; an engine that lacks some can't be used."""
    engine = fake.Runtime(log.logger).deserialize_cuda_engine(plan)
    assert not engine._payload["missing"]
    return numpy_helper.to_array(engine._model.graph.initializer[0]).ravel().tolist()


def test_new_weights_arrive(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And they can be replaced again."""
    fake, log, plan = seam(monkeypatch, version, "REFIT")
    before = bytes(plan)
    second = refit_plan(plan, network(2.0).SerializeToString(), log)
    assert weights(fake, log, second) == [2.0] * 4
    assert weights(fake, log, refit_plan(second, network(3.0).SerializeToString(), log)) == [3.0] * 4
    assert plan == before
    assert weights(fake, log, plan) == [1.0] * 4


def test_a_stripped_plan_becomes_whole(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, log, plan = seam(monkeypatch, version, "STRIP_PLAN", "REFIT_IDENTICAL")
    whole = refit_plan(plan, network().SerializeToString(), log)
    assert weights(fake, log, whole) == [1.0] * 4
    if fake.fake.numbers >= (10, 14):  # there is a flag to stay refittable
        assert refit_plan(whole, network().SerializeToString(), log)


def test_external_data_is_found(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, log, plan = seam(monkeypatch, version, "REFIT")
    path = tmp_path / "m.onnx"
    onnx.save_model(network(5.0), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert weights(fake, log, refit_plan(plan, path.read_bytes(), log, path=path)) == [5.0] * 4


def test_an_engine_that_is_not_refittable_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, log, plan = seam(monkeypatch, version)
    with pytest.raises(RequestError, match="takes no new weights; expected .* refittable = true"):
        refit_plan(plan, network().SerializeToString(), log)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (network(channels=3), r"1 errors.*\n  w: Failed to set weights: w is \[3, 3"),
        (network(name="other"), r"1 errors.*\n  w: Failed to find"),
    ],
    ids=["shape", "name"],
)
def test_weights_that_do_not_fit_are_named(
    model: onnx.ModelProto, words: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, log, plan = seam(monkeypatch, version, "REFIT")
    with pytest.raises(GraphError, match=words):
        refit_plan(plan, model.SerializeToString(), log)


def test_bytes_that_are_no_onnx_are_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, log, plan = seam(monkeypatch, version, "REFIT")
    with pytest.raises(GraphError, match="do not fit the engine"):
        refit_plan(plan, b"no protobuf", log)


def test_missing_weights_are_named(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refitter took the file and still lacks something."""
    fake, log, plan = seam(monkeypatch, version, "REFIT")
    monkeypatch.setattr(fake.Refitter, "get_missing_weights", lambda self: ["w1", "w2"])
    with pytest.raises(GraphError, match="lacks 2 weights of the engine: w1, w2"):
        refit_plan(plan, network().SerializeToString(), log)


@pytest.mark.parametrize(
    ("failing", "error", "words"),
    [
        ("deserialize_cuda_engine", UnavailableError, "could not load the plan: .*the test asked for it"),
        ("refit_from_bytes", GraphError, "do not fit .*the test asked for it"),
        ("refit_cuda_engine", UnavailableError, "could not put the new weights .*the test asked for it"),
    ],
)
def test_what_tensorrt_says_is_shown(
    failing: str, error: type[Exception], words: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, log, plan = seam(monkeypatch, version, "REFIT")
    fake.fake.failing.add(failing)
    with pytest.raises(error, match=f"(?s){words}"):
        refit_plan(plan, network(2.0).SerializeToString(), log)


def test_no_gpu_and_no_plan(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, log, plan = seam(monkeypatch, version, "REFIT")
    with pytest.raises(UnavailableError, match="could not load the plan"):
        refit_plan(plan[:-5], network().SerializeToString(), log)
    fake.fake.gpu = False
    with pytest.raises(UnavailableError, match="start its runtime"):
        refit_plan(plan, network().SerializeToString(), log)


@pytest.mark.parametrize("call", ["Refitter", "serialize_with_config"])
def test_null_of_the_bindings_is_an_error(call: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TypeError from a constructor, None from a method."""
    fake, log, plan = seam(monkeypatch, version, "REFIT")

    def null(*_: Any) -> None:
        if call == "Refitter":
            raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(fake if call == "Refitter" else fake.ICudaEngine, call, null)
    with pytest.raises(UnavailableError, match="could not (refit|serialize) the engine"):
        refit_plan(plan, network().SerializeToString(), log)


def test_a_flag_that_is_refused_is_an_error(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 10.14 on; without the flag, the engine would take no weights again."""
    fake, log, plan = seam(monkeypatch, version, "REFIT")
    monkeypatch.setattr(fake.ISerializationConfig, "set_flag", lambda config, flag: False)
    if version == "10.12.0":
        assert refit_plan(plan, network().SerializeToString(), log)
    else:
        with pytest.raises(UnavailableError, match="can't keep the engine refittable"):
            refit_plan(plan, network().SerializeToString(), log)
