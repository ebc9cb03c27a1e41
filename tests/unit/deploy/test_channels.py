"""The channels to a server: which protocol a port speaks, and the other one at the port beside."""

import pytest

from refine_export.deploy.verify import channels
from refine_export.errors import UnavailableError
from refine_export.runners.triton.connection_options import ServerOptions
from tests.support.http_server import page, served
from tests.support.refusals import refused

TEMPLATE = ServerOptions(url="a:1", timeout_s=7)


@pytest.fixture
def probed(monkeypatch):
    protocols = {"a:8000": "http", "a:8001": "grpc", "b:9000": "http", "b:7": "grpc", "b:65535": "http"}
    probed = []

    def probe(url, protocol):
        probed.append((url, protocol))
        return None if protocols.get(url) == protocol else "no"

    monkeypatch.setattr(channels, "_probe", probe)
    return probed


def found(urls, protocols=("grpc", "http"), *, shared_memory=False):
    ways, missing = channels.channels_of(urls, protocols, TEMPLATE, shared_memory=shared_memory)
    return {one.channel: one.url for one in ways}, [one.what for one in missing]


def test_the_other_protocol_is_looked_for_at_the_port_beside(probed):
    both = {"grpc": "a:8001", "http": "a:8000"}
    assert found(["a:8000"]) == found(["a:8001"]) == (both, [])
    assert found(["b:9000", "b:7"]) == ({"grpc": "b:7", "http": "b:9000"}, [])
    assert found(["b:9000"]) == ({"http": "b:9000"}, ["grpc"])
    assert found(["b:65535"]) == ({"http": "b:65535"}, ["grpc"])
    shared = {"http": "a:8000", "http, shared memory": "a:8000"}
    assert found(["a:8001"], ("http",), shared_memory=True) == (shared, [])


def test_a_port_that_was_not_asked_for_is_not_probed(probed):
    assert found(["b:9000"], ("http",)) == ({"http": "b:9000"}, [])
    assert probed == [("b:9000", "http")]


def test_no_server(probed):
    with refused("no-server", UnavailableError):
        found(["c:1"])


def test_a_web_server_is_not_a_channel():
    with served(page(b"<html>")) as server, refused("no-server", UnavailableError):
        found([server.url])
