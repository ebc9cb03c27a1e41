"""A state dict is recognised by its keys and shapes: every RIFE 4.x, HDv3, and IFNet_2R where the user says so."""

import functools
import json

import pytest
import torch

from refine_export.checkpoint.checkpoint import checkpoint_from_file
from refine_export.checkpoint.recognition import expected_shapes
from refine_export.errors import CheckpointError
from refine_export.export.reference_network import (
    graphs_of,
    reference_network,
    signature_of_checkpoint,
    signature_of_network,
)
from refine_export.jobs.inspect_file import inspect
from tests.support.formula_weights import formula_weights
from tests.support.paths import TESTS
from tests.support.refusals import refused

SHAPES = json.loads((TESTS / "golden" / "networks" / "keys.json").read_text())
RIFE4 = [name for name in SHAPES if name.startswith("rife4")]


@functools.cache
def weights_of(name):
    """Return the weights by formula of a network; not to be changed."""
    return formula_weights(SHAPES[name])


@pytest.fixture
def saved(tmp_path):
    def save(weights):
        torch.save(weights, tmp_path / "flownet.pkl")
        return tmp_path / "flownet.pkl"

    return save


@pytest.mark.parametrize("name", [*RIFE4, "hdv3"])
def test_each_network_loads_from_its_own_file(saved, name):
    checkpoint = checkpoint_from_file(saved(weights_of(name)))
    assert checkpoint.architecture == ("HDv3" if name == "hdv3" else "RIFE 4")
    assert set(reference_network(checkpoint).state_dict()) == set(SHAPES[name])


def test_what_only_training_needs_is_left_out_and_named(saved):
    weights = weights_of("rife4_6")
    teacher = {f"block_tea.{key.partition('.')[2]}": value for key, value in weights.items() if "block1." in key}
    checkpoint = checkpoint_from_file(saved(weights | teacher))
    assert checkpoint.unused == ("block_tea",)
    assert set(checkpoint.state_dict) == set(weights)


def test_the_refinement_of_rife_4_0_is_used_unless_it_is_turned_off(saved):
    shapes = SHAPES["rife4_0"] | {key: list(shape) for key, shape in expected_shapes("refinement").items()}
    path = saved(formula_weights(shapes))
    assert graphs_of(checkpoint_from_file(path)) == ("refine", "contextnet", "unet", "interpolator")
    fast = checkpoint_from_file(path, refine=False)
    assert (graphs_of(fast), fast.unused) == (("interpolator",), ("contextnet", "unet"))


def test_ifnet_2r_is_ifnet_unless_the_user_says_so(saved):
    path = saved(weights_of("ifnet_2r"))
    assert checkpoint_from_file(path).architecture == "IFNet"
    assert checkpoint_from_file(path, variant="IFNet_2R").architecture == "IFNet_2R"


def test_a_variant_that_does_not_fit_the_keys(saved):
    with refused("wrong-variant", CheckpointError):
        checkpoint_from_file(saved(weights_of("rife4_6")), variant="IFNet_2R")


def blocks(*names):
    return {f"block{number}.{name}": torch.zeros(1) for number in range(4) for name in names}


@pytest.mark.parametrize(
    "older",
    [
        {key: value for key, value in weights_of("hdv3").items() if "convblock3" not in key},  # 3.5
        blocks("conv0.0.0.weight", "convblock.0.0.weight", "conv1.weight"),  # HDv2, to 3.1
        blocks("conv0.0.weight", "res0.conv1.0.weight", "conv1.weight"),  # HD
    ],
)
def test_rife_3_5_and_older_are_refused_by_name(saved, older):
    with refused("unsupported-network", CheckpointError):
        checkpoint_from_file(saved(older))


def test_inspect_says_that_ifnet_may_be_ifnet_2r(saved):
    assert any("IFNet_2R" in note for note in inspect(saved(weights_of("ifnet_2r"))).notes)
    assert inspect(saved(weights_of("hdv3"))).notes == ()


def test_shapes_that_do_not_fit_each_other(saved):
    misshapen = torch.zeros(192, 193, 3, 3)  # no number of groups makes these
    weights = weights_of("rife4_6") | {"block0.convblock.0.conv.weight": misshapen}
    with refused("wrong-keys", CheckpointError, missing=[]):
        checkpoint_from_file(saved(weights))


KEYS = ("block0.conv0.1.0.weight", "block1.conv0.0.0.weight", "block2.conv0.0.0.bias", "encode.cnn3.weight")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (name, key)
        for name in ("rife4_0", "rife4_6", "rife4_22", "rife4_25", "hdv3")
        for key in KEYS
        if key in SHAPES[name]
    ],
)
def test_a_missing_key_and_a_changed_shape_are_named(saved, name, key):
    weights = weights_of(name)
    with pytest.raises(CheckpointError) as missing:
        checkpoint_from_file(saved({one: value for one, value in weights.items() if one != key}))
    with pytest.raises(CheckpointError) as misshapen:
        checkpoint_from_file(saved(weights | {key: weights[key][:-1]}))
    assert missing.value.code == misshapen.value.code == "wrong-keys"
    assert key in str(missing.value)


@pytest.mark.parametrize(
    ("name", "scale", "multiple_of"),
    [("rife4_6", 1, 32), ("rife4_25", 1, 64), ("rife4_25", 0.5, 128), ("rife4_25_lite", 0.25, 512), ("hdv3", 2, 32)],
)
def test_the_padding_and_the_scale_are_in_the_signature(saved, name, scale, multiple_of):
    checkpoint = checkpoint_from_file(saved(weights_of(name)))
    signature = signature_of_checkpoint(checkpoint, "interpolator", scale)
    assert (signature.multiple_of, signature.scale) == (multiple_of, scale)
    network = reference_network(checkpoint, scale)
    assert signature_of_network(network, "interpolator") == signature
    img0, img1 = torch.rand(2, 1, 3, multiple_of, multiple_of)
    frame = network.interpolate(img0, img1).frame
    assert scale == 1 or not torch.equal(frame, reference_network(checkpoint).interpolate(img0, img1).frame)
