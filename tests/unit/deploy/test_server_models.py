"""Networks on a server are recognised by their tensors, and described by the parameters of their configs."""

from types import SimpleNamespace

import pytest

from refine_export.deploy.triton.names import CHECKPOINT_PARAMETER, GRAPH_PARAMETER, PRECISION_PARAMETER
from refine_export.deploy.verify import server_models
from refine_export.deploy.verify.server_models import find_models, model_from_runner
from refine_export.errors import RequestError
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.signature import SIGNATURES, TensorInfo
from tests.support.refusals import refused

PARAMETERS = {PRECISION_PARAMETER: "fp16", CHECKPOINT_PARAMETER: "e" * 64, GRAPH_PARAMETER: "refine"}
WARM_UPS = [("1088", "1920"), ("64", "96"), ("256", "448")]
OPTIONS = ServerOptions(url="localhost:1")


def runner_of(parameters=PARAMETERS, *, warm_ups=WARM_UPS, shape=None, dtype="float32", **changed):
    """Return what `TritonRunner` knows of an engine of refine."""
    specs = SIGNATURES["refine"].inputs
    infos = [TensorInfo(name=spec.name, dtype=dtype, shape=shape or spec.shape) for spec in specs]
    samples = [{"inputs": {"img0": {"dims": ["3", *size]}, "flow": {"dims": ["4", *size]}}} for size in warm_ups]
    known = {
        "model": "refine",
        "model_version": "2",
        "signature": SIGNATURES["refine"],
        "provider": "tensorrt_plan over grpc",
        "inputs": infos,
        "outputs": (),
        "config": {
            "max_batch_size": 8,
            "model_warmup": samples,
            "parameters": {name: {"string_value": value} for name, value in parameters.items()},
        },
    }
    return SimpleNamespace(**(known | changed))


def test_a_network_is_described_by_its_config():
    """An engine is fed at the sizes that it is warmed up at; what is missing gets the strictest limits, and a note."""
    model = model_from_runner(runner_of())
    assert (model.version, model.artifact.precision, model.artifact.checkpoint_sha256) == ("2", "fp16", "e" * 64)
    assert model.artifact.profile == ((1, 64, 96), (1, 256, 448), (1, 1088, 1920))
    assert model.sizes == ((1088, 1920), (64, 96), (256, 448))
    assert model.notes == ()
    onnx_file = model_from_runner(runner_of({}, provider="onnxruntime_onnx over grpc"))
    assert (onnx_file.artifact.profile, onnx_file.artifact.precision) == (None, "fp32")
    assert onnx_file.artifact.fixed == (None, None, None)
    assert len(onnx_file.notes) == 2
    assert model_from_runner(runner_of(config={"max_batch_size": 1})).artifact.fixed == (1, None, None)
    assert len(model_from_runner(runner_of(PARAMETERS | {GRAPH_PARAMETER: "unet"})).notes) == 1


def test_sizes_that_cannot_be_fed_are_left_out():
    model = model_from_runner(runner_of(warm_ups=[("33", "97"), ("64", "96"), ("16416", "64")]))
    assert (model.sizes, len(model.notes)) == (((64, 96),), 2)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"signature": None}, "unknown-graph"),
        ({"shape": (1,)}, "unsupported-tensor"),
        ({"shape": (1, 3, 33, "W")}, "unsupported-size"),
        ({"dtype": "int32"}, "unsupported-tensor"),
    ],
)
def test_tensors_that_cannot_be_fed(changed, code):
    with refused(code, RequestError):
        model_from_runner(runner_of(**changed))


class FakeClient:
    """A server with the models of `ready`."""

    ready, not_ready, ensemble = ("refine", "other"), {"unet": "no such file"}, "refine"

    def __init__(self, options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        pass

    def models(self):
        return list(self.ready)

    def unready(self):
        return dict(self.not_ready)

    def config(self, name):
        return {"ensemble_scheduling": {"step": [{"model_name": "pre"}, {"model_name": self.ensemble}]}}


class FakeRunner(FakeClient):
    def __init__(self, options, model, version):
        self.__dict__ |= runner_of(**({} if model == "refine" else {"signature": None})).__dict__


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(server_models, "TritonClient", FakeClient)
    monkeypatch.setattr(server_models, "TritonRunner", FakeRunner)
    return monkeypatch


def test_models_that_are_ready_missing_or_not_ours(server):
    found = find_models(OPTIONS, (), "")
    assert [model.name for model in found.networks] == ["refine"]
    assert found.ensemble_network is None
    assert [one.what for one in found.missing] == ["unet"]
    found = find_models(OPTIONS, ("other", "absent"), "")
    assert (found.networks, {one.what for one in found.missing}) == ((), {"other", "absent"})
    server.setattr(FakeClient, "ready", ("interpolate", "refine"))
    assert find_models(OPTIONS, ("interpolate",), "").ensemble_network.name == "refine"
    server.setattr(FakeClient, "ensemble", "other")
    assert [one.what for one in find_models(OPTIONS, ("interpolate",), "").missing] == ["interpolate"]
    server.setattr(FakeClient, "ready", ("other",))
    server.setattr(FakeClient, "not_ready", {})
    with refused("no-models", RequestError):
        find_models(OPTIONS, (), "")
