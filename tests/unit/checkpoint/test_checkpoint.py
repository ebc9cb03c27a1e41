"""A checkpoint loads strictly and safely, or is refused with a message that says what the file seems to be."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from refine_export.checkpoint.checkpoint import (
    DEMO_WEIGHTS,
    checkpoint_from_file,
    checkpoint_from_options,
    demo_checkpoint,
    describe,
    seeded_checkpoint,
)
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import SceneOptions
from refine_export.data.sample_scene import Scene
from refine_export.errors import CheckpointError
from refine_export.export.reference_network import graph_network, reference_network
from refine_export.support.manifest import sha256_of_file
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def weights():
    return {name: dict(seeded_checkpoint(name).state_dict) for name in ("IFNet", "IFNet_m", "refinement")}


@pytest.mark.parametrize("architecture", ["IFNet", "IFNet_m", "refinement"])
@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors", ".bin"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_loads_each_kind(tmp_path, weights, architecture, suffix, prefix):
    """The content decides, not the name; one leading `module.` is taken off."""
    path = tmp_path / f"weights{suffix}"
    state = {prefix + key: tensor for key, tensor in weights[architecture].items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    checkpoint = checkpoint_from_file(path)
    assert checkpoint.architecture == architecture
    assert checkpoint.source == path.name
    assert not checkpoint.seeded
    assert set(checkpoint.state_dict) == set(weights[architecture])
    assert all(torch.equal(checkpoint.state_dict[key], tensor) for key, tensor in weights[architecture].items())
    reference_network(checkpoint)


def test_formats_are_told_apart_by_more_than_a_byte(tmp_path):
    """A safetensors header whose length begins like a pickle, and a pickle whose ninth byte is a brace."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x180)
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert (tmp_path / "a.safetensors").read_bytes().startswith(b"\x80")
    with pytest.raises(CheckpointError, match="a state dict of something else: its 1 keys"):
        checkpoint_from_file(tmp_path / "a.safetensors")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps("{{{{{", protocol=2))
    assert (tmp_path / "b.pkl").read_bytes()[8:9] == b"{"
    with pytest.raises(CheckpointError, match="is a pickle|holds a str|can't be read"):
        checkpoint_from_file(tmp_path / "b.pkl")


def test_old_torch_format_and_half_precision(tmp_path, weights):
    path = tmp_path / "old.pkl"
    torch.save(
        {key: tensor.half() for key, tensor in weights["IFNet"].items()}, path, _use_new_zipfile_serialization=False
    )
    checkpoint = checkpoint_from_file(path)
    assert checkpoint.stored_dtype == "float16"
    assert all(tensor.dtype == torch.float32 for tensor in checkpoint.state_dict.values())


class Attack:
    def __reduce__(self):
        return (print, ("this code must never run",))


class System:
    def __reduce__(self):
        return (os.system, ("echo this code must never run",))


