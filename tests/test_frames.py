"""Frames: any picture that Pillow reads, padded and cropped without loss, or a clear refusal."""

import numpy as np
import pytest
from PIL import Image

from refine_export.errors import FrameError
from refine_export.frames import at_size, cropped, padded, pair_from_arrays, pair_from_files, uint8_from_frame


@pytest.fixture
def picture(tmp_path):
    def make(name, size=(60, 40), mode="RGB", **options):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3), np.uint8)
        path = tmp_path / name
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return make


def test_pixels_come_back_exactly(picture):
    """uint8 -> [0, 1] -> uint8 is the identity."""
    first, second = picture("a.png"), picture("bb.png")
    pair = pair_from_files(first, second)
    assert (pair.img0.dtype, pair.img0.shape, pair.size) == (np.float32, (1, 3, 40, 60), (40, 60))
    assert np.array_equal(uint8_from_frame(pair.img0), np.asarray(Image.open(first)))
    assert np.array_equal(uint8_from_frame(pair.img1), np.asarray(Image.open(second)))
    assert pair.name == "a.png and bb.png"


@pytest.mark.parametrize(
    ("name", "mode"), [("g.png", "L"), ("p.png", "P"), ("a.png", "RGBA"), ("c.jpg", "CMYK"), ("w.webp", "RGB")]
)
def test_any_picture_becomes_rgb(picture, name, mode):
    path = picture(name, mode=mode)
    assert pair_from_files(path, path).img0.shape == (1, 3, 40, 60)


def test_sixteen_bits_of_grey_are_kept(tmp_path):
    grey = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    pair = pair_from_files(tmp_path / "grey.png", tmp_path / "grey.png")
    assert np.allclose(pair.img0[0, 1], grey / 65535, atol=1e-6)


def test_orientation_is_applied(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture("turned.jpg", exif=exif)
    assert pair_from_files(path, path).size == (60, 40)


@pytest.mark.parametrize("size", [(16, 16), (33, 31), (64, 96), (256, 447)])
def test_padding_and_cropping_are_inverse(size):
    pair = pair_from_arrays("x", *np.random.default_rng(0).random((2, 1, 3, *size), np.float32))
    whole = padded(pair)
    assert all(side % 32 == 0 and side - old < 32 for side, old in zip(whole.size, size, strict=True))
    assert np.array_equal(cropped(whole.img0, size), pair.img0)
    assert np.array_equal(whole.img1[0, :, -1, : size[1]], pair.img1[0, :, -1])


@pytest.mark.parametrize("size", [(40, 200), (16, 24), (300, 50), (40, 60)])
def test_another_size_keeps_the_pixels(size):
    """Cropped or mirrored: every pixel is one of the original's, in place where both have it."""
    pair = pair_from_arrays("x", *np.random.default_rng(0).random((2, 1, 3, 40, 60), np.float32))
    other = at_size(pair, size)
    assert other.size == size
    height, width = min(40, size[0]), min(60, size[1])
    assert np.array_equal(cropped(other.img0, (height, width)), cropped(pair.img0, (height, width)))
    assert set(np.unique(other.img0)) <= set(np.unique(pair.img0))


def test_nan_is_shown():
    frame = np.full((1, 3, 4, 4), 0.5, np.float32)
    frame[0, 1, 2, 3] = np.nan
    assert uint8_from_frame(frame)[2, 3].tolist() == [255, 0, 255]


def test_refuses(tmp_path, picture):
    good = picture("good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    picture("long.png", (16400, 2))
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    for bad, message in (
        ("absent.png", "does not exist"),
        ("", "is a directory"),
        ("empty.png", "no picture that can be read"),
        ("text.png", "no picture that can be read"),
        ("cut.png", "damaged"),
        ("long.png", "long.png is 16400x2; expected at most 16384 pixels a side"),
        ("float.tiff", "has pixels of 32 bits without a range"),
        ("program.eps", "no picture that can be read"),
        (picture("wide.png", (99, 40)).name, r"differ in size: good.png is 60x40, wide.png is 99x40"),
    ):
        with pytest.raises(FrameError, match=message):
            pair_from_files(good, tmp_path / bad)


def test_a_decompression_bomb_is_refused(monkeypatch, picture):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = picture("bomb.png")
    with pytest.raises(FrameError, match="is refused"):
        pair_from_files(path, path)
