"""New weights arrive in the engine; what does not fit is refused by name, and the old engine is not touched."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.parser import parse_model

from refine_export.engine.bindings import Log
from refine_export.engine.refit_weights import refitted_engine
from refine_export.errors import GraphError, RequestError, UnavailableError
from tests.support.engine_models import fail, fake_library
from tests.support.host_trt import loaded, plan_of
from tests.support.refusals import refused


def network(value=1.0, channels=2, name="w"):
    """One convolution, all of whose weights are `value`."""
    sides = f"float[1,{channels},4,4]"
    made = parse_model(f"""<ir_version: 8, opset_import: ["" : 18]> g ({sides} x) => ({sides} y)
        <float[{channels},{channels},1,1] {name}> {{ [conv] y = Conv (x, {name}) }}""")
    weight = np.full((channels, channels, 1, 1), value, np.float32)
    made.graph.initializer.append(numpy_helper.from_array(weight, name))
    return made


class Refit:
    """A fake TensorRT, and an engine of `network()`."""

    def __init__(self, monkeypatch, version, *flags):
        self.trt = fake_library(monkeypatch, version).module
        if version.startswith("10.12"):  # the flag exists from 10.14 on
            flags_of_it = {"EXCLUDE_WEIGHTS": self.trt.SerializationFlag.EXCLUDE_WEIGHTS}
            self.trt.SerializationFlag = SimpleNamespace(__members__=flags_of_it, **flags_of_it)
        self.log = Log(self.trt)
        self.plan = plan_of(self.trt, network(), flags=flags)

    def new(self, model, plan=None, **more):
        content = model if isinstance(model, bytes) else model.SerializeToString()
        return refitted_engine(self.trt, plan or self.plan, content, self.log, **more)

    def weights(self, plan):
        engine = loaded(self.trt, plan)
        assert not engine._payload["stripped"]
        return numpy_helper.to_array(engine._model.graph.initializer[0]).ravel().tolist()


@pytest.mark.parametrize("version", ["10.12.0", "11.4.0"])
def test_new_weights_arrive_and_can_be_replaced_again(monkeypatch, version):
    refit = Refit(monkeypatch, version, "REFIT")
    second = refit.new(network(2.0))
    assert refit.weights(second) == [2.0] * 4
    assert refit.weights(refit.new(network(3.0), second)) == [3.0] * 4
    assert refit.weights(refit.plan) == [1.0] * 4


@pytest.mark.parametrize("version", ["10.12.0", "11.4.0"])
def test_a_stripped_engine_becomes_whole(monkeypatch, version):
    refit = Refit(monkeypatch, version, "STRIP_PLAN", "REFIT_IDENTICAL")
    whole = refit.new(network())
    assert refit.weights(whole) == [1.0] * 4
    if version.startswith("11"):  # from 10.14 on there is a flag to stay refittable
        assert refit.new(network(), whole)


def test_external_data_is_found(monkeypatch, tmp_path):
    refit, path = Refit(monkeypatch, "11.4.0", "REFIT"), tmp_path / "m.onnx"
    onnx.save_model(network(5.0), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert refit.weights(refit.new(path.read_bytes(), path=path)) == [5.0] * 4


def test_an_engine_that_is_not_refittable_is_refused(monkeypatch):
    with refused("not-refittable", RequestError):
        Refit(monkeypatch, "11.4.0").new(network())


@pytest.mark.parametrize("model", [network(channels=3), network(name="other"), b"not protobuf"])
def test_weights_that_do_not_fit_are_refused(monkeypatch, model):
    refit = Refit(monkeypatch, "11.4.0", "REFIT")
    with refused("weights-mismatch", GraphError):
        refit.new(model)


def test_missing_weights_are_named(monkeypatch):
    """The refitter took the file and still lacks something."""
    refit = Refit(monkeypatch, "11.4.0", "REFIT")
    monkeypatch.setattr(refit.trt.Refitter, "get_missing_weights", lambda self: ["w1", "w2"])
    with refused("weights-mismatch", GraphError, missing=["w1", "w2"]):
        refit.new(network())


@pytest.mark.parametrize(
    ("kind", "call", "gives"),
    [
        ("Runtime", "deserialize_cuda_engine", None),
        ("Refitter", "refit_cuda_engine", False),
        ("ICudaEngine", "serialize_with_config", None),
        # Constructors raise where a method gives None.
        ("Runtime", "__init__", TypeError("pybind11::init(): factory function returned nullptr")),
        ("Refitter", "__init__", TypeError("pybind11::init(): factory function returned nullptr")),
    ],
)
def test_null_of_the_bindings_is_an_error_with_the_log(monkeypatch, kind, call, gives):
    refit = Refit(monkeypatch, "11.4.0", "REFIT")
    fail(monkeypatch, getattr(refit.trt, kind), call, refit.log, gives)
    with pytest.raises(UnavailableError, match="the test asked for it") as caught:
        refit.new(network(2.0))
    assert caught.value.code == "tensorrt-failed"
