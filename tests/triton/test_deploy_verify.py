"""`deploy verify` passes what is right and fails every planted fault, on a real server."""

import json
import math

import numpy as np
import pytest
from triton_server import CannotServeError, free_port

from refine_export.accuracy.metrics import Rounding
from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.repository import deploy_triton
from refine_export.deploy.verify import verify_frames, verify_networks
from refine_export.jobs import load_inputs
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.verify_server import verify_server
from refine_export.runners.base import Runner
from refine_export.signature import TensorInfo
from tests.support.deploy_files import CHECKPOINT, write_average
from tests.support.served_faults import exchange_inputs, exchange_outputs, gain_of, model_with, off_by

GAIN = 0.999  # no value lies halfway between two grey levels
RECIPE = Recipe(scene=SceneOptions(height=64, width=96, motion_px=4.0), frames=FramesOptions(scene_frames=2))


class Average(Runner):
    """In the place of the networks, which take seconds to export: the mean of both frames, weighted by the time."""

    backend, version, device, provider = "numpy", np.__version__, "cpu", "numpy"

    def __init__(self, reference, graph, dtype="float32"):
        assert graph == "interpolator"
        planes = [TensorInfo(name=name, dtype="float32", shape=("N", 3, "H", "W")) for name in ("img0", "img1")]
        self.inputs = (*planes, TensorInfo(name="timestep", dtype="float32", shape=("N", 1, 1, 1)))
        self.outputs = (TensorInfo(name="frame", dtype="float32", shape=("N", 3, "H", "W")),)

    def _run(self, feeds):
        time = feeds["timestep"]
        return {"frame": np.float32(GAIN) * (feeds["img0"] * (1 - time) + feeds["img1"] * time)}

    def roundings(self, precision, feed, expected):
        """Rounding costs an average nothing that counts, so the absolute limits hold."""
        yield {"frame": Rounding(max_of_peak=0.0, psnr_db=math.inf, feed=feed.name)}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    weights = Checkpoint(
        architecture="IFNet_m", source="weights.pkl", sha256=CHECKPOINT, state_dict={}, stored_dtype="float32"
    )
    monkeypatch.setattr(load_inputs, "checkpoint_from_options", lambda *_: weights)
    monkeypatch.setattr(load_inputs, "reference_network", lambda *_: None)
    monkeypatch.setattr(verify_networks, "Reference", Average)
    monkeypatch.setattr(verify_networks, "_sampling", lambda *_: ())  # it needs a network
    monkeypatch.setattr(verify_frames, "Reference", Average)


class Place:
    """A repository on a server; `faulty` plants a fault for the length of a block."""

    def __init__(self, folder, start):
        network = write_average(folder / "interpolator.onnx", gain=GAIN)
        self.repository = folder / "models"
        deploy_triton([network], self.repository, TritonOptions(device="cpu", sizes=("64x96",), threads=1, delay_us=0))
        self.server = start(self.repository)
        self._whole = {path: path.read_bytes() for path in self.repository.rglob("*") if path.is_file()}

    def change(self, model, file, edit):
        path = self.repository / model / file
        self._write(path, edit(self._whole[path]))

    def mend(self):
        for path, content in self._whole.items():
            if path.read_bytes() != content:
                self._write(path, content)

    def _write(self, path, content):
        path.write_bytes(content)
        self.server.unload("interpolate")
        self.server.unload(path.relative_to(self.repository).parts[0])
        self.server.load("interpolate")


@pytest.fixture(scope="module")
def place_of_module(triton_server, tmp_path_factory):
    made = Place(tmp_path_factory.mktemp("verify"), triton_server)
    yield made
    made.server.kill()  # an orderly end takes seconds


@pytest.fixture
def place(place_of_module):
    yield place_of_module
    place_of_module.mend()


def verified(place, **options):
    urls = (place.server.grpc_url, place.server.http_url)
    given = {"urls": urls, "requests": 0, "patience_s": 0} | options
    return verify_server(recipe=RECIPE, warm_up_sizes=True, **given)


