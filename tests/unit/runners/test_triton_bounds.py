"""A request ends in time and takes no more memory than an answer may, and an address is what it looks like."""

from __future__ import annotations

import gzip
import threading
import time

import grpc
import numpy as np
import pytest

from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.triton import transport as triton_wire
from refine_export.runners.triton.client import ServerOptions, TritonClient
from tests.support.hostile_server import OUTPUT, client_at, infer, inferred, page, served

SHORT = {"timeout_s": 0.25, "patience_s": 0}
LATE = "the whole answer did not come in time; it did not answer in 0.25 s"


def drip(start):
    def answer(connection):
        connection.sendall(start)
        for _ in range(100):
            connection.sendall(b"1")
            time.sleep(0.05)

    return answer


def flood(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"40000\r\n" + b"x" * 0x40000 + b"\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        drip(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000\r\n\r\n"),  # tritonclient swallows what reading this raises
        drip(b"HTTP/1.1 200 OK\r\nX: "),
        flood,
    ],
    ids=["body", "error", "header", "without end"],
)
def test_the_timeout_is_of_the_whole_answer(answer):
    started = time.monotonic()
    with client_at(lambda path: answer, **SHORT) as (client, _), pytest.raises(UnavailableError, match=LATE):
        infer(client)
    assert time.monotonic() - started < 1.5


def test_a_server_that_sends_without_a_pause(monkeypatch):
    """No wait, and so no timer of gevent's: the socket itself looks at the clock."""
    from gevent import socket

    def recv(self, *_):
        first, self.first = getattr(self, "first", True), False
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if first else b"1\r\nx\r\n"

    monkeypatch.setattr(socket.socket, "recv", recv)
    with client_at(lambda path: flood, **SHORT) as (client, _), pytest.raises(UnavailableError, match=LATE):
        infer(client)


def test_the_timeout_is_of_the_look_up_too(monkeypatch):
    """Which geventhttpclient itself does not bound."""
    import gevent
    from gevent import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: gevent.sleep(3) or [])
    started = time.monotonic()
    options = ServerOptions(url="localhost:1", protocol="http", **SHORT)
    with TritonClient(options) as client, pytest.raises(UnavailableError, match=LATE):
        infer(client)
    assert time.monotonic() - started < 1.5


def test_the_timeout_holds_in_threads():
    caught = []

    def ask(url):
        with TritonClient(ServerOptions(url=url, protocol="http", **SHORT)) as client:
            try:
                client.server()
            except UnavailableError as error:
                caught.append(str(error))

    with served(lambda path: drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")) as server:
        threads = [threading.Thread(target=ask, args=(server.url,), daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2)
    assert len(caught) == 3


def test_an_answer_has_an_end(monkeypatch):
    monkeypatch.setattr(triton_wire, "LARGEST_MESSAGE_BYTES", 500)
    with client_at(inferred([OUTPUT])) as (client, server):
        infer(client)
        infer(client)  # it is of one answer
        server.answer = lambda path: flood
        with pytest.raises(UnavailableError, match="more than 500 bytes"):
            infer(client)


def test_a_packed_answer_is_not_unpacked(monkeypatch):
    """2 MiB become 2 GiB."""
    monkeypatch.setattr(gzip, "decompress", lambda _: pytest.fail("it was unpacked"))
    bomb = page(
        gzip.compress(np.random.default_rng(0).bytes(300_000)),
        Content_Encoding="gzip",
        Inference_Header_Content_Length=2,
    )
    with client_at(bomb) as (client, server):
        with pytest.raises(UnavailableError, match="compressed .'gzip'., which was not") as caught:
            infer(client)
        server.answer = lambda path: inferred([OUTPUT])
        infer(client)  # over a new connection
    assert server.url in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("a..b:80", ".:80", "..:80", "-a:80", "a-:80", "a" * 64 + ".com:80", ".".join(["a" * 50] * 6) + ":80"),
        *("[12]:80", "[:::::]:80", "[]:80", "[fe80::1%eth0]:80", "::1:80", "ß.example:80", "localhost:٣", "٣:1"),
        *(
            "localhost:80\n",
            " localhost:80",
            "user@host:80",
            "localhost:080000",
            "localhost:0",
            "localhost:65536",
            "a:",
        ),
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(RequestError, match="expected HOST:PORT"):
        ServerOptions(url=url)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    "url", ["localhost:1", "my_host.a-b.example.:8001", "10.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "unix:1"]
)
def test_addresses(url, protocol):
    with TritonClient(ServerOptions(url=url, protocol=protocol)) as client:
        client._connected()


@pytest.mark.parametrize("name", ["unix", "xds", "ipv4", "dns"])
def test_a_name_is_no_scheme(name, monkeypatch):
    targets = []
    monkeypatch.setattr(grpc, "insecure_channel", lambda target, **_: targets.append(target) or _Channel())
    with TritonClient(ServerOptions(url=f"{name}:80")) as client:
        client._connected()
    assert targets == [f"dns:///{name}:80"]


class _Channel:
    def __getattr__(self, _):
        return lambda *_, **__: None


def test_grpc_goes_past_a_proxy(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with served(page(b"")) as proxy, served(page(b"")) as server:
        for name in ("http_proxy", "grpc_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.url}")
        options = ServerOptions(url=server.url, timeout_s=1, patience_s=0)
        with TritonClient(options) as client, pytest.raises(UnavailableError):
            client.server()
    assert (proxy.asked, bool(server.asked)) == ([], True)
