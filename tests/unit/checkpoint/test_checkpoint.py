"""A checkpoint loads strictly, or is refused; the weights of this package and the seeded ones are what they are."""

import pytest
import torch
from safetensors.torch import save_file

from refine_export.checkpoint import checkpoint as checkpoint_module
from refine_export.checkpoint.checkpoint import (
    checkpoint_description,
    checkpoint_from_file,
    checkpoint_from_options,
    seeded_checkpoint,
)
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.errors import CheckpointError
from refine_export.export.reference_network import reference_network


@pytest.fixture(scope="module")
def weights():
    return {name: dict(seeded_checkpoint(name).state_dict) for name in ("IFNet", "IFNet_m", "refinement")}


def refused(state, path):
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        checkpoint_from_file(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1200
    return caught.value


@pytest.mark.parametrize(
    ("architecture", "name", "prefix"),
    [
        ("IFNet", "weights.pkl", ""),
        ("IFNet", "weights.safetensors", "module."),
        ("IFNet_m", "weights.bin", "module._orig_mod."),
        ("refinement", "weights.pth", ""),
        ("refinement", "weights.pth", "_orig_mod.module."),
        ("refinement", "weights.pth", "module.module."),
        ("refinement", "weights.pth", "flownet."),
    ],
)
def test_loads_each_architecture(tmp_path, weights, architecture, name, prefix):
    """The content decides, not the name; names of wrappers before the keys are removed."""
    path = tmp_path / name
    state = {prefix + key: tensor for key, tensor in weights[architecture].items()}
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    checkpoint = checkpoint_from_file(path)
    assert (checkpoint.architecture, checkpoint.source, checkpoint.seeded) == (architecture, name, False)
    assert set(checkpoint.state_dict) == set(weights[architecture])
    assert all(torch.equal(checkpoint.state_dict[key], tensor) for key, tensor in weights[architecture].items())
    reference_network(checkpoint)


def test_half_precision_becomes_fp32(tmp_path, weights):
    path = tmp_path / "half.pkl"
    torch.save({key: tensor.half() for key, tensor in weights["refinement"].items()}, path)
    checkpoint = checkpoint_from_file(path)
    assert checkpoint.stored_dtype == "float16"
    assert all(tensor.dtype == torch.float32 for tensor in checkpoint.state_dict.values())


def test_state_dicts_of_other_networks(tmp_path, weights):
    assert refused({"layer1.weight": torch.zeros(3)}, tmp_path / "resnet.pkl").code == "unknown-network"
    assert refused({"a": torch.zeros(3)}, tmp_path / "one.pkl").code == "unknown-network"


def test_a_part_that_was_compiled_alone(tmp_path, weights):
    state = {key.replace("unet.", "unet._orig_mod."): tensor for key, tensor in weights["refinement"].items()}
    torch.save(state, tmp_path / "w.pth")
    assert set(checkpoint_from_file(tmp_path / "w.pth").state_dict) == set(weights["refinement"])


def test_keys_have_to_fit(tmp_path, weights):
    state = weights["IFNet"]
    without = {key: value for key, value in state.items() if not key.startswith("block_tea.")}
    more = without | {f"more.{k}": torch.zeros(1) for k in range(13)} | {"unet.conv.weight": torch.zeros(3, 8, 3, 3)}
    error = refused(more, tmp_path / "w.pkl")
    assert error.code == "wrong-keys"
    assert error.fields["missing"] == [key for key in state if key.startswith("block_tea.")]
    assert error.fields["unexpected"] == [f"more.{k}" for k in range(13)]
    assert error.fields["misshapen"] == ["unet.conv.weight [3, 8, 3, 3] instead of [3, 16, 3, 3]"]
    wide = state | {"unet.conv.bias": torch.zeros(1).expand(10**12)}  # has to be refused before it is copied
    assert refused(wide, tmp_path / "wide.pkl").fields["misshapen"]


@pytest.mark.parametrize("value", [float("nan"), 1e300])
def test_values_have_to_be_finite_in_fp32(tmp_path, weights, value):
    state = weights["refinement"] | {"unet.conv.bias": torch.full((3,), value, dtype=torch.float64)}
    error = refused(state, tmp_path / "w.pkl")
    assert (error.code, error.fields["key"]) == ("not-finite", "unet.conv.bias")


def test_seeded_weights_are_a_function_of_the_seed():
    """The hash is pinned: reports and figures of seeded weights are comparable between versions and machines."""
    one, same, other = seeded_checkpoint("IFNet"), seeded_checkpoint("IFNet", 0), seeded_checkpoint("IFNet", 1)
    assert one.sha256 == same.sha256 != other.sha256
    assert one.sha256 == "a87c06c3d5718760e39080d601e1c86a47c9c165246e6ea8c19ff819df533726"
    assert one.seeded


def test_seeded_weights_are_well_scaled(references, pair_at):
    """Flows of some pixels, a residual that is a detail: nothing explodes or vanishes on the way."""
    pair = pair_at(64, 96)
    with torch.no_grad():
        network = references("IFNet")
        img0, img1 = torch.from_numpy(pair.img0), torch.from_numpy(pair.img1)
        motion = network.motion(img0, img1)
        result = network(torch.cat((img0, img1), 1))
    assert 0.5 < motion.flow.abs().max() < 100
    assert motion.flow.std() > 0.1
    assert 0.02 < result.frame.std() < 0.5
    for features in network.contextnet(img0, motion.flow[:, :2]):
        assert 0.05 < features.std() < 5


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"path": ""}, {"seed": 1}, {"architecture": "IFNet_m"}])
def test_options_that_contradict_each_other(wrong):
    with pytest.raises(ValueError, match="^(seed|path)"):
        CheckpointOptions(**wrong)


def test_without_a_path_released_weights_are_fetched(tmp_path, weights, monkeypatch):
    asked = []

    def fetched(name, progress):
        asked.append(name)
        torch.save(weights["refinement"], tmp_path / "w.pkl")
        return tmp_path / "w.pkl"

    monkeypatch.setattr(checkpoint_module, "weights_path", fetched)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hdv3").mkdir()  # `export --checkpoint hdv3 --output hdv3` makes it first
    assert checkpoint_from_options(CheckpointOptions()).source == "w.pkl"
    assert checkpoint_from_options(CheckpointOptions(path="hdv3")).source == "w.pkl"
    assert asked == ["rife-4.0", "hdv3"]


def test_describe(weights):
    described = checkpoint_description(
        checkpoint_from_options(CheckpointOptions(weights="seeded", architecture="IFNet_m"))
    )
    assert described["parameters"] == 10_710_780
    assert set(described["parts"]) == {"block0", "block1", "block2", "block_tea", "contextnet", "unet"}
    assert described["parts"]["unet"]["parameters"] == 2_957_875
    smallest = min(float(value.min()) for key, value in weights["IFNet_m"].items() if key.startswith("unet."))
    assert described["parts"]["unet"]["min"] == smallest