def test_a_server_that_is_right_passes_over_every_channel(place):
    result = verified(place, shared_memory=True, requests=8, concurrencies=(1, 3))
    names = ["grpc", "grpc, shared memory", "http", "http, shared memory"]
    assert result.status == "passed", result.to_dict()
    assert list(result.channels) == names
    assert result.server == "triton 2.51.0"
    assert result.models["interpolator"]["checkpoint_sha256"] == CHECKPOINT
    counts = {
        name: [one.channel for one in result.answers if one.model == name] for name in ("interpolator", "interpolate")
    }
    assert [counts["interpolator"].count(name) for name in names] == [5] * 4  # 64x96 and two at once, twice; the probe
    assert [counts["interpolate"].count(name) for name in names] == [4] * 4  # 64x96 and 61x91, two times
    assert {one.feed for one in result.answers if "61x91" in one.feed}
    assert [(one.channel, one.concurrency) for one in result.loads] == [(name, k) for name in names for k in (1, 3)]
    for one in result.loads:
        assert (one.model, one.requests, one.errors, one.size) == ("interpolate", 8, 0, (64, 96))
        assert 0 < one.latency_ms["p50"] <= one.latency_ms["p90"] <= one.latency_ms["p99"] < 5000
        assert one.per_second == pytest.approx(8 / one.seconds)
    json.dumps(result.to_dict(), allow_nan=False)


FAULTS = {
    "other weights": ("interpolator", gain_of(0.99)),
    "inputs exchanged": ("interpolator", exchange_inputs),
    "one level, nearly everywhere": ("interpolate_post", off_by(1)),
    "frames exchanged": ("interpolate_pre", exchange_outputs),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_over_every_channel(place, fault):
    model, edit = FAULTS[fault]
    place.change(model, "1/model.onnx", model_with(edit))
    result = verified(place, requests=4)
    assert result.status == "failed"
    failed = [one for one in result.answers if one.status == "failed"]
    assert all(one.reasons for one in failed)
    assert {one.channel for one in failed} == {"grpc", "http"}
    expected = {"interpolator", "interpolate"} if model == "interpolator" else {"interpolate"}
    assert {one.model for one in failed} == expected
    assert not result.loads, "how fast a wrong answer comes does not matter"


def test_a_config_with_the_hash_of_other_weights(place):
    place.change("interpolator", "config.pbtxt", lambda text: text.replace(CHECKPOINT.encode(), b"d" * 64))
    result = verified(place)
    assert (result.status, result.answers) == ("failed", ())
    assert {one.what: one.status for one in result.shortfalls} == {"interpolator": "failed", "interpolate": "failed"}


def test_what_is_not_there_is_not_compared(place):
    place.server.unload("interpolate")
    try:
        result = verified(place)
        assert result.status == "not compared"
        assert all(one.status == "passed" for one in result.answers)
        assert [one.what for one in result.shortfalls] == ["interpolate"]
        assert verified(place, models=("interpolator",)).status == "passed"
        assert verified(place, models=("interpolator", "refine")).status == "not compared"
        assert verified(place, models=("interpolator",), version="7").status == "not compared"
    finally:
        place.server.load("interpolate")


def test_a_model_that_does_not_load_is_not_compared(place):
    place.server.unload("interpolate")
    place.server.unload("interpolator")
    path = place.repository / "interpolator" / "config.pbtxt"
    whole = path.read_text()
    path.write_text(whole + "no_such_field: 1\n")
    try:
        with pytest.raises(CannotServeError):
            place.server.load("interpolate")
        result = verified(place)
        assert (result.status, result.answers) == ("not compared", ())
        assert {one.what for one in result.shortfalls} == {"interpolate", "interpolator"}
    finally:
        path.write_text(whole)
        place.server.load("interpolate")


def test_the_command_line(place, command, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        "[scene]\nheight = 64\nwidth = 96\nmotion_px = 4.0\n[frames]\nscene_frames = 2\n[validate]\nsizes = []\n"
    )
    arguments = ["deploy", "verify", "--recipe", str(recipe), "--quiet", "--requests", "4", "--concurrency", "2"]
    urls = ["--url", place.server.http_url, "--url", place.server.grpc_url]

    code, out, _ = command(*arguments, *urls)
    assert (code, "18 of 18" in out) == (0, True)
    code, out, _ = command(*arguments, *urls, "--json")
    assert (code, json.loads(out)["loads"][0]["concurrency"]) == (0, 2)
    place.change("interpolate_post", "1/model.onnx", model_with(off_by(2)))
    assert command(*arguments, *urls, "--model", "interpolate", "--protocol", "grpc")[0] == 1
    assert command(*arguments, "--url", f"127.0.0.1:{free_port()}")[0] == 3
    assert command(*arguments, "--url", "nonsense")[0] == 2
