"""The client of a Triton server: what is asked again, for how long, and the error when it stays in vain."""

import numpy as np
import pytest

from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.triton import client as module
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.runners.triton.transport import Answer, ConnectionFailure
from tests.support.refusals import refused

X = np.arange(12, dtype=np.float32).reshape(3, 4)


class Clock:
    """Time that passes when one pauses."""

    def __init__(self):
        self.now, self.pauses = 100.0, []

    def __call__(self):
        return self.now

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


class Failing:
    """A connection with the failures of a list, then with an answer."""

    def __init__(self, failures):
        self.failures, self.asked, self.closed = failures, 0, 0

    def infer(self, model, version, inputs, outputs):
        self.asked += 1
        if self.failures:
            raise ConnectionFailure(self.failures.pop(0), "as chosen")
        return Answer(layouts={"y": ("float32", (3, 4))}, arrays={"y": inputs["x"]})

    def close(self):
        self.closed += 1


@pytest.fixture
def clock():
    return Clock()


def client_of(monkeypatch, connection, clock, **options):
    monkeypatch.setattr(module, "Connection", lambda options: connection)
    return TritonClient(ServerOptions(url="host:1", **options), clock=clock, pause=clock.pause)


@pytest.mark.parametrize("failure", ["away", "slow", "unhealthy"])
def test_a_failure_that_passes_is_asked_again_with_growing_pauses(monkeypatch, clock, failure):
    connection = Failing([failure] * 6)
    with client_of(monkeypatch, connection, clock, patience_s=60) as client:
        assert np.array_equal(client.infer("m", {"x": X})["y"], X)
    assert connection.asked == 7
    expected = module.FIRST_PAUSE_S * 2.0 ** np.arange(6)
    assert np.all(expected / 2 <= clock.pauses)
    assert np.all(np.array(clock.pauses) <= expected)
    assert len(set(np.round(np.array(clock.pauses) / expected, 6))) > 1  # jitter


def test_pauses_stop_growing(monkeypatch, clock):
    with client_of(monkeypatch, Failing(["away"] * 20), clock, patience_s=600) as client:
        client.infer("m", {"x": X})
    assert max(clock.pauses) <= module.LONGEST_PAUSE_S
    assert min(clock.pauses[-5:]) >= module.LONGEST_PAUSE_S / 2


@pytest.mark.parametrize(
    ("failure", "code"), [("away", "server-away"), ("slow", "server-slow"), ("unhealthy", "model-unhealthy")]
)
def test_patience_ends(monkeypatch, clock, failure, code):
    connection = Failing([failure] * 1000)
    with client_of(monkeypatch, connection, clock, patience_s=10) as client, pytest.raises(UnavailableError) as caught:
        client.infer("m", {"x": X})
    assert clock.now == pytest.approx(110.0)  # and not earlier
    assert (caught.value.code, caught.value.fields) == (code, {"url": "host:1", "tried": connection.asked})
    assert 5 < connection.asked < 30


@pytest.mark.parametrize(
    ("failure", "options", "error", "code", "closed"),
    [
        ("slow", {"patience_s": 0}, UnavailableError, "server-slow", 1),
        ("refused", {}, RequestError, "server-refused", 0),
        ("foreign", {}, UnavailableError, "not-triton", 1),  # and so is its connection
    ],
)
def test_failures_that_are_final(monkeypatch, clock, failure, options, error, code, closed):
    connection = Failing([failure] * 2)
    with client_of(monkeypatch, connection, clock, **options) as client:
        with pytest.raises(error) as caught:
            client.infer("m", {"x": X})
        assert (caught.value.code, connection.asked, connection.closed, clock.pauses) == (code, 1, closed, [])
        connection.failures.clear()
        client.infer("m", {"x": X})


def test_a_model_is_waited_for_only_if_it_was_there(monkeypatch, clock):
    connection = Failing(["unknown"])
    with client_of(monkeypatch, connection, clock) as client:
        with refused("model-not-served", RequestError, model="m"):
            client.infer("m", {"x": X})
        client.infer("m", {"x": X})
        connection.failures = ["unknown", "unknown"]
        client.infer("m", {"x": X})
        assert connection.asked == 5
        connection.failures = ["unknown"]
        with pytest.raises(RequestError):
            client.infer("other", {"x": X})


def test_the_connection_is_made_anew_after_a_loss(monkeypatch, clock):
    connection = Failing(["away", "unhealthy", "slow"])
    with client_of(monkeypatch, connection, clock) as client:
        client.infer("m", {"x": X})
        assert connection.closed == 2
    assert connection.closed == 3
