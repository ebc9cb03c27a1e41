"""Whatever stands at the server's address, a client ends in time and says it in its own errors."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.triton import transport as triton_wire
from refine_export.runners.triton.client import ServerOptions, TritonClient
from tests.support.hostile_server import OUTPUT, RAW, SERVER, X, client_at, infer, inferred, page

TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1]}
META = {"name": "m", "versions": ["1"], "platform": "python", "inputs": [TENSOR], "outputs": [{**TENSOR, "name": "y"}]}


def test_the_fake_server_is_understood():
    """Else nothing below would show anything."""
    answers = {"/v2": page(SERVER), "/v2/models/m": page(META), "/v2/models/m/infer": inferred([OUTPUT])}
    with client_at(lambda path: answers[path]) as (client, _):
        assert client.server() == "triton 2.51.0"
        assert client.metadata("m").outputs[0].name == "y"
        assert np.array_equal(infer(client)["y"], X["x"])


TOLD = {"server": TritonClient.server, "models": TritonClient.models, "unready": TritonClient.unready}
ASKED = {"metadata": lambda client: client.metadata("m"), "config": lambda client: client.config("m"), **TOLD}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    "body", [b"<html>log in</html>", b"null", b"3", b'"x"', b"[3]", b"\xff", b"[" * 5000, b"", b"{}", b"[{}]"]
)
def test_an_answer_that_is_not_tritons(asked, body):
    """Said once, and not asked again: what stands there stays there."""
    with client_at(page(body)) as (client, server), pytest.raises(UnavailableError) as caught:
        ASKED[asked](client)
    assert f"the answer of {server.url} for " in str(caught.value)
    assert "is not Triton's (" in str(caught.value)
    assert len(server.asked) == 1


def test_a_page_is_not_shown_in_full():
    with client_at(page(b"<p>\n" * 5000, "404 Not Found")) as (client, _), pytest.raises(UnavailableError) as caught:
        client.metadata("m")
    assert "HTTP 404: <p> <p> " in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"name": None}, "name is None"),
        ({"versions": 3}, "versions is 3"),
        ({"versions": ["abc"]}, "a version is 'abc'"),
        ({"versions": ["٣"]}, "a version is"),
        ({"inputs": None}, "inputs is None"),
        ({"inputs": "abc"}, "inputs is 'abc'"),
        ({"inputs": [3]}, "a tensor is 3"),
        ({"outputs": [{"name": "y", "shape": [1]}]}, "datatype is missing"),
        ({"outputs": [{**TENSOR, "datatype": []}]}, r"datatype is \[\]"),
        ({"outputs": [{**TENSOR, "shape": ["x"]}]}, "'x'"),
        ({"outputs": [{**TENSOR, "shape": "12"}]}, "shape is '12'"),
    ],
)
def test_metadata_that_no_server_has(metadata, said):
    with client_at(page({**META, **metadata})) as (client, _), pytest.raises(UnavailableError, match=said):
        client.metadata("m")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"max_batch_size": "x"}, "'x'"),
        ({"parameters": []}, r"parameters is \[\]"),
        ({"parameters": {"refine_export.graph": "x"}}, "refine_export.graph is 'x'"),
        ({"parameters": {"refine_export.graph": {"string_value": 3}}}, "string_value is 3"),
        ({"ensemble_scheduling": []}, r"ensemble_scheduling is \[\]"),
        ({"ensemble_scheduling": {"step": [{}]}}, "model_name is missing"),
        ({"model_warmup": "x"}, "model_warmup is 'x'"),
        ({"model_warmup": [{"inputs": []}]}, r"inputs is \[\]"),
        ({"model_warmup": [{"inputs": {"a": {"dims": ["x"]}}}]}, "'x'"),
    ],
)
def test_a_config_that_no_server_has(config, said):
    with client_at(page({"name": "m", **config})) as (client, _), pytest.raises(UnavailableError, match=said):
        client.config("m")


STRANGE_OUTPUTS = {
    "short": ([OUTPUT], RAW[:-1]),
    "no bytes": ([OUTPUT], b""),
    "odd": ([{**OUTPUT, "parameters": {"binary_data_size": 7}}], RAW),
    "negative": ([{**OUTPUT, "parameters": {"binary_data_size": -5}}], RAW),
    "size as text": ([{**OUTPUT, "parameters": {"binary_data_size": "48"}}], RAW),
    "other name": ([{**OUTPUT, "name": "z"}], RAW),
    "no name": ([{"datatype": "FP32", "shape": [12]}], RAW),
    "none": ([], RAW),
    "null": (None, RAW),
    "no data": ([{"name": "y", "datatype": "FP32", "shape": [12]}], b""),
    "beyond uint8": ([{"name": "y", "datatype": "UINT8", "shape": [1], "data": [300]}], b""),
    "shape": ([{**OUTPUT, "shape": [10]}], RAW),
    "shape as text": ([{**OUTPUT, "shape": "ab"}], RAW),
    "free shape": ([{**OUTPUT, "shape": [-1]}], RAW),
    "huge shape": ([{**OUTPUT, "shape": [10**9] * 3}], RAW),
    "unknown type": ([{**OUTPUT, "datatype": "FOO"}], RAW),
    "bytes": ([{**OUTPUT, "datatype": "BYTES"}], b"\x80" * 48),
    "bf16": ([{**OUTPUT, "datatype": "BF16", "shape": [24]}], RAW),
}


@pytest.mark.parametrize("shared_memory", [False, True])
@pytest.mark.parametrize("case", STRANGE_OUTPUTS)
def test_tensors_that_are_not_tritons(case, shared_memory):
    answer = inferred(*STRANGE_OUTPUTS[case])
    with client_at(lambda path: answer if path.endswith("/infer") else page({}), shared_memory=shared_memory) as (
        client,
        _,
    ):
        with pytest.raises(UnavailableError, match="for m is not Triton's"):
            infer(client)
        answer = inferred([OUTPUT])
        assert np.array_equal(infer(client)["y"], X["x"])  # and the next one is clean


@pytest.mark.parametrize("case", [*(case for case in STRANGE_OUTPUTS if case != "shape as text"), "good"])
def test_tensors_that_are_not_tritons_over_grpc(case, monkeypatch):
    outputs, raw = STRANGE_OUTPUTS.get(case, ([OUTPUT], RAW))
    tensors = [pb.ModelInferResponse.InferOutputTensor(**_of_grpc(one)) for one in outputs or []]
    response = pb.ModelInferResponse(outputs=tensors, raw_output_contents=[raw[: _declared(outputs, raw)]])
    options = ServerOptions(url="localhost:1", timeout_s=1, patience_s=0)
    with TritonClient(options) as client:
        stub = client._connected()._client._client_stub
        monkeypatch.setattr(stub, "ModelInfer", lambda **_: response)
        if case == "good":
            assert np.array_equal(infer(client)["y"], X["x"])
            return
        with pytest.raises(UnavailableError, match="for m is not Triton's"):
            infer(client)


def _of_grpc(output):
    return {key: value for key, value in output.items() if key in ("name", "datatype", "shape")}


def _declared(outputs, raw):
    size = (outputs or [{}])[0].get("parameters", {}).get("binary_data_size", len(raw))
    return size if isinstance(size, int) else 5


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("versions", ["abc"], "a version is 'abc'"),
        ("name", "", "name is missing"),
        ("inputs", [pb.ModelMetadataResponse.TensorMetadata(name="x", shape=[1])], "datatype is missing"),
    ],
)
def test_metadata_that_no_server_has_over_grpc(field, value, said, monkeypatch):
    response = pb.ModelMetadataResponse(**{"name": "m", "versions": ["1"], field: value})
    with TritonClient(ServerOptions(url="localhost:1", patience_s=0)) as client:
        monkeypatch.setattr(client._connected()._client._client_stub, "ModelMetadata", lambda **_: response)
        with pytest.raises(UnavailableError, match=said):
            client.metadata("m")


@pytest.mark.parametrize("status", ["401 Unauthorized", "302 Found", "500 Oops", "204 No Content"])
def test_an_error_without_a_word_is_said_by_its_status(status):
    with client_at(page(b"", status)) as (client, server), pytest.raises(UnavailableError, match=f"HTTP {status[:3]}"):
        infer(client)
    assert len(server.asked) == 1


def test_what_a_server_refuses_is_still_a_refusal():
    refusals = {"refuses the request to m: unexpected shape": page({"error": "unexpected shape"}, "400 Bad Request")}
    for said, answer in {**refusals, "HTTP 413": page(b"", "413 Too Large")}.items():
        with client_at(answer) as (client, _), pytest.raises(RequestError, match=said):
            infer(client)


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable"])
def test_a_server_that_starts_again_behind_a_proxy(status):
    """The proxy's page, packed or not, means that the server is away: it is asked again."""
    pages = [page(b"<html>no backend</html>", status), page(gzip.compress(b"<p>"), status, Content_Encoding="gzip")]
    with client_at(lambda path: pages.pop(0) if pages else inferred([OUTPUT])) as (client, server):
        assert np.array_equal(infer(client)["y"], X["x"])
    assert len(server.asked) == 3


def test_a_message_of_grpc_that_can_not_be_read():
    """A web server that speaks HTTP/2, and bytes that are no message."""
    for status, message in (
        ("StatusCode.UNKNOWN", "Received http2 header with status: 302"),
        ("StatusCode.INTERNAL", "Exception deserializing response!"),
    ):
        assert triton_wire.error_of_grpc(status, message).failure == "strange"
    assert triton_wire.error_of_grpc("StatusCode.INTERNAL", "boom").failure == "refused"
