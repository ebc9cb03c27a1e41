"""The client against a real server, which is killed, reloaded, slow or gone."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.signature import TensorInfo
from tests.support.refusals import refused
from tests.support.triton_models import BROKEN, ECHO, SILENT, SLOW, add_model
from tests.support.waiting import eventually

X = np.arange(12, dtype=np.float32).reshape(3, 4)
CHANNELS = [("grpc", False), ("http", False), ("grpc", True), ("http", True)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    add_model(folder, "echo", ECHO)
    add_model(folder, "double", "y = 2 * x")
    add_model(folder, "double", "y = 3 * x", version=2)
    add_model(folder, "slow", SLOW)
    add_model(folder, "half", ECHO, dtype="TYPE_FP16")
    add_model(folder, "silent", SILENT)
    add_model(folder, "broken", BROKEN)
    return folder


@pytest.fixture(scope="module")
def server(triton_server, repository):
    made = triton_server(repository, ["echo", "double", "slow", "half", "silent", "broken"])
    yield made
    made.kill()  # an orderly end takes seconds


def opened(server, protocol="grpc", **options):
    return TritonClient(ServerOptions(url=server.url(protocol), protocol=protocol, **options))


@pytest.mark.parametrize(("protocol", "shared"), CHANNELS)
def test_what_is_sent_comes_back(server, protocol, shared):
    """echo(x) = x, bit for bit, at sizes that grow and shrink, over every channel"""
    random = np.random.default_rng(0)
    kept = []
    with opened(server, protocol, shared_memory=shared) as client:
        for size in ((3, 4), (300, 400), (300, 400), (2, 2), (1, 1), (301, 399)):
            for model, dtype in (("echo", np.float32), ("half", np.float16)):
                x = random.standard_normal(size).astype(dtype)
                answer = client.infer(model, {"x": x}, ["y"])["y"]
                assert answer.dtype == dtype
                assert np.array_equal(answer, x)
                kept.append((answer, x))
        transposed = np.asfortranarray(random.standard_normal((5, 7)).astype(np.float32))
        assert np.array_equal(client.infer("echo", {"x": transposed})["y"], transposed)
        assert all(np.array_equal(answer, x) for answer, x in kept)  # whatever came after them
        mine = [path.name for path in Path("/dev/shm").glob(f"refine_export_{os.getpid()}_*")]
        assert len(mine) == shared
    assert not list(Path("/dev/shm").glob(f"refine_export_{os.getpid()}_*"))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_describes_its_models(server, protocol):
    with opened(server, protocol, patience_s=0) as client:
        assert client.server() == "triton 2.51.0"
        assert client.models() == ["broken", "double", "echo", "half", "silent", "slow"]
        found = client.metadata("half")
        assert found.inputs == (TensorInfo(name="x", dtype="float16", shape=("x_0", "x_1")),)
        assert (found.versions, found.platform) == (("1",), "python")
        assert client.metadata("double").versions == ("1", "2")
        assert client.config("half")["parameters"] == {"refine_export.precision": {"string_value": "fp16"}}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_requests_that_are_refused(server, protocol):
    """At once: a wrong shape, type, name, model, version; a model that fails."""
    with opened(server, protocol) as client:
        started = time.monotonic()
        for arguments, code in (
            (("echo", {"x": X[0]}), "server-refused"),
            (("echo", {"x": X.astype(np.float64)}), "server-refused"),
            (("echo", {"x": X.astype(np.complex64)}), "server-refused"),
            (("echo", {"z": X}), "server-refused"),
            (("echo", {"x": X}, ["z"]), "server-refused"),
            (("broken", {"x": X}), "server-refused"),
            (("none", {"x": X}), "model-not-served"),
            (("echo", {"x": X}, None, "7"), "model-not-served"),
            (("echo", {"x": X}, None, "one"), "wrong-version"),
        ):
            with refused(code, RequestError):
                client.infer(*arguments)
        assert time.monotonic() - started < 40  # the patience is 60
        assert np.array_equal(client.infer("double", {"x": X})["y"], 3 * X)
        assert np.array_equal(client.infer("double", {"x": X}, version="1")["y"], 2 * X)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_port_of_the_other_protocol(server, protocol):
    other = {"grpc": server.http_url, "http": server.grpc_url}[protocol]
    options = ServerOptions(url=other, protocol=protocol, patience_s=0)
    with TritonClient(options) as client, refused("server-away", UnavailableError):
        client.models()


def test_a_stub_that_was_killed(server):
    """Every request fails until the model is loaded again; a client with patience goes on from there."""
    with opened(server, patience_s=0) as client, opened(server, "http") as patient:
        patient.infer("echo", {"x": X})
        [stub] = server.stubs("echo")
        os.kill(stub, signal.SIGKILL)
        eventually(lambda: not server.stubs("echo"))
        with refused("model-unhealthy", UnavailableError):
            client.infer("echo", {"x": X})
        repair = threading.Timer(0.3, server.reload, ["echo"])
        repair.start()
        assert np.array_equal(patient.infer("echo", {"x": X})["y"], X)
        repair.join()


@pytest.mark.parametrize(("protocol", "shared"), [("grpc", False), ("http", True)])
def test_a_model_that_is_unloaded_and_loaded_while_a_client_goes_on(server, protocol, shared):
    with opened(server, protocol, shared_memory=shared) as client:
        client.infer("echo", {"x": X})
        server.unload("echo")
        again = threading.Timer(0.3, server.load, ["echo"])
        again.start()
        assert np.array_equal(client.infer("echo", {"x": X + 1})["y"], X + 1)
        again.join()


def test_two_clients_at_once(server):
    """Answers are never mixed up."""
    wrong = []

    def ask(number, protocol, shared):
        with opened(server, protocol, shared_memory=shared) as client:
            for k in range(30):
                x = np.full((50, 60), 100 * number + k, np.float32)
                wrong.extend([number] * (not np.array_equal(client.infer("echo", {"x": x})["y"], x)))

    threads = [threading.Thread(target=ask, args=(k, *channel)) for k, channel in enumerate(CHANNELS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def set_timeout(client, seconds):
    client._disconnect()  # a connection keeps its own
    client.options = replace(client.options, timeout_s=seconds)


@pytest.mark.parametrize(("protocol", "shared"), CHANNELS)
def test_no_request_waits_for_ever(server, protocol, shared):
    """A model that answers None keeps a request open for ever; a slow one answers the next request all the same.

    The next one lies in the queue when the late answer is written. In the same memory, it would be written into its x.
    """
    wide, narrow = np.zeros((1, 64), np.float32), np.zeros((1, 2), np.float32)
    with opened(server, protocol, shared_memory=shared, patience_s=0) as client:
        for x in (wide, narrow, wide, narrow):  # from the second on, answers come through the memory too
            assert np.array_equal(client.infer("slow", {"x": x})["y"], x)
        started = time.monotonic()
        set_timeout(client, 0.4)
        with refused("server-slow", UnavailableError):
            client.infer("slow", {"x": narrow + 3})
        set_timeout(client, 30)
        assert np.array_equal(client.infer("slow", {"x": wide})["y"], wide)
        if not shared:
            set_timeout(client, 0.4)
            with refused("server-slow", UnavailableError, tried=1):
                client.infer("silent", {"x": X})
        assert time.monotonic() - started < 60


@pytest.mark.parametrize(("protocol", "shared"), [("grpc", True), ("http", False)])
def test_a_server_that_is_killed_and_started_again(server, protocol, shared):
    """Every answer is the one to its question, before, while and after."""
    with opened(server, protocol, shared_memory=shared, timeout_s=5) as client:
        client.infer("echo", {"x": X})

        def crash():
            server.kill()
            server.models = ("echo",)  # starts faster
            server.restart()

        crashed = threading.Timer(0.1, crash)
        crashed.start()
        number = 0
        while crashed.is_alive() or number < 20:
            number += 1
            assert np.array_equal(client.infer("echo", {"x": X + number})["y"], X + number)
            time.sleep(0.01)
