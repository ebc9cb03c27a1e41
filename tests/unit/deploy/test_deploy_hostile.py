"""What a server says of its networks decides on nothing that it should not: sizes, ranks and types are checked."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest

from refine_export.deploy.verify.channels import channels_of
from refine_export.deploy.verify.server_models import MOST_PIXELS, find_models, served_from_runner
from refine_export.errors import UnavailableError
from refine_export.runners.triton.client import ServerOptions
from refine_export.runners.triton.triton_runner import TritonRunner
from refine_export.signature import SIGNATURES
from tests.support.http_server import SERVER, page, served

GRAPH = "interpolator_m"
CONFIG = {"name": GRAPH, "max_batch_size": 8, "parameters": {"refine_export.precision": {"string_value": "fp32"}}}


def network(*sizes, shape=(-1, 3, -1, -1), datatype="FP32"):
    """Metadata and config of a network that is warmed up at sizes."""
    signature = SIGNATURES[GRAPH]

    def tensors(specs):
        shapes = {spec.name: [-1, 1, 1, 1] if spec.name == "timestep" else [*shape] for spec in specs}
        return [{"name": name, "datatype": datatype, "shape": shape} for name, shape in shapes.items()]

    metadata = {
        "name": GRAPH,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": tensors(signature.inputs),
        "outputs": tensors(signature.outputs),
    }
    warm_ups = [
        {"name": "a", "inputs": {"img0": {"data_type": "TYPE_FP32", "dims": ["3", str(height), str(width)]}}}
        for height, width in sizes
    ]
    return {
        "/v2": page(SERVER),
        f"/v2/models/{GRAPH}": page(metadata),
        f"/v2/models/{GRAPH}/versions/1/config": page({**CONFIG, "model_warmup": warm_ups}),
        "/v2/repository/index": page([{"name": GRAPH, "version": "1", "state": "READY"}]),
    }


@contextmanager
def options_of(answers):
    with served(lambda path: answers[path]) as server:
        yield ServerOptions(url=server.url, protocol="http", timeout_s=5, patience_s=0)


def test_sizes_that_a_server_names_are_checked():
    """They decide on the memory that this machine takes."""
    wrong = [(33, 97), (0, 0), (-32, -32), (10**9, 10**9), (16384, 16384)]
    right = [(64, 96), (2176, 3840)]
    with options_of(network(*wrong, *right)) as options, TritonRunner(options, GRAPH) as runner:
        found = served_from_runner(runner)
    assert found.sizes == tuple(right)
    assert MOST_PIXELS == 2176 * 3840
    for height, width in wrong:
        assert [f"is warmed up at {height}x{width}, which is left out: " in note for note in found.notes].count(
            True
        ) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shape": ()}, "shape \\[\\]; interpolator_m has 4 dimensions"),
        ({"shape": (1,)}, "4 dimensions"),
        ({"shape": (1, 3, 0, 0)}, "0x0"),
        ({"shape": (1, 3, 10**9, 10**9)}, "1000000000x1000000000"),
        ({"shape": (1, 3, 8192, 8192)}, "67108864 pixels"),
        ({"shape": (1, 3, 33, -1)}, "33x32"),
        ({"shape": (10**9, 3, -1, -1)}, "1000000000 pairs"),
        ({"datatype": "FOO"}, "FOO; expected float32"),
        ({"datatype": "BYTES"}, "object; expected float32"),
    ],
)
def test_a_network_that_can_not_be_fed_is_not_compared(given, said):
    with options_of(network(**given)) as options:
        found = find_models(options, (), "")
    assert found.networks == ()
    [missing] = found.missing
    assert missing.status == "not compared"
    assert re.search(said, missing.reason)


def test_a_web_server_is_no_channel():
    with served(page(b"<html>")) as server, pytest.raises(UnavailableError, match="no Triton server answers at"):
        channels_of([server.url], ("http", "grpc"), ServerOptions(url=server.url), shared_memory=False)
