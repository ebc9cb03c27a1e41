"""What `lower` calibrates with: feeds of a size, feeds of the user, and which are refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.foreign import foreign_model, grid_input_model, model_of
from tests.support.lower_files import here_fixture, refused_fixture, run_fixture, saved, tiny  # noqa: F401 (fixtures)


def test_sizes(refused, run, here):
    """A foreign file of free sizes needs one, a multiple of 32; what no size can tell needs feeds."""
    path = saved(foreign_model())
    refused(path, "-o", "out.onnx", words=("img0 is ['batch', 3, 'height', 'width']", "--size HxW", "--calibrate"))
    refused(path, "-o", "out.onnx", "--size", "100x200", words=("'100x200'", "multiples of 32, such as 96x192"))
    refused(path, "-o", "out.onnx", "--size", "big", words="expected HEIGHTxWIDTH, such as 1088x1920")
    assert run(path, "-o", "out.onnx", "--size", "64x96")[0] == 0
    grid = saved(grid_input_model(), "grid.onnx")
    refused(grid, "-o", "new.onnx", "--size", "64x96", words=("g is ['N', 'H', 'W', 2]", "--calibrate FILE.npz"))


def test_inputs_of_several_sizes(run, here):
    """A grid, and a picture that is wider and lower than the other, get feeds of their own shape."""
    model = model_of(
        'a = GridSample <padding_mode="border", align_corners=1> (x, g) b = GlobalAveragePool (z) y = Add (a, b)',
        "float[1,3,64,96] x, float[1,64,96,2] g, float[1,3,32,128] z",
        "float[1,3,64,96] y",
    )
    assert run(saved(model), "-o", "out.onnx")[0] == 0


def test_an_input_that_no_feed_can_be_made_for(refused):
    """Whole numbers can mean anything."""
    model = model_of(
        'h = Cast <to = 1> (n) b = Mul (x, h) y = GridSample <padding_mode="border", align_corners=1> (b, g)',
        "float[1,3,64,96] x, float[1,64,96,2] g, int64[1] n",
        "float[1,3,64,96] y",
    )
    refused(saved(model), "-o", "out.onnx", words=("n is int64", "give feeds with --calibrate"))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def npz(name: str = "feed.npz", **changes) -> str:
    """The feed of `tiny`, with other arrays in it, or without those that are None."""
    arrays = {"x": image(), "g": np.zeros((1, 16, 24, 2), np.float32)} | changes
    np.savez(name, **{key: array for key, array in arrays.items() if array is not None})
    return name


def damaged(**member: bytes) -> None:
    """A zip file with such members."""
    with zipfile.ZipFile("feed.npz", "w") as file:
        for name, content in member.items():
            file.writestr(name.replace("_npy", ".npy"), content)


def image(**change) -> np.ndarray:
    array = np.random.default_rng(0).random((1, 3, 16, 24)).astype(change.get("dtype", np.float32))
    if "value" in change:
        array[0, 1, 3, 4] = change["value"]
    return array


HEADER = b"\x93NUMPY\x01\x00\x20\x00{'descr': '<f4', 'fortran_order'"


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: Path("feed.npz").mkdir(),
        lambda: Path("feed.npz").write_bytes(pickle.dumps(Evil())),
        lambda: one_array(),
        lambda: flipped(),
        lambda: damaged(x=b"a", g=b"b"),
        lambda: damaged(x_npy=HEADER, g_npy=HEADER),
        lambda: npz(x=np.full((1, 3, 16, 24), Evil(), object)),
        lambda: np.savez("feed.npz"),
        lambda: npz(x=image(value=np.inf)),
        lambda: npz(x=image(dtype=np.float64, value=1e300)),
        lambda: npz(x=image()[0]),
    ],
)
def test_feeds_that_are_refused(refused, here, make):
    """Each fault of an .npz is an error before lowering; nothing that is pickled in one is run."""
    make()
    refused(saved(tiny()), "-o", "out.onnx", "--calibrate", "feed.npz", words="feed.npz")
    assert not Path("pwned").exists()


def npz_bytes() -> bytes:
    return Path(npz()).read_bytes()


def one_array() -> None:
    np.save("one.npy", image())
    Path("one.npy").rename("feed.npz")


def flipped() -> None:
    content = bytearray(npz_bytes())
    content[1000] ^= 1
    Path("feed.npz").write_bytes(content)


def test_feeds(run, here):
    """Several files, of other number types, calibrate together: the largest values of any decide."""
    path = saved(tiny())
    npz("first.npz", x=image(dtype=np.float64))
    npz("second.npz", x=(image() * 6e4).astype(np.float16))
    assert run(path, "-o", "mild.onnx", "--calibrate", "first.npz")[0] == 0
    code, _, err = run(path, "-o", "both.onnx", "--calibrate", "first.npz", "--calibrate", "second.npz")
    assert code == 0, err
    assert "calibrate: 2 feeds" in err
    mild, both = (json.loads(Path(f"{name}.onnx.json").read_text())["details"]["nodes"] for name in ("mild", "both"))
    reasons = [node["reason"] for node in both if "on the calibration feeds; FP16 ends at 65504" in node["reason"]]
    assert reasons
    assert not any("calibration feeds" in node["reason"] for node in mild)
