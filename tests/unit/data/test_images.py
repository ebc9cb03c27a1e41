"""Any picture that Pillow reads becomes a frame, padded and cropped without loss, or is refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refine_export.data.images import (
    FramePair,
    at_size,
    cropped,
    frame_from_file,
    labels_of,
    padded,
    size_of_file,
    uint8_from_frame,
)
from refine_export.errors import FrameError
from tests.support.refusals import refused


@pytest.fixture
def picture(tmp_path):
    def make(name, size=(60, 40), mode="RGB", **options):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3), np.uint8)
        path = tmp_path / name
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return make


def noise(height, width):
    return FramePair("x", *np.random.default_rng(0).random((2, 1, 3, height, width), np.float32))


def test_pixels_come_back_exactly(picture):
    """uint8 -> [0, 1] -> uint8 is the identity."""
    path, notes = picture("a.png"), []
    frame = frame_from_file(path, notes.append)
    assert (frame.dtype, frame.shape) == (np.float32, (1, 3, 40, 60))
    assert np.array_equal(uint8_from_frame(frame), np.asarray(Image.open(path)))
    assert notes == []


@pytest.mark.parametrize(
    ("name", "mode", "noted"),
    [
        ("g.png", "L", True),
        ("p.png", "P", True),
        ("a.png", "RGBA", True),
        ("ga.png", "LA", True),
        ("c.jpg", "CMYK", True),
        ("w.webp", "RGB", False),
    ],
)
def test_any_picture_becomes_rgb(picture, name, mode, noted):
    path, notes = picture(name, size=(300, 40), mode=mode), []
    assert frame_from_file(path, notes.append, "the folder").shape == (1, 3, 40, 300)
    assert [note.partition(":")[0] for note in notes] == ["the folder"] * noted


def png_of_sixteen_bits(path: Path, colour_type: int, channels: int, value: int) -> Path:
    """4 by 3 pixels of one value, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">H", value) * 4 * channels for _ in range(3))
    header = struct.pack(">IIBBBBB", 4, 3, 16, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize(("colour_type", "channels", "lost"), [(0, 1, False), (2, 3, True), (6, 4, True), (4, 2, True)])
def test_lost_depth_of_a_png_is_noted(tmp_path, colour_type, channels, lost):
    notes = []
    frame = frame_from_file(png_of_sixteen_bits(tmp_path / "deep.png", colour_type, channels, 0x80FF), notes.append)
    assert frame[0, 0, 0, 0] == pytest.approx(0x80FF / 65535, abs=1 / 255 if lost else 1e-6)
    assert ("16 bits" in "".join(notes)) == lost


def test_lost_depth_of_a_portable_pixmap_is_noted(tmp_path):
    notes = []
    (tmp_path / "grey.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 65535, 257))
    (tmp_path / "colour.ppm").write_bytes(b"P6 2 1 65535\n" + struct.pack(">6H", *[65535] * 6))
    assert np.allclose(frame_from_file(tmp_path / "grey.pgm")[0, :, 0], [1, 257 / 65535], atol=1e-6)
    assert frame_from_file(tmp_path / "colour.ppm", notes.append).min() == 1
    assert "16 bits" in "".join(notes)


def test_the_first_of_several_pictures_is_read_and_noted(tmp_path):
    notes = []
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "two.webp", save_all=True, append_images=pictures[1:], lossless=True)
    assert frame_from_file(tmp_path / "two.webp", notes.append)[0, :, 0, 0].tolist() == [1, 0, 0]
    assert len(notes) == 1


def test_orientation_is_applied(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    path, notes = picture("turned.jpg", exif=exif), []
    assert frame_from_file(path, notes.append).shape == (1, 3, 60, 40)
    assert size_of_file(path) == (60, 40)
    assert len(notes) == 1


def test_hashes_are_of_the_pixels():
    pair = noise(4, 4)
    same = FramePair("y", pair.img0.copy(), pair.img1.copy())
    assert pair.sha256 == same.sha256
    assert pair.sha256[0] != pair.sha256[1]
    other = pair.img0.copy()
    other[0, 0, 0, 0] = np.nextafter(other[0, 0, 0, 0], 2, dtype=np.float32)
    assert FramePair("x", other, pair.img1).sha256[0] != pair.sha256[0]


def test_labels_are_short_printable_and_unique():
    paths = [Path("a/clip.mp4"), Path("b/clip.mp4"), Path("c/clip.mp4 (2)"), Path("x" * 200 + ".png"), Path("a\nb.png")]
    labels = labels_of(paths)
    assert labels[:3] == ["clip.mp4", "clip.mp4 (2)", "clip.mp4 (2) (2)"]
    assert len(labels[3]) <= 48
    assert labels[3].endswith("x.png")
    assert labels[4] == "a?b.png"


@pytest.mark.parametrize("size", [(33, 31), (64, 96), (256, 447)])
def test_padding_and_cropping_are_inverse(size):
    pair = noise(*size)
    whole = padded(pair, 32)
    assert all(side % 32 == 0 and side - old < 32 for side, old in zip(whole.size, size, strict=True))
    assert np.array_equal(cropped(whole.img0, size), pair.img0)
    assert np.array_equal(whole.img1[0, :, -1, : size[1]], pair.img1[0, :, -1])


@pytest.mark.parametrize("size", [(40, 200), (16, 24), (300, 50), (40, 60)])
def test_another_size_keeps_the_pixels(size):
    """Cropped or mirrored: every pixel is one of the original's, in place where both have it."""
    pair = noise(40, 60)
    other = at_size(pair, size)
    assert other.size == size
    common = min(40, size[0]), min(60, size[1])
    assert np.array_equal(cropped(other.img0, common), cropped(pair.img0, common))
    assert set(np.unique(other.img0)) <= set(np.unique(pair.img0))


def test_nan_is_shown():
    frame = np.full((1, 3, 4, 4), 0.5, np.float32)
    frame[0, 1, 2, 3] = np.nan
    assert uint8_from_frame(frame)[2, 3].tolist() == [255, 0, 255]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("absent.png", "not-found"),
        ("", "is-directory"),
        ("empty.png", "unreadable-picture"),
        ("text.png", "unreadable-picture"),
        ("cut.png", "unreadable-picture"),
        ("endless.png", "unreadable-picture"),
        ("changed.png", "unreadable-picture"),
        ("program.eps", "unreadable-picture"),
        ("long.png", "too-large"),
        ("float.tiff", "unknown-range"),
    ],
)
def test_refuses(tmp_path, picture, name, code):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(picture("good.png").read_bytes()[:200])
    content = picture("good.png").read_bytes()
    (tmp_path / "endless.png").write_bytes(content[:-12])  # without its last chunk, IEND
    mark = content.index(b"IEND") - 8  # the checksum of the pixels
    (tmp_path / "changed.png").write_bytes(content[:mark] + b"\0\0\0\0" + content[mark + 4 :])
    # Pillow would start Ghostscript for it.
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    picture("long.png", (16400, 2))
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with refused(code, FrameError):
        frame_from_file(tmp_path / name)


def test_a_decompression_bomb_is_refused(monkeypatch, picture):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = picture("bomb.png")
    with refused("unreadable-picture", FrameError):
        frame_from_file(path)
