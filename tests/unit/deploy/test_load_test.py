"""A load test counts right answers, wrong ones and failures, over several clients at once."""

import threading

import numpy as np
import pytest

from refine_export.deploy.verify import load_test
from refine_export.deploy.verify.load_test import LoadRequest, measure_load
from refine_export.errors import UnavailableError
from refine_export.runners.triton.connection_options import ServerOptions


class FakeClient:
    """Returns its input; fails for the input 13."""

    def __init__(self, options):
        assert options.patience_s == 0, "a retry would hide a failure"

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        pass

    def infer(self, model, inputs, version=""):
        sent.append((threading.get_ident(), inputs["x"].item()))
        if inputs["x"] == 13:
            raise UnavailableError("no answer", code="server-away")
        return {"y": inputs["x"]}


sent = []


@pytest.fixture(autouse=True)
def client(monkeypatch):
    sent.clear()
    monkeypatch.setattr(load_test, "TritonClient", FakeClient)


def load_request(number, right=True):
    return LoadRequest(inputs={"x": np.array(number)}, why_wrong=lambda answer: None if right else "wrong")


def measured(*requests, concurrency=2, count=6):
    options = ServerOptions(url="localhost:1", patience_s=60)
    return measure_load(options, "m", "", requests, (64, 96), concurrency=concurrency, requests=count)


def test_right_and_wrong_answers():
    load = measured(load_request(1), load_request(2, right=False))
    assert (load.requests, load.errors, load.reason) == (3, 3, "wrong")
    assert set(load.latency_ms) == {"p50", "p90", "p95", "p99", "mean"}
    assert load.per_second == pytest.approx(3 / load.seconds)
    assert len(sent) == 6 + 2 * load_test.WARM_UPS


def test_each_client_begins_with_another_request():
    measured(load_request(1), load_request(2), load_request(3), concurrency=3, count=3)
    assert sorted(number for _, number in sent) == sorted([1, 2, 1, 2, 3, 2, 3, 1, 3])


def test_clients_that_fail_do_not_block_the_others():
    load = measured(load_request(13))
    assert (load.requests, load.errors, load.latency_ms, load.per_second) == (0, 2, {}, 0.0)
    load = measured(load_request(1), load_request(2), load_request(13), concurrency=1, count=3)
    assert (load.requests, load.errors) == (2, 1)
