"""A served model as a runner: its version, names and shapes, and its answers."""

import numpy as np

from refine_export.errors import RequestError
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.runners.triton.triton_runner import TritonRunner
from refine_export.signature import SIGNATURES
from tests.support.http_server import OUTPUT, SERVER, X, inferred, page, served
from tests.support.refusals import refused


def tensors(*names, shape):
    return [{"name": name, "datatype": "FP32", "shape": shape} for name in names]


def answers(model, inputs, outputs, versions=("9", "10")):
    metadata = {"name": model, "versions": [*versions], "platform": "python", "inputs": inputs, "outputs": outputs}
    return {
        "/v2": page(SERVER),
        f"/v2/models/{model}": page(metadata),
        f"/v2/models/{model}/versions/10/config": page({"name": model, "max_batch_size": 1}),
        f"/v2/models/{model}/versions/10/infer": inferred([OUTPUT]),
    }


def options_of(server):
    return ServerOptions(url=server.url, protocol="http", timeout_s=60, patience_s=0)


def test_a_model_of_any_names_runs_in_its_newest_version():
    known = answers("m", tensors("x", shape=[-1]), tensors("y", shape=[12]))
    with served(lambda path: known[path]) as server, TritonRunner(options_of(server), "m") as runner:
        assert (runner.model_version, runner.version, runner.provider) == ("10", "2.51.0", "python over http")
        assert (runner.signature, runner.config["max_batch_size"]) == (None, 1)
        assert [info.shape for info in (*runner.inputs, *runner.outputs)] == [("x_0",), (12,)]
        assert np.array_equal(runner.run(X)["y"], X["x"])


def test_one_of_the_graphs_has_the_sizes_of_its_signature():
    signature = SIGNATURES["contextnet"]
    inputs, outputs = (tensors(*names, shape=[-1] * 4) for names in (signature.input_names, signature.output_names))
    known = answers("contextnet", inputs, outputs)
    with served(lambda path: known[path]) as server, TritonRunner(options_of(server), "contextnet") as runner:
        assert runner.signature is signature
        assert [info.shape for info in runner.inputs] == [spec.shape for spec in signature.inputs]


def test_a_model_without_a_version_that_is_ready_is_refused():
    known = answers("m", [], [], versions=())
    with served(lambda path: known[path]) as server, refused("model-not-served", RequestError, model="m"):
        TritonRunner(options_of(server), "m")
