"""RIFE 4.x, HDv3 and IFNet_2R against what upstream computes with weights that are a formula of the key."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from rife.hdv3 import HDv3
from rife.ifnet_2r import IFNet_2R
from rife.rife4 import Rife4, Rife4Config
from tests.support.formula_weights import formula_weights, smooth_image
from tests.support.paths import TESTS

GOLDEN = TESTS / "golden" / "networks"
SHAPES = json.loads((GOLDEN / "keys.json").read_text())
RIFE4 = [name for name in SHAPES if name.startswith("rife4")]
TOLERANCE = 1e-4
"""Of the largest magnitude: convolution kernels of other processors sum in another order."""


def frames(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return smooth_image("aimg0", size), smooth_image("aimg1", size)


def rife4(name: str, scale: float = 1.0) -> Rife4:
    network = Rife4(Rife4Config.from_shapes(SHAPES[name]), scale)
    network.load_state_dict(formula_weights(SHAPES[name]), strict=True)
    return network.eval().requires_grad_(False)


def assert_golden(actual: torch.Tensor, expected: np.ndarray) -> None:
    assert np.abs(actual.numpy() - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("name", RIFE4)
def test_rife4_computes_what_upstream_computes(name):
    network = rife4(name)
    with np.load(GOLDEN / f"{name}.npz") as golden:
        size = golden["t0.5"].shape[-1]
        assert_golden(network(*frames(size)).frame, golden["t0.5"])
        timestep = torch.full((1, 1, 1, 1), 0.3)
        assert_golden(network(*frames(size), timestep).frame, golden["t0.3"])


def test_hdv3_computes_what_upstream_computes():
    network = HDv3().eval().requires_grad_(False)
    network.load_state_dict(formula_weights(SHAPES["hdv3"]), strict=True)
    result = network(*frames(64))
    with np.load(GOLDEN / "hdv3.npz") as golden:
        assert_golden(result.flow, golden["flow"])
        assert_golden(result.frame, golden["frame"])


def test_ifnet_2r_computes_what_upstream_computes():
    network = IFNet_2R().eval().requires_grad_(False)
    network.load_state_dict(formula_weights(SHAPES["ifnet_2r"]), strict=True)
    result = network(torch.cat(frames(64), 1))
    with np.load(GOLDEN / "ifnet_2r.npz") as golden:
        assert_golden(result.flow, golden["flow"])
        assert_golden(result.frame, golden["frame"])


@pytest.mark.parametrize("name", RIFE4)
def test_the_config_gives_back_the_shapes_that_it_was_read_from(name):
    with torch.device("meta"):
        network = Rife4(Rife4Config.from_shapes(SHAPES[name]))
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == SHAPES[name]


@pytest.mark.parametrize(
    ("name", "scale", "multiple"),
    [
        ("rife4_6", 1.0, 32),
        ("rife4_6", 0.5, 64),
        ("rife4_6", 0.25, 128),
        ("rife4_6", 2.0, 32),
        ("rife4_25", 1.0, 64),
        ("rife4_25", 0.5, 128),
        ("rife4_25", 2.0, 64),
        ("rife4_26_heavy", 1.0, 64),
        ("rife4_25_lite", 1.0, 128),
        ("rife4_25_lite", 0.5, 256),
    ],
)
def test_the_padding_is_upstreams(name, scale, multiple):
    with torch.device("meta"):
        network = Rife4(Rife4Config.from_shapes(SHAPES[name]), scale)
    assert network.multiple_of == multiple


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_scale_divides_those_of_the_blocks(scale):
    network = rife4("rife4_6", scale)
    assert network.scales == tuple(whole / scale for whole in (8, 4, 2, 1))
    frame = network(*frames(network.multiple_of)).frame
    assert frame.isfinite().all()
    assert not torch.equal(frame, rife4("rife4_6")(*frames(network.multiple_of)).frame)


def test_a_batch_is_computed_pair_by_pair():
    network, (img0, img1) = rife4("rife4_25"), frames(64)
    timesteps = torch.tensor([0.3, 0.5]).reshape(2, 1, 1, 1)
    both = network(torch.cat((img0, img1)), torch.cat((img1, img0)), timesteps).frame
    torch.testing.assert_close(both[:1], network(img0, img1, 0.3).frame, rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1:], network(img1, img0, 0.5).frame, rtol=0, atol=1e-5)


def test_the_refinement_belongs_to_a_file_that_has_it():
    shapes = SHAPES["rife4_0"] | {
        f"{part}.{key}": list(value.shape)
        for part, module in (("contextnet", IFNet_2R().contextnet), ("unet", IFNet_2R().unet))
        for key, value in module.state_dict().items()
    }
    config = Rife4Config.from_shapes(shapes)
    assert config.refined
    with torch.device("meta"):
        assert set(Rife4(config).state_dict()) == set(shapes)
        assert not hasattr(Rife4(dataclasses.replace(config, refined=False)), "unet")
