"""Frames: any picture that Pillow reads, padded and cropped without loss, or a clear refusal."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refine_export.data.images import (
    at_size,
    cropped,
    frame_from_file,
    labels_of,
    padded,
    pair_from_arrays,
    size_of_file,
    uint8_from_frame,
)
from refine_export.errors import FrameError


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
    path, said = picture("a.png"), []
    frame = frame_from_file(path, said.append)
    assert (frame.dtype, frame.shape) == (np.float32, (1, 3, 40, 60))
    assert np.array_equal(uint8_from_frame(frame), np.asarray(Image.open(path)))
    assert said == []


@pytest.mark.parametrize(
    ("name", "mode", "note"),
    [
        ("g.png", "L", "grey is given to all three channels"),
        ("p.png", "P", "the colours of a palette become RGB"),
        ("a.png", "RGBA", "its alpha channel is left out"),
        ("ga.png", "LA", "grey is given to all three channels, its alpha channel is left out"),
        ("c.jpg", "CMYK", "CMYK becomes RGB"),
        ("w.webp", "RGB", None),
        ("b.bmp", "RGB", None),
        ("t.tiff", "RGB", None),
    ],
)
def test_any_picture_becomes_rgb(picture, name, mode, note):
    """And what is lost or made up on the way is said."""
    path, said = picture(name, size=(300, 40), mode=mode), []
    assert frame_from_file(path, said.append, "the folder").shape == (1, 3, 40, 300)
    assert said == ([] if note is None else [f"the folder: {note}."])


def png_of_sixteen_bits(path: Path, colour_type: int, channels: int, value: int) -> Path:
    """4 by 3 pixels of one value, which Pillow can't write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">H", value) * 4 * channels for _ in range(3))
    header = struct.pack(">IIBBBBB", 4, 3, 16, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize(
    ("colour_type", "channels", "said_of_bits"), [(0, 1, False), (2, 3, True), (6, 4, True), (4, 2, True)]
)
def test_sixteen_bits_are_said_where_they_are_lost(tmp_path, colour_type, channels, said_of_bits):
    said = []
    path = png_of_sixteen_bits(tmp_path / "deep.png", colour_type, channels, 0x80FF)
    frame = frame_from_file(path, said.append)
    assert frame[0, 0, 0, 0] == pytest.approx(0x80FF / 65535, abs=1e-6 if colour_type == 0 else 1 / 255)
    assert ("16 bits a channel are read as 8" in "".join(said)) == said_of_bits


def test_portable_pixmaps_of_sixteen_bits(tmp_path):
    said = []
    (tmp_path / "grey.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 65535, 257))
    (tmp_path / "colour.ppm").write_bytes(b"P6 2 1 65535\n" + struct.pack(">6H", *[65535] * 6))
    grey = frame_from_file(tmp_path / "grey.pgm", said.append)
    assert np.allclose(grey[0, :, 0], [1, 257 / 65535], atol=1e-6)
    assert frame_from_file(tmp_path / "colour.ppm", said.append).min() == 1
    assert said == ["grey.pgm: grey is given to all three channels.", "colour.ppm: 16 bits a channel are read as 8."]


def test_the_first_of_several_pictures_is_said(tmp_path):
    said = []
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "two.webp", save_all=True, append_images=pictures[1:], lossless=True)
    assert frame_from_file(tmp_path / "two.webp", said.append)[0, :, 0, 0].tolist() == [1, 0, 0]
    assert said == ["two.webp: the first of 2 pictures is read."]


def test_sixteen_bits_of_grey_are_kept(tmp_path):
    grey = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.allclose(frame_from_file(tmp_path / "grey.png")[0, 1], grey / 65535, atol=1e-6)


def test_orientation_is_applied(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    path, said = picture("turned.jpg", exif=exif), []
    assert frame_from_file(path, said.append).shape == (1, 3, 60, 40)
    assert size_of_file(path) == (60, 40)
    assert said == ["turned.jpg: turned as its EXIF orientation says."]


def test_hashes_are_of_the_pixels():
    """Equal pixels, equal hashes; one bit, another."""
    first, second = np.random.default_rng(0).random((2, 1, 3, 4, 4), np.float32)
    pair, same = pair_from_arrays("x", first, second), pair_from_arrays("y", first.copy(), second.copy())
    assert pair.sha256 == same.sha256
    assert pair.sha256[0] != pair.sha256[1]
    other = first.copy()
    other[0, 0, 0, 0] = np.nextafter(other[0, 0, 0, 0], 2, dtype=np.float32)
    assert pair_from_arrays("x", other, second).sha256[0] != pair.sha256[0]


def test_labels_are_short_printable_and_unique():
    paths = [Path("a/clip.mp4"), Path("b/clip.mp4"), Path("c/clip.mp4 (2)"), Path("x" * 200 + ".png"), Path("a\nb.png")]
    labels = labels_of(paths)
    assert labels[:3] == ["clip.mp4", "clip.mp4 (2)", "clip.mp4 (2) (2)"]
    assert len(labels[3]) <= 48
    assert labels[3].endswith("x.png")
    assert labels[4] == "a?b.png"


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
    ):
        with pytest.raises(FrameError, match=message):
            frame_from_file(tmp_path / bad)


def test_a_decompression_bomb_is_refused(monkeypatch, picture):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = picture("bomb.png")
    with pytest.raises(FrameError, match="is refused"):
        frame_from_file(path)