def compressed(content) -> bytes:
    """A torch archive, packed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return buffer.getvalue()


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def bad_files(state):
    """Name of the file, its bytes, what the message has to say."""
    tensors = {"a": torch.zeros(2)}
    four = {"block0.conv0.0.0.weight": torch.zeros(32, 7, 3, 3), "block3.lastconv.0.weight": torch.zeros(64, 24, 4, 4)}
    missing = {key: value for key, value in state.items() if not key.startswith("block_tea.")}
    extra = state | {f"more.{k}": torch.zeros(1) for k in range(13)}
    shaped = state | {"unet.conv.weight": torch.zeros(3, 8, 3, 3)}
    nan = state | {"unet.conv.bias": torch.tensor([0.0, float("nan"), 0.0])}
    whole = saved(state)
    jit = io.BytesIO()
    with zipfile.ZipFile(jit, "w") as archive:
        archive.writestr("net/constants.pkl", pickle.dumps(()))
        archive.writestr("net/data.pkl", pickle.dumps({}))
        archive.writestr("net/version", "3")
    return {
        "empty.pkl": (b"", "is empty"),
        "picture.pkl": (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a PNG picture"),
        "page.pth": (b"<!DOCTYPE html><html>404</html>" + b" " * 99, "looks like an HTML"),
        "pointer.pkl": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        "notes.pkl": (b"these are my notes, and no weights", "is text"),
        "noise.pkl": (bytes(range(200, 250)) * 5, "starts with the bytes"),
        "attack.pkl": (pickle.dumps(Attack()), "reading it could run code"),
        "attack.pth": (saved({"a": Attack()}), "reading it could run code"),
        "numpy.pkl": (pickle.dumps({"a": np.zeros(3)}), r"could run code \(it refers to numpy"),
        "system.pkl": (pickle.dumps(System(), protocol=2), r"could run code \(it refers to posix\.system\)"),
        "plain.pkl": (pickle.dumps({}), "is a pickle, but not one that torch.save wrote"),
        "sparse.pkl": (saved({"unet.conv.weight": torch.zeros(2, 2).to_sparse()}), "torch.sparse_coo"),
        "wide.pkl": (saved(state | {"unet.conv.bias": torch.zeros(1).expand(10**12)}), "instead of .3."),
        "huge.pkl": (saved(state | {"unet.conv.bias": torch.full((3,), 1e300, dtype=torch.float64)}), "infinite"),
        "eight.pkl": (saved({"unet.conv.weight": torch.zeros(2).to(torch.float8_e4m3fn)}), "expected dense weights"),
        "bomb.pth": (compressed(whole), "compressed zip archive"),
        "script.pt": (jit.getvalue(), "TorchScript archive"),
        "cut.pkl": (whole[: len(whole) // 2], "truncated or damaged"),
        "cut_old.pkl": (saved(state, _use_new_zipfile_serialization=False)[:-99], "truncated|damaged"),
        "cut.safetensors": ((300).to_bytes(8, "little") + b'{"a":', "truncated or damaged"),
        "list.pkl": (saved([torch.zeros(1)]), "holds a list; expected a state dict"),
        "nested.pkl": (saved({"epoch": 3, "state_dict": tensors}), "expected a state dict with tensors alone"),
        "integers.pkl": (saved({"a": torch.zeros(1, dtype=torch.int64)}), "torch.int64, .*expected dense weights"),
        "nothing.pkl": (saved({}), "holds no tensors"),
        "nan.pkl": (saved(nan), "unet.conv.bias has NaN"),
        "rife4.pkl": (saved(four), "looks like a RIFE 4.x checkpoint"),
        "resnet.pkl": (saved({"layer1.weight": torch.zeros(3)}), "a state dict of something else"),
        "missing.pkl": (saved(missing), r"32 missing: block_tea\.\S+(, block_tea\.\S+){9} and 22 more"),
        "extra.pkl": (saved(extra), r"13 unexpected: more\.0.* and 3 more"),
        "shape.pkl": (saved(shaped), r"unet\.conv\.weight \[3, 8, 3, 3\] instead of \[3, 16, 3, 3\]"),
        "twice.pkl": (saved({f"module.module.{key}": value for key, value in state.items()}), "something else"),
    }


BAD = list(bad_files({"unet.conv.weight": torch.zeros(1)}))


@pytest.mark.parametrize("name", BAD)
def test_refuses(tmp_path, weights, capfd, name):
    content, message = bad_files(weights["IFNet"])[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint_from_file(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1200
    assert "weights_only=False" not in str(caught.value)
    assert "must never run" not in capfd.readouterr().out


def test_refuses_paths_that_are_no_files(tmp_path):
    with pytest.raises(CheckpointError, match="is a directory; give the weights file itself"):
        checkpoint_from_file(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint_from_file(tmp_path / "absent.pkl")


def test_seeded_weights_are_a_function_of_the_seed():
    """Same seed, same bytes; the hash is pinned so that the embedded default never changes unseen."""
    one, same, other = seeded_checkpoint("IFNet"), seeded_checkpoint("IFNet", 0), seeded_checkpoint("IFNet", 1)
    assert one.sha256 == same.sha256 != other.sha256
    assert one.sha256 == "a87c06c3d5718760e39080d601e1c86a47c9c165246e6ea8c19ff819df533726"
    assert one.seeded
    assert "untrained" in one.source


def test_seeded_weights_are_well_scaled(references, pair_at):
    """Flows of some pixels, a residual that is a detail: nothing explodes or vanishes on the way."""
    pair = pair_at(256, 448)
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


def test_options_refuse():
    with pytest.raises(ValueError, match="seed is -1"):
        CheckpointOptions(seed=-1)
    with pytest.raises(ValueError, match="path is empty"):
        CheckpointOptions(path="")
    for seeded in ({"seed": 1}, {"architecture": "IFNet_m"}):
        with pytest.raises(ValueError, match="'seeded'"):
            CheckpointOptions(**seeded)


def test_the_demo_weights_are_in_the_package():
    """Without a path: IFNet_m in FP16 under 24 MB, read like any file, with the hash that the model card gives."""
    checkpoint = checkpoint_from_options(CheckpointOptions())
    assert checkpoint.architecture == "IFNet_m"
    assert checkpoint.stored_dtype == "float16"
    assert not checkpoint.seeded
    assert checkpoint.source == "demo weights (trained on drawn motion)"
    assert checkpoint.sha256 == sha256_of_file(DEMO_WEIGHTS)
    assert DEMO_WEIGHTS.stat().st_size < 24e6
    card = ROOT / "docs" / "demo_weights.md"
    assert checkpoint.sha256 in card.read_text(encoding="utf-8")


@pytest.mark.parametrize("seed", [1, 2])
def test_the_demo_weights_interpolate(seed):
    """On the sample scene with motion to 4 px the frame is at least 2 dB above the average of the two."""
    network = graph_network(reference_network(demo_checkpoint()), "interpolator_m")
    scene = Scene(SceneOptions(height=128, width=224, motion_px=4.0, seed=seed))
    img0, middle, img1 = (torch.from_numpy(scene.frame(t)) for t in (0.0, 0.5, 1.0))
    frame = network(img0, img1, torch.full((1, 1, 1, 1), 0.5))
    errors = [(made - middle).square().mean() for made in (frame, (img0 + img1) / 2)]
    assert 10 * torch.log10(errors[1] / errors[0]) >= 2


def test_describe(weights):
    described = describe(checkpoint_from_options(CheckpointOptions(weights="seeded", architecture="IFNet_m")))
    assert described["parameters"] == 10_710_780
    assert set(described["parts"]) == {"block0", "block1", "block2", "block_tea", "contextnet", "unet"}
    assert described["parts"]["unet"]["parameters"] == 2_957_875
    smallest = min(float(value.min()) for key, value in weights["IFNet_m"].items() if key.startswith("unet."))
    assert described["parts"]["unet"]["min"] == smallest
