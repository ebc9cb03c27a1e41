"""Networks without a timestep and with another padding on a real server; test_deploy_whole.py has RIFE 4.0."""

import pytest

import refine_export as rx
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.verify_server import verify_server
from refine_export.validate.validate_options import ValidateOptions

RECIPE = Recipe(
    scene=SceneOptions(height=60, width=90, motion_px=4.0),
    frames=FramesOptions(sample="scene", scene_frames=2),
    validate=ValidateOptions(sizes=()),
)


@pytest.mark.parametrize(
    ("name", "takes_timestep", "fed"),
    [("hdv3", False, "64x96"), ("rife4_26_heavy", True, "64x128")],
)
def test_a_network_is_served_as_torch_computes_it(name, takes_timestep, fed, triton_server, exports, tmp_path):
    """The network itself and the ensemble, which pads pictures to multiples of 32, or of 64 for RIFE 4.26."""
    checkpoint, onnx = exports.network(name)
    rx.deploy_triton([onnx], output=tmp_path / "models", device="cpu", sizes=(fed,))
    server = triton_server(tmp_path / "models")
    try:
        result = verify_server(
            checkpoint=checkpoint, recipe=RECIPE, urls=(server.grpc_url, server.http_url), requests=0
        )
    finally:
        server.kill()  # an orderly end takes seconds
    assert result.status == "passed", result.to_dict()["shortfalls"]
    feeds = {
        model: [one.feed for one in result.answers if one.model == model] for model in ("interpolator", "interpolate")
    }
    assert any(feed.startswith("60x90") for feed in feeds["interpolate"]), feeds
    assert any(f" {fed}" in feed for feed in feeds["interpolator"]), feeds
    assert takes_timestep == any("timestep" in feed for feed in feeds["interpolator"])
