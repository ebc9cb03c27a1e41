"""From weights through ONNX and a real server to frames, without any stand-in."""

import numpy as np
import pytest
from PIL import Image

import refine_export as rx
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.images import uint8_from_frame
from refine_export.data.sample_scene import Scene
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.verify_server import verify_server
from refine_export.support.manifest import sha256_of_file

SMALL = Recipe(scene=SceneOptions(height=64, width=96, motion_px=4.0), frames=FramesOptions(scene_frames=2))
CHANNELS = ["grpc", "grpc, shared memory", "http", "http, shared memory"]


@pytest.fixture(scope="module")
def weights(exports):
    return exports.network("rife4_0")[0]


@pytest.fixture(scope="module")
def repository(tmp_path_factory, exports):
    models = tmp_path_factory.mktemp("whole") / "models"
    rx.deploy_triton([exports.network("rife4_0")[1]], output=models, device="cpu", sizes=("64x96",))
    return models


@pytest.fixture(scope="module")
def server(repository, triton_server):
    made = triton_server(repository)
    yield made
    made.kill()  # an orderly end takes seconds


def picture_of(path):
    return np.asarray(Image.open(path)).astype(int)


def test_the_server_answers_as_torch_does(server, weights):
    """Both models over four channels: the size of the warm-up, two pairs at once, and a size that needs padding."""
    urls = (server.grpc_url, server.http_url)
    result = verify_server(
        checkpoint=weights, recipe=SMALL, urls=urls, warm_up_sizes=True, shared_memory=True, requests=0
    )
    assert result.status == "passed", result.to_dict()
    assert result.models["interpolator"]["checkpoint_sha256"] == sha256_of_file(weights)
    feeds = {
        name: {one.feed for one in result.answers if one.model == name} for name in ("interpolator", "interpolate")
    }
    assert any(feed.split(",")[0].endswith(" 2x96x160") for feed in feeds["interpolator"]), feeds
    assert any(feed.startswith("61x91") for feed in feeds["interpolate"]), feeds
    for name, of_model in feeds.items():
        found = sorted((one.channel, one.feed) for one in result.answers if one.model == name)
        assert found == sorted((channel, feed) for channel in CHANNELS for feed in of_model)


def test_a_frame_of_an_odd_size_is_that_of_torch(server, weights, tmp_path, command):
    """Within one grey level, and not just the average of the two."""
    scene = Scene(SceneOptions(height=77, width=123, motion_px=6.0))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, time in zip(paths, (0.0, 1.0), strict=True):
        Image.fromarray(uint8_from_frame(scene.frame(time))).save(path)
    for name, by in (("served.png", ("--server", server.grpc_url)), ("local.png", ("--checkpoint", weights))):
        assert command("interpolate", *paths, "-o", tmp_path / name, *by, "--timestep", "0.3")[0] == 0
    served, local = picture_of(tmp_path / "served.png"), picture_of(tmp_path / "local.png")
    assert served.shape == (77, 123, 3)
    assert np.abs(served - local).max() <= 1
    average = 0.7 * picture_of(paths[0]) + 0.3 * picture_of(paths[1])
    assert np.abs(served - average).max() > 30
