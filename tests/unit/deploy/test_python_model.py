"""model.py, called as Triton's python backend calls it, with a stand-in for the backend's module.

On the real server: tests/triton/test_deployed_models.py.
"""

import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.model_config import network_config
from refine_export.deploy.triton.network_models import network_models, read_model_source
from refine_export.deploy.triton.repository import PYTHON_MODEL
from tests.support.deploy_files import write_average


class RefusedError(Exception):
    """TritonModelException."""


def request(feeds, outputs=("frame",)):
    return SimpleNamespace(feeds=feeds, requested_output_names=lambda: list(outputs))


@pytest.fixture
def module(monkeypatch):
    """model.py, with numpy's version as the stub needs it."""
    utils = ModuleType("triton_python_backend_utils")
    utils.TritonModelException = RefusedError
    utils.TritonError = str
    utils.Tensor = lambda name, array: SimpleNamespace(name=name, as_numpy=lambda: array)
    utils.InferenceResponse = lambda tensors=(), error=None: SimpleNamespace(tensors=tensors, error=error)
    utils.get_input_tensor_by_name = lambda asked, name: utils.Tensor(name, asked.feeds[name])
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    monkeypatch.setattr(np, "__version__", "1.26.4")
    spec = importlib.util.spec_from_file_location("served_model", PYTHON_MODEL)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def place(tmp_path):
    """A model of the repository: its folder, and its config as the server hands it over."""
    path = write_average(tmp_path / "1" / "model.onnx")
    options = TritonOptions(backend="python", max_batch=4, threads=1)
    [network] = network_models([read_model_source(path)], options)
    parsed = json_format.ParseDict(network_config(network, options), model_config_pb2.ModelConfig())
    return tmp_path, json_format.MessageToDict(parsed, preserving_proto_field_name=True)


def loaded(module, place, kind="CPU", **changes):
    folder, config = place
    model = module.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config | changes),
            "model_instance_kind": kind,
            "model_instance_device_id": "0",
            "model_repository": str(folder),
            "model_version": "1",
        }
    )
    return model


def feeds(count=1, height=32, width=64, seed=0, timestep=0.25):
    rng = np.random.default_rng(seed)
    planes = rng.random((2, count, 3, height, width), dtype=np.float32)
    return {"img0": planes[0], "img1": planes[1], "timestep": np.full((count, 1, 1, 1), timestep, np.float32)}


def expected(given):
    return given["img0"] * (1 - given["timestep"]) + given["img1"] * given["timestep"]


def test_requests_of_one_size_are_one_batch_and_each_gets_its_own(module, place):
    model = loaded(module, place)
    runs = []
    session = model._session
    model._session = SimpleNamespace(
        run=lambda names, given: runs.append(given["img0"].shape) or session.run(names, given)
    )
    given = [feeds(seed=1), feeds(2, seed=2), feeds(height=64, seed=3), feeds(seed=4, timestep=0.75), feeds(2, seed=5)]
    answers = model.execute([request(one) for one in given])
    for one, answer in zip(given, answers, strict=True):
        [tensor] = answer.tensors
        assert tensor.name == "frame"
        assert np.allclose(tensor.as_numpy(), expected(one), atol=1e-6)
        assert answer.error is None
    assert sorted(runs) == [(1, 3, 64, 64), (2, 3, 32, 64), (4, 3, 32, 64)]  # no more than max_batch_size


def test_an_error_is_of_its_own_request(module, place):
    wrong = feeds(seed=1)
    wrong["img1"] = wrong["img1"][..., :40]
    first, second, third = loaded(module, place).execute([request(feeds()), request(wrong), request(feeds(seed=2))])
    assert "cannot compute this request" in second.error
    assert np.allclose(first.tensors[0].as_numpy(), expected(feeds()), atol=1e-6)
    assert third.error is None


def test_a_model_without_batches_takes_each_as_it_is(module, place):
    folder, config = place
    write_average(folder / "1" / "model.onnx", batch=2)
    whole = {side: [tensor | {"dims": [2, *tensor["dims"]]} for tensor in config[side]] for side in ("input", "output")}
    model = loaded(module, place, max_batch_size=0, **whole)
    answers = model.execute([request(feeds(2, seed=1)), request(feeds(2, seed=2))])
    for seed, answer in zip((1, 2), answers, strict=True):
        assert np.allclose(answer.tensors[0].as_numpy(), expected(feeds(2, seed=seed)), atol=1e-6)


def test_numpy_2_is_refused(module, place, monkeypatch):
    """With it a stub reads zeros and returns empty outputs, status 200."""
    monkeypatch.setattr(np, "__version__", "2.3.0")
    with pytest.raises(RefusedError):
        loaded(module, place)


def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(module, place):
    with pytest.raises(RefusedError, match="CUDA"):
        loaded(module, place, kind="GPU")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["input"][0].update(name="image"),
        lambda config: config["output"].clear(),
        lambda config: config["input"][0].update(data_type="TYPE_FP16"),
        lambda config: config["input"][2].update(dims=["-1", "1", "1"]),
        lambda config: config["input"][0].update(dims=["3", "-1"]),
        lambda config: config.update(max_batch_size=0),
    ],
)
def test_a_config_that_is_not_the_files_does_not_load(module, place, change):
    change(place[1])
    with pytest.raises(RefusedError):
        loaded(module, place)


def test_a_fixed_batch_is_no_batching(module, place):
    write_average(place[0] / "1" / "model.onnx", batch=2)
    with pytest.raises(RefusedError):
        loaded(module, place)


def test_a_file_that_is_none_is_named(module, place):
    (place[0] / "1" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(RefusedError):
        loaded(module, place)
