"""Videos through a real server, which is killed and started again meanwhile."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from interpolation_clips import assert_frames, averaging_model, numbered, read_clip, write_clip
from PIL import Image

from refine_export.deploy.options import TritonOptions
from refine_export.deploy.repository import deploy_triton
from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.interpolation.job import VideoOptions, interpolate_pictures, interpolate_video
from refine_export.interpolation.opened import ComputeOptions
from refine_export.runners.triton_client import ServerOptions

pytestmark = pytest.mark.triton
COUNT = 24


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "interpolator_m.onnx"
    onnx.save(averaging_model(), path)
    return path


@pytest.fixture(scope="module")
def server(network, triton_server):
    repository = network.parent / "models"
    deploy_triton([network], repository, TritonOptions(device="cpu", sizes=("64x96",), threads=1))
    return triton_server(repository, ["interpolate"])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "in.mp4"
    return write_clip(path, [numbered(number) for number in range(COUNT)], options={"crf": "8", "bf": "2"})


def compute_of(server, protocol="grpc", **options):
    return ComputeOptions(server=ServerOptions(url=server.url(protocol), protocol=protocol, **options), concurrency=3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched(ComputeOptions):
    """Calls `at` once, after so many requests."""

    after: int
    at: object
    count: object = dataclasses.field(default_factory=itertools.count)

    @contextmanager
    def open(self, stop=None):
        with super().open(stop) as interpolator:
            between = interpolator.between

            def counted(*arguments):
                if next(self.count) == self.after:
                    self.at()
                return between(*arguments)

            interpolator.between = counted
            yield interpolator


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_served_frame_is_the_local_one(server, network, tmp_path, protocol):
    noise = np.random.default_rng(0).integers(0, 256, (2, 50, 71, 3), dtype=np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, pixels in zip(paths, noise, strict=True):
        Image.fromarray(pixels).save(path)
    outputs = [tmp_path / "served.png", tmp_path / "local.png"]
    for output, compute in zip(outputs, (compute_of(server, protocol), ComputeOptions(file=network)), strict=True):
        interpolate_pictures(*paths, output, compute=compute, timestep=0.25)
    served, local = (np.asarray(Image.open(output)).astype(int) for output in outputs)
    assert served.shape == (50, 71, 3)
    assert np.abs(served - local).max() <= 1
    assert np.ptp(served) > 200


def test_the_server_is_killed_and_started_again_in_the_middle(server, source, tmp_path):
    """No frame is lost, doubled or out of order."""
    pid = server.pid

    def start_again():
        time.sleep(0.3)
        server.start()

    def kill():  # the requests of the other threads are under way
        server.kill()
        restarting.start()

    restarting = threading.Thread(target=start_again)
    options = {"timeout_s": 10, "patience_s": 60}
    plain = compute_of(server, **options)
    compute = Watched(server=plain.server, concurrency=3, after=12, at=kill)
    result = interpolate_video(source, tmp_path / "out.mp4", VideoOptions(times=3), compute=compute)
    restarting.join()
    assert server.pid != pid
    assert "triton" in result.computed_by
    assert_frames(read_clip(tmp_path / "out.mp4").pictures, COUNT, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_two_clients_at_once_get_each_its_own(server, source, tmp_path):
    failures = []

    def run(name, times):
        try:
            interpolate_video(source, tmp_path / name, VideoOptions(times=times), compute=compute_of(server))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(f"{times}.mp4", times)) for times in (2, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for times in (2, 4):
        assert_frames(read_clip(tmp_path / f"{times}.mp4").pictures, COUNT, times)


def test_what_the_server_refuses_is_said_with_its_words(server, tmp_path):
    for name, width in (("a.png", 40), ("b.png", 48)):
        Image.new("RGB", (width, 32)).save(tmp_path / name)
    with pytest.raises(FrameError, match="differ in size"):
        interpolate_pictures(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "out.png", compute=compute_of(server))
    server.unload("interpolate")
    try:
        with pytest.raises((RequestError, UnavailableError), match="interpolate"):
            interpolate_pictures(
                tmp_path / "a.png",
                tmp_path / "a.png",
                tmp_path / "out.png",
                compute=compute_of(server, patience_s=0.2),
            )
    finally:
        server.load("interpolate")
    assert not (tmp_path / "out.png").exists()


def test_a_server_that_is_killed_and_stays_away(server, source, tmp_path):
    """The last test: it leaves no server."""
    compute = Watched(
        server=compute_of(server, timeout_s=2, patience_s=0.5).server, concurrency=3, after=8, at=server.kill
    )
    with pytest.raises(UnavailableError, match="no answer from the grpc server") as caught:
        interpolate_video(source, tmp_path / "out.mp4", VideoOptions(times=2), compute=compute)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
