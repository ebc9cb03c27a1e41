"""`load_network`: a module that makes frames, and clear errors for what it cannot take."""

import json

import numpy as np
import pytest
import torch

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.errors import RequestError
from refine_export.export.reference_network import reference_network
from refine_export.jobs.load_network import load_network
from tests.support.formula_weights import formula_weights, smooth_image
from tests.support.paths import TESTS
from tests.support.refusals import refused

FRAMES = torch.rand(2, 2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for architecture in ("IFNet", "IFNet_m", "refinement"):
        torch.save(dict(seeded_checkpoint(architecture).state_dict), folder / f"{architecture}.pkl")
    return folder


def test_frames_at_any_time(folder):
    network = load_network(folder / "IFNet_m.pkl")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert (network.multiple_of, network.takes_timestep) == (32, True)
    reference = reference_network(seeded_checkpoint("IFNet_m"))
    times = torch.tensor([0.2, 0.7]).reshape(2, 1, 1, 1)
    expected = reference(torch.cat(tuple(FRAMES), 1), timestep=times).frame
    torch.testing.assert_close(network(*FRAMES, times), expected)
    assert network(*FRAMES).shape == FRAMES[0].shape
    torch.testing.assert_close(network(*FRAMES), network(*FRAMES, 0.5))


def test_the_middle_frame(folder):
    network = load_network(folder / "IFNet.pkl")
    expected = reference_network(seeded_checkpoint("IFNet"))(torch.cat(tuple(FRAMES), 1)).frame
    torch.testing.assert_close(network(*FRAMES), expected)
    assert not network.takes_timestep


def test_hdv3_gives_what_the_inference_of_upstreams_model_gives(tmp_path):
    """`Model.inference(img0, img1)` of CogVideo's demo; its files have the keys of DistributedDataParallel."""
    shapes = json.loads((TESTS / "golden" / "networks" / "keys.json").read_text())["hdv3"]
    weights = {f"module.{key}": value for key, value in formula_weights(shapes).items()}
    torch.save(weights, tmp_path / "flownet.pkl")
    network = load_network(tmp_path / "flownet.pkl")
    frame = network(smooth_image("aimg0", 64), smooth_image("aimg1", 64))
    with np.load(TESTS / "golden" / "networks" / "hdv3.npz") as golden:
        assert np.abs(frame.numpy() - golden["frame"]).max() <= 1e-4 * np.abs(golden["frame"]).max()
    other = torch.zeros(1, 3, 64, 64, device="meta")  # nothing of the network stays on the CPU
    assert network.to("meta").graph(other, other).device.type == "meta"


@pytest.mark.parametrize(
    ("weights", "call", "code"),
    [
        ("IFNet", lambda network: network(*FRAMES, 0.2), "wrong-timestep"),
        ("IFNet_m", lambda network: network(*FRAMES, 1.5), "wrong-timestep"),
        ("IFNet_m", lambda network: network(*FRAMES, float("nan")), "wrong-timestep"),
        ("IFNet_m", lambda network: network(*(FRAMES * 255).byte()), "wrong-type"),
        ("IFNet_m", lambda network: network(*FRAMES, torch.rand(3, 1, 1, 1)), "wrong-shape"),
        ("IFNet", lambda network: network(FRAMES[0, 0], FRAMES[1, 0]), "wrong-shape"),
        ("IFNet", lambda network: network(FRAMES[0], FRAMES[1, :1]), "wrong-shape"),
        ("IFNet", lambda network: network(*FRAMES[..., :63, :]), "wrong-size"),
    ],
)
def test_wrong_calls(folder, weights, call, code):
    with refused(code, RequestError):
        call(load_network(folder / f"{weights}.pkl"))


def test_a_refinement_alone_makes_no_frames(folder):
    with refused("graph-not-in-weights", RequestError):
        load_network(folder / "refinement.pkl")
