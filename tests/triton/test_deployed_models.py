"""A real Triton server loads what `deploy triton` writes, and answers as the same file does here."""

import json
import threading
import urllib.request

import numpy as np
import onnxruntime
import pytest
from triton_server import CannotServeError

from refine_export.data.images import FramePair, cropped, padded, uint8_from_frame
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.repository import deploy_triton
from refine_export.errors import RequestError
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from tests.support.deploy_files import write_average, write_declared, write_plan

KINDS = {
    "dynamic": ({}, {"threads": 1, "delay_us": 200_000}),
    "python, FP16": ({"dtype": "float16"}, {"backend": "python"}),
    "static": ({"timestep": False, "size": (64, 96), "batch": 1}, {}),
}


class Place:
    """A server on a repository of one network, and the same file here."""

    def __init__(self, folder, start, made, options):
        self.file = write_average(folder / "m.onnx", **made)
        self.timed = made.get("timestep", True)
        self.dtype = np.dtype(made.get("dtype", "float32").replace("float16", "f2"))
        folder = folder / "models"
        deploy_triton([self.file], folder, TritonOptions(sizes=("64x96",), device="cpu", **options))
        self.server = start(folder)
        self._session = onnxruntime.InferenceSession(str(self.file))

    def client(self):
        return TritonClient(ServerOptions(url=self.server.grpc_url, timeout_s=20, patience_s=1))

    def ask(self, frames, timestep=0.25, ready=lambda: None):
        inputs = {"frame0": frames[0], "frame1": frames[1]}
        if self.timed:
            inputs["timestep"] = np.float32([timestep])
        with self.client() as client:
            client.metadata("interpolate")
            ready()
            return client.infer("interpolate", inputs)["frame"]

    def counts(self):
        """How many pairs the network has computed, and in how many batches."""
        with urllib.request.urlopen(f"http://{self.server.http_url}/v2/models/interpolator/stats") as answer:
            [stats] = json.load(answer)["model_stats"]
        return stats["inference_count"], stats["execution_count"]

    def expected(self, frames, timestep=0.25):
        arrays = [np.moveaxis(frame.astype(np.float32) / np.float32(255), -1, 0)[None] for frame in frames]
        pair = padded(FramePair("pair", *arrays), 32)
        feeds = {"img0": pair.img0.astype(self.dtype), "img1": pair.img1.astype(self.dtype)}
        if self.timed:
            feeds["timestep"] = np.full((1, 1, 1, 1), timestep, np.float32)
        [frame] = self._session.run(["frame"], feeds)
        return uint8_from_frame(cropped(frame, frames[0].shape[:2]))


@pytest.fixture(scope="module")
def places(triton_server, tmp_path_factory):
    known = {}

    def get(kind):
        if kind not in known:
            made, options = KINDS[kind]
            known[kind] = Place(tmp_path_factory.mktemp("served"), triton_server, made, options)
        return known[kind]

    yield get
    for place in known.values():
        place.server.kill()  # an orderly end takes seconds


def pictures(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)]


def levels_apart(one, other):
    return np.abs(one.astype(int) - other).max()


@pytest.mark.parametrize("kind", KINDS)
def test_two_pictures_of_an_odd_size(places, kind):
    place = places(kind)
    frames = pictures(45, 77)
    assert levels_apart(place.ask(frames, 0.3), place.expected(frames, 0.3)) <= 1
    for size in [(64, 96), (33, 65)]:
        assert levels_apart(place.ask(pictures(*size)), place.expected(pictures(*size))) <= 1


def test_requests_are_batched_and_each_client_gets_its_own_answer(places):
    place = places("dynamic")
    asked = {number: pictures(40, 50, seed=number) for number in range(6)}
    answers, together, before = {}, threading.Barrier(len(asked)), place.counts()

    def ask(number):
        answers[number] = place.ask(asked[number], number / 10, together.wait)

    threads = [threading.Thread(target=ask, args=(number,)) for number in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, frames in asked.items():
        assert levels_apart(answers[number], place.expected(frames, number / 10)) <= 1
    pairs, batches = (after - one for after, one in zip(place.counts(), before, strict=True))
    assert pairs == len(asked)
    assert batches < pairs


@pytest.mark.parametrize(("kind", "sizes"), [("dynamic", [(40, 50), (40, 51)]), ("static", [(65, 96), (65, 96)])])
def test_pictures_that_do_not_fit_are_refused(places, kind, sizes):
    place = places(kind)
    with pytest.raises(RequestError):
        place.ask([pictures(*size)[0] for size in sizes])
    fitting = pictures(64, 96)
    assert levels_apart(place.ask(fitting), place.expected(fitting)) <= 1


def test_configs_of_plans_pass_the_servers_own_check(triton_server, tmp_path):
    """It has no backend for them, and reports that only for a config that it accepts."""
    half = write_average(tmp_path / "h.onnx", dtype="float16")
    static = write_declared(tmp_path / "s.onnx", "contextnet", size=(64, 96), batch=1)
    plans = [
        write_plan(tmp_path / "a.plan", half),
        write_plan(tmp_path / "b.plan", half, capability=(8, 9)),
        write_plan(tmp_path / "s.plan", static, None),
    ]
    folder = tmp_path / "models"
    deploy_triton(plans, folder, TritonOptions(version_policy="all"))
    server = triton_server(folder, [])
    for model in ("interpolator", "contextnet"):
        with pytest.raises(CannotServeError, match="400 .*unable to find backend library for backend 'tensorrt'"):
            server.load(model)
    server.kill()
