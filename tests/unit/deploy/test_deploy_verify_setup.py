"""What `deploy verify` settles before it compares: its options, its channels, what a server says of a network."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from refine_export.deploy.triton.names import CHECKPOINT_PARAMETER, GRAPH_PARAMETER, PRECISION_PARAMETER
from refine_export.deploy.verify import channels
from refine_export.deploy.verify.server_models import served_from_runner
from refine_export.errors import RequestError, UnavailableError
from refine_export.jobs.verify_options import VerifyOptions
from refine_export.runners.triton.client import ServerOptions
from refine_export.signature import SIGNATURES, TensorInfo

SAID = {PRECISION_PARAMETER: "fp16", CHECKPOINT_PARAMETER: "e" * 64, GRAPH_PARAMETER: "refine"}


def runner_of(said=SAID, **changed):
    """What `TritonRunner` knows of a served engine of refine."""
    signature = SIGNATURES["refine"]
    infos = [TensorInfo(name=spec.name, dtype="float32", shape=spec.shape) for spec in signature.inputs]
    samples = [{"inputs": {"img0": {"dims": ["3", *size]}, "flow": {"dims": ["4", *size]}}} for size in WARM_UPS]
    known = {
        "model": "refine",
        "model_version": "2",
        "graph": "refine",
        "provider": "tensorrt_plan over grpc",
        "inputs": infos,
        "outputs": (),
        "config": {
            "max_batch_size": 8,
            "model_warmup": samples,
            "parameters": {name: {"string_value": value} for name, value in said.items()},
        },
    }
    return SimpleNamespace(**(known | changed))


WARM_UPS = [("1088", "1920"), ("64", "96"), ("256", "448")]


def test_what_a_server_says_of_a_network():
    """An engine is fed at the sizes that it is warmed up at; what is not said is judged strictly, and noted."""
    served = served_from_runner(runner_of())
    assert (served.version, served.artifact.precision, served.artifact.checkpoint_sha256) == ("2", "fp16", "e" * 64)
    assert served.artifact.profile == ((1, 64, 96), (1, 256, 448), (1, 1088, 1920))
    assert served.sizes == ((1088, 1920), (64, 96), (256, 448))
    assert served.notes == ()
    onnx_file = served_from_runner(runner_of({}, provider="onnxruntime_onnx over grpc"))
    assert (onnx_file.artifact.profile, onnx_file.artifact.precision) == (None, "fp32")
    assert onnx_file.artifact.fixed == (None, None, None)
    assert len(onnx_file.notes) == 2
    assert served_from_runner(runner_of(config={"max_batch_size": 1})).artifact.fixed == (1, None, None)
    with pytest.raises(RequestError, match="none of the five graphs"):
        served_from_runner(runner_of(graph=None))


def test_the_other_protocol_is_looked_for_at_the_port_beside(monkeypatch):
    spoken = {"a:8000": "http", "a:8001": "grpc", "b:9000": "http", "b:7": "grpc"}
    asked = []

    def answer(url, protocol):
        asked.append((url, protocol))
        return None if spoken.get(url) == protocol else "no"

    monkeypatch.setattr(channels, "_asked", answer)
    template = ServerOptions(url="a:1", timeout_s=7)

    def found(urls, protocols=("grpc", "http"), **more):
        made, missing = channels.channels_of(urls, protocols, template, **({"shared_memory": False} | more))
        return {one.name: one.options.url for one in made}, [one.what for one in missing]

    both = {"grpc": "a:8001", "http": "a:8000"}
    assert found(["a:8000"]) == found(["a:8001"]) == (both, [])
    assert found(["b:9000", "b:7"]) == ({"grpc": "b:7", "http": "b:9000"}, [])
    assert found(["b:9000"]) == ({"http": "b:9000"}, ["grpc"])
    asked.clear()
    assert found(["b:9000"], ("http",)) == ({"http": "b:9000"}, [])
    assert asked == [("b:9000", "http")]  # nobody knocks at a port that was not asked for
    assert found(["a:8001"], ("http",), shared_memory=True) == (
        {"http": "a:8000", "http, shared memory": "a:8000"},
        [],
    )
    with pytest.raises(UnavailableError, match="answers at c:1; no; no"):
        found(["c:1"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"urls": ()}, "HOST:PORT"),
        ({"urls": ("a:1",), "protocols": ("ftp",)}, "grpc, http or both"),
        ({"urls": ("a:1",), "concurrencies": (0,)}, "1 to 256"),
        ({"urls": ("a:1",), "requests": -1}, "0 to 100000"),
        ({"urls": ("a:1",), "version": "x"}, "expected a number"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(ValueError, match=said):
        VerifyOptions(**options)
