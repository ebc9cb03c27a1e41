"""One connection: what is sent and read, and what foreign errors become."""

import socket
import time

import numpy as np
import pytest

from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.runners.triton.transport import Connection, ConnectionFailure, failure_of_grpc
from tests.support.http_server import SERVER, X, client_at, inferred, page, served
from tests.support.refusals import refused

TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1]}
META = {"name": "m", "versions": ["1"], "platform": "python", "inputs": [TENSOR], "outputs": [{**TENSOR, "name": "y"}]}
METHODS = {
    "server": lambda client: client.server(),
    "models": lambda client: client.models(),
    "metadata": lambda client: client.metadata("m"),
    "config": lambda client: client.config("m"),
    "infer": lambda client: client.infer("m", X, ["y"]),
}


@pytest.mark.parametrize("line", [b"\r\n", b"SM\r\n"])
def test_the_server_of_these_tests_ends_a_connection_at_what_is_no_request(capsys, line):
    with served(page(SERVER)) as server, socket.create_connection(server.server_address, timeout=60) as connection:
        connection.sendall(line)
        assert (connection.recv(1), server.asked) == (b"", [])
    assert "Traceback" not in capsys.readouterr().err


def test_answers_of_a_server_are_read():
    index = [{"name": "m", "state": "READY"}, {"name": "n", "state": "UNAVAILABLE", "reason": "no GPU"}, {"name": "o"}]
    answers = {
        "/v2": page(SERVER),
        "/v2/models/m": page(META),
        "/v2/models/m/config": page({"name": "m"}),
        "/v2/models/m/infer": inferred(),
        "/v2/repository/index": page(index),
    }
    with client_at(lambda path: answers[path]) as (client, _):
        assert client.server() == "triton 2.51.0"
        assert client.metadata("m").outputs[0].name == "y"
        assert client.config("m") == {"name": "m"}
        assert np.array_equal(client.infer("m", X, ["y"])["y"], X["x"])
        assert client.models() == ["m"]
        assert client.unready() == {"n": "no GPU", "o": "not loaded; the server's log says why"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[3]"])
def test_what_is_not_triton_is_named_and_not_asked_again(method, body):
    """Another service at the address stays there."""
    with client_at(page(body)) as (client, server), pytest.raises(UnavailableError) as caught:
        METHODS[method](client)
    assert (caught.value.code, caught.value.fields["url"], len(server.asked)) == ("not-triton", server.url, 1)


@pytest.mark.parametrize("status", ["302 Found", "404 Not Found"])
def test_a_page_with_an_error_is_shown_by_its_status_and_not_in_full(status):
    with client_at(page(b"<p>\n" * 5000, status)) as (client, server), pytest.raises(UnavailableError) as caught:
        client.metadata("m")
    assert (caught.value.code, len(server.asked)) == ("not-triton", 1)
    assert f"HTTP {status[:3]}" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_refusal_is_one():
    for answer in (page({"error": "unexpected shape"}, "400 Bad Request"), page(b"", "413 Too Large")):
        with client_at(answer) as (client, _), refused("server-refused", RequestError):
            METHODS["infer"](client)


def test_a_server_that_starts_again_behind_a_proxy_is_asked_again():
    """The proxy's page means that the server is away."""
    pages = [page(b"<html>no backend</html>", status) for status in ("502 Bad Gateway", "503 Service Unavailable")]
    with client_at(lambda path: pages.pop(0) if pages else inferred()) as (client, server):
        assert np.array_equal(METHODS["infer"](client)["y"], X["x"])
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("code", "message", "failure"),
    [
        ("DEADLINE_EXCEEDED", "", "slow"),
        ("UNAVAILABLE", "connection refused", "away"),
        ("INTERNAL", "Received RST_STREAM with error code 2", "away"),
        ("UNKNOWN", "Received http2 header with status: 302", "foreign"),
        ("NOT_FOUND", "", "unknown"),
        ("UNAVAILABLE", "Request for unknown model", "away"),
        ("INTERNAL", "Stub process 'm' is not healthy.", "unhealthy"),
        ("INVALID_ARGUMENT", "Unable to find shared memory region: 'a'", "region"),
        ("INTERNAL", "boom", "refused"),
    ],
)
def test_errors_of_grpc(code, message, failure):
    assert failure_of_grpc(f"StatusCode.{code}", message).failure == failure


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_does_not_answer_is_slow(protocol):
    def never(path):
        time.sleep(60)
        return b""

    with served(never) as server:
        connection = Connection(ServerOptions(url=server.url, protocol=protocol, timeout_s=0.2))
        started = time.monotonic()
        with pytest.raises(ConnectionFailure) as caught:
            connection.server()
        assert time.monotonic() - started < 30
    assert caught.value.failure == "slow"


def test_grpc_goes_past_a_proxy(monkeypatch):
    """Libraries take `http_proxy` for every address, this machine's too."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served(page(b"")) as proxy, served(page(b"")) as server:
        for name in ("http_proxy", "grpc_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.url}")
        with pytest.raises(ConnectionFailure):
            Connection(ServerOptions(url=server.url, timeout_s=60)).server()
    assert (proxy.asked, bool(server.asked)) == ([], True)
