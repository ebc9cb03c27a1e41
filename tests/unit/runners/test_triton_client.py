"""The client of a Triton server: what is asked again, for how long, and what is said when it stays in vain."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from refine_export.errors import InternalError, RequestError, UnavailableError
from refine_export.runners.triton import client as triton_client
from refine_export.runners.triton.client import ServedTensor, ServerOptions, TritonClient
from refine_export.runners.triton.transport import Answer, WireError
from tests.support.triton_fixture import eventually
from tests.support.triton_models import BROKEN, ECHO, SILENT, SLOW, add_model

X = np.arange(12, dtype=np.float32).reshape(3, 4)
CHANNELS = [("grpc", False), ("http", False), ("grpc", True), ("http", True)]


class Clock:
    """Time that passes when one pauses."""

    def __init__(self):
        self.now, self.pauses = 100.0, []

    def __call__(self):
        return self.now

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


class Wire:
    """Fails as it is told to, then answers."""

    def __init__(self, failures):
        self.failures, self.asked, self.closed = failures, 0, 0

    def infer(self, model, version, inputs, outputs):
        self.asked += 1
        if self.failures:
            raise WireError(self.failures.pop(0), "as it is told")
        return Answer(shapes={"y": (3, 4)}, dtypes={"y": "float32"}, arrays={"y": inputs["x"][0]})

    def close(self):
        self.closed += 1


@pytest.fixture
def clock():
    return Clock()


def client_of(monkeypatch, wire, clock, **options):
    monkeypatch.setattr(triton_client, "connect", lambda protocol, url, timeout_s: wire)
    return TritonClient(ServerOptions(url="host:1", **options), clock=clock, pause=clock.pause)


@pytest.mark.parametrize("failure", ["away", "slow", "unhealthy"])
def test_what_passes_is_asked_again_with_growing_pauses(monkeypatch, clock, failure):
    wire = Wire([failure] * 6)
    with client_of(monkeypatch, wire, clock, patience_s=60) as client:
        assert np.array_equal(client.infer("m", {"x": X})["y"], X)
    assert wire.asked == 7
    expected = triton_client.FIRST_PAUSE_S * 2.0 ** np.arange(6)
    assert np.all(expected / 2 <= clock.pauses)
    assert np.all(np.array(clock.pauses) <= expected)
    assert len(set(np.round(np.array(clock.pauses) / expected, 6))) > 1  # jitter: clients do not come back at once


def test_pauses_stop_growing(monkeypatch, clock):
    with client_of(monkeypatch, Wire(["away"] * 20), clock, patience_s=600) as client:
        client.infer("m", {"x": X})
    assert max(clock.pauses) <= triton_client.LONGEST_PAUSE_S
    assert min(clock.pauses[-5:]) >= triton_client.LONGEST_PAUSE_S / 2


def test_patience_ends(monkeypatch, clock):
    wire = Wire(["away"] * 1000)
    with client_of(monkeypatch, wire, clock, patience_s=10) as client, pytest.raises(UnavailableError) as caught:
        client.infer("m", {"x": X})
    assert clock.now == pytest.approx(110.0)  # and not earlier
    assert all(part in str(caught.value) for part in ("host:1", "for m", "in 10 s", "as it is told", "start it"))
    assert 5 < wire.asked < 30


def test_without_patience_it_is_asked_once(monkeypatch, clock):
    wire = Wire(["slow"] * 5)
    with (
        client_of(monkeypatch, wire, clock, patience_s=0, timeout_s=7) as client,
        pytest.raises(UnavailableError, match="asked once: .*in 7 s"),
    ):
        client.infer("m", {"x": X})
    assert (wire.asked, clock.pauses) == (1, [])


def test_a_refusal_is_final(monkeypatch, clock):
    wire = Wire(["refused"])
    with client_of(monkeypatch, wire, clock) as client, pytest.raises(RequestError, match="as it is told"):
        client.infer("m", {"x": X})
    assert wire.asked == 1


def test_a_model_is_waited_for_only_if_it_was_there(monkeypatch, clock):
    wire = Wire(["unknown"])
    with client_of(monkeypatch, wire, clock) as client:
        with pytest.raises(RequestError, match="does not have m"):
            client.infer("m", {"x": X})
        client.infer("m", {"x": X})
        wire.failures = ["unknown", "unknown"]
        client.infer("m", {"x": X})
        assert wire.asked == 5
        wire.failures = ["unknown"]
        with pytest.raises(RequestError, match="does not have other"):
            client.infer("other", {"x": X})


def test_the_connection_is_made_anew_after_a_loss(monkeypatch, clock):
    wire = Wire(["away", "unhealthy", "slow"])
    with client_of(monkeypatch, wire, clock) as client:
        client.infer("m", {"x": X})
        assert wire.closed == 2
    assert wire.closed == 3


def test_an_answer_that_is_not_tritons_is_final(monkeypatch, clock):
    """And so is its connection."""
    wire = Wire(["strange"])
    with client_of(monkeypatch, wire, clock) as client:
        with pytest.raises(UnavailableError, match="the answer of host:1 for m is not Triton's .as it is told.: look"):
            client.infer("m", {"x": X})
        assert (wire.asked, wire.closed, clock.pauses) == (1, 1, [])
        client.infer("m", {"x": X})


def test_a_client_belongs_to_one_thread(monkeypatch, clock):
    """HTTP's sockets are bound to the thread that opened them."""
    caught = []

    def ask():
        try:
            client.infer("m", {"x": X})
        except InternalError as error:
            caught.append(str(error))

    with client_of(monkeypatch, Wire([]), clock) as client:
        client.infer("m", {"x": X})
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert caught == ["a TritonClient was used by two threads; each has to make its own"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "http://host:1"}, "HOST:PORT"),
        ({"url": "host"}, "HOST:PORT"),
        ({"url": "host:x"}, "HOST:PORT"),
        ({"url": "a:1", "protocol": "ftp"}, "grpc or http"),
        ({"url": "a:1", "timeout_s": 0}, "above 0"),
        ({"url": "a:1", "timeout_s": float("nan")}, "above 0"),
        ({"url": "a:1", "patience_s": -1}, "from 0"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(RequestError, match=said):
        ServerOptions(**options)


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


@pytest.mark.triton
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


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_a_server_says_of_its_models(server, protocol):
    with opened(server, protocol, patience_s=0) as client:
        assert client.server() == "triton 2.51.0"
        assert client.models() == ["broken", "double", "echo", "half", "silent", "slow"]
        found = client.metadata("half")
        assert found.inputs == (ServedTensor(name="x", dtype="float16", shape=(None, None)),)
        assert (found.versions, found.platform) == (("1",), "python")
        assert client.metadata("double").versions == ("1", "2")
        assert client.config("half")["parameters"] == {"refine_export.precision": {"string_value": "fp16"}}
        assert [client.ready("echo"), client.ready("echo", "1"), client.ready("echo", "2"), client.ready("no")] == [
            True,
            True,
            False,
            False,
        ]


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_requests_that_are_refused(server, protocol):
    """At once, with the server's words: a wrong shape, type, name, model, version; a model that fails."""
    with opened(server, protocol) as client:
        started = time.monotonic()
        for arguments, said in (
            (("echo", {"x": X[0]}), "unexpected shape.*got \\[4\\]"),
            (("echo", {"x": X.astype(np.float64)}), "FP64"),
            (("echo", {"x": X.astype(np.complex64)}), "no type for"),
            (("echo", {"z": X}), "unexpected inference input 'z'"),
            (("echo", {"x": X}, ["z"]), "unexpected inference output 'z'"),
            (("none", {"x": X}), "does not have none: .*unknown model"),
            (("echo", {"x": X}, None, "7"), "does not have echo: .*version 7 is not found"),
            (("echo", {"x": X}, None, "one"), "version is 'one'"),
            (("broken", {"x": X}), "no such thing"),
        ):
            with pytest.raises(RequestError, match=said):
                client.infer(*arguments)
        assert time.monotonic() - started < 2
        assert np.array_equal(client.infer("double", {"x": X})["y"], 3 * X)
        assert np.array_equal(client.infer("double", {"x": X}, version="1")["y"], 2 * X)


@pytest.mark.triton
def test_a_port_that_nobody_listens_on():
    from triton_server import free_port

    url = f"127.0.0.1:{free_port()}"
    for protocol in ("grpc", "http"):
        options = ServerOptions(url=url, protocol=protocol, patience_s=0.3)
        with TritonClient(options) as client, pytest.raises(UnavailableError) as caught:
            client.infer("echo", {"x": X})
        assert url in str(caught.value)
        assert "refused" in str(caught.value)
        assert "in 0.3 s" in str(caught.value)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_port_of_the_other_protocol(server, protocol):
    other = {"grpc": server.http_url, "http": server.grpc_url}[protocol]
    options = ServerOptions(url=other, protocol=protocol, patience_s=0)
    with TritonClient(options) as client, pytest.raises(UnavailableError, match=f"its {protocol} port"):
        client.models()


@pytest.mark.triton
def test_a_stub_that_was_killed(server):
    """Every request fails until the model is loaded again; a client with patience goes on from there."""
    with opened(server, patience_s=0) as client, opened(server, "http") as patient:
        patient.infer("echo", {"x": X})
        [stub] = server.stubs("echo")
        os.kill(stub, signal.SIGKILL)
        eventually(lambda: not server.stubs("echo"))
        with pytest.raises(UnavailableError, match="not healthy.*unload the model and load it"):
            client.infer("echo", {"x": X})
        repair = threading.Timer(0.3, server.reload, ["echo"])
        repair.start()
        assert np.array_equal(patient.infer("echo", {"x": X})["y"], X)
        repair.join()


@pytest.mark.triton
@pytest.mark.parametrize(("protocol", "shared"), [("grpc", False), ("http", True)])
def test_a_model_that_is_unloaded_and_loaded_while_a_client_goes_on(server, protocol, shared):
    with opened(server, protocol, shared_memory=shared) as client:
        client.infer("echo", {"x": X})
        server.unload("echo")
        again = threading.Timer(0.3, server.load, ["echo"])
        again.start()
        assert np.array_equal(client.infer("echo", {"x": X + 1})["y"], X + 1)
        again.join()


@pytest.mark.triton
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


@pytest.mark.triton
@pytest.mark.parametrize(("protocol", "shared"), CHANNELS)
def test_no_request_waits_for_ever(server, protocol, shared):
    """A model that answers None keeps a request open for ever; a slow one answers the next request all the same.

    The next one lies in the queue when the late answer is written. In the same memory, it would be written into its x.
    """
    wide, narrow = np.zeros((1, 64), np.float32), np.zeros((1, 2), np.float32)
    with opened(server, protocol, shared_memory=shared, timeout_s=0.4, patience_s=0) as client:
        for x in (wide, narrow, wide, narrow):  # from the second on, answers come through the memory too
            assert np.array_equal(client.infer("slow", {"x": x})["y"], x)
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="did not answer in 0.4 s"):
            client.infer("slow", {"x": narrow + np.float32(0.5)})
        assert np.array_equal(client.infer("slow", {"x": wide})["y"], wide)
        if not shared:
            with pytest.raises(UnavailableError, match="for silent, asked once"):
                client.infer("silent", {"x": X})
        assert time.monotonic() - started < 3


@pytest.mark.triton
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
