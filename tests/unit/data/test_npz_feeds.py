"""Arrays of an .npz file are the feeds of the graph whose input names they have, or are refused."""

import functools
import pickle
from pathlib import Path

import numpy as np
import pytest

from refine_export.data.npz_feeds import feeds_of_arrays, signature_of_npz
from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES
from tests.support.refusals import refused
from tests.support.source_files import folder_of, sources_of


@functools.cache
def arrays_of(graph, batch=1, height=64, width=96):
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.random(spec.shape_at(batch, height, width), np.float32)
        for spec in SIGNATURES[graph].inputs
    }


def npz(path: Path, arrays) -> Path:
    np.savez(path, **arrays)
    return path


def test_arrays_are_the_feeds_of_their_graph(tmp_path):
    """The names decide; files of other graphs are skipped; numbers of other types are converted."""
    paths = [npz(tmp_path / f"{name}.npz", arrays_of(name, batch=2)) for name in SIGNATURES]
    wide = npz(tmp_path / "wide.npz", {name: array.astype(np.float64) for name, array in arrays_of("unet").items()})
    sources = sources_of(*paths, wide)
    assert sources.arrays == (*paths, wide)
    assert list(sources.pairs()) == []
    for graph, signature in SIGNATURES.items():
        feed, *others = feeds_of_arrays(sources.arrays, signature)
        assert [other.name for other in others] == (["unet 64x96, wide.npz"] if graph == "unet" else [])
        assert (feed.name, feed.size, feed.sequence) == (f"{graph} 2x64x96, {graph}.npz", (64, 96), None)
        assert list(feed.inputs) == list(signature.input_names)
        for name, array in feed.inputs.items():
            assert array.dtype == np.float32
            assert np.array_equal(array, arrays_of(graph, batch=2)[name])
        assert (feed.largest_flow_px is not None) == ("flow" in feed.inputs)


def test_arrays_beside_frames(tmp_path):
    folder = folder_of(tmp_path / "clip", ["1.png", "2.png"])
    sources = sources_of(npz(tmp_path / "a.npz", arrays_of("refine")), folder)
    assert [pair.name for pair, _, _ in sources.pairs()] == ["clip frames 0-1"]
    assert sources.first.pair.name == "clip frames 0-1"
    assert len(sources.arrays) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"flow": None}, "wrong-names"),
        ({"extra": np.zeros(3)}, "wrong-names"),
        ({"flow": np.zeros((1, 4, 64, 64), np.float32)}, "wrong-shape"),  # not the size of the first image
        ({"flow": np.zeros((1, 2, 64, 96), np.float32)}, "wrong-shape"),
        ({"mask": np.zeros((2, 1, 64, 96), np.float32)}, "wrong-shape"),
        ({"mask": np.full((1, 1, 64, 96), "x")}, "not-numbers"),
        ({"mask": np.full((1, 1, 64, 96), None)}, "unreadable-npz"),
        ({"mask": np.full((1, 1, 64, 96), np.nan)}, "not-finite"),
    ],
)
def test_arrays_that_are_refused(tmp_path, change, code):
    arrays = {name: array for name, array in (arrays_of("refine") | change).items() if array is not None}
    path = npz(tmp_path / "a.npz", arrays)
    with refused(code, RequestError):
        list(feeds_of_arrays(sources_of(path).arrays, SIGNATURES["refine"]))


@pytest.mark.parametrize("shape", [(1, 3, 60, 96), (0, 3, 64, 96)])
def test_an_odd_size_or_no_batch_is_refused(tmp_path, shape):
    path = npz(tmp_path / "a.npz", {name: np.zeros(shape, np.float32) for name in ("img0", "img1")})
    with refused("wrong-size", RequestError):
        list(feeds_of_arrays([path], SIGNATURES["interpolator"]))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz", arrays_of("interpolator", height=320, width=320))
    monkeypatch.setattr("refine_export.data.npz_feeds.LARGEST_UNPACKED_BYTES", 2**20)
    with refused("too-large", RequestError):
        sources_of(path)


def test_files_without_arrays(tmp_path):
    whole = npz(tmp_path / "a.npz", arrays_of("refine")).read_bytes()
    for content in (b"", b"x", pickle.dumps({}), whole[:-100]):
        (tmp_path / "bad.npz").write_bytes(content)
        with refused("unreadable-npz", RequestError) as caught:
            signature_of_npz(tmp_path / "bad.npz")
        assert "pickle" not in str(caught.value)  # numpy advises to load it so
    np.save(tmp_path / "one.npy", np.zeros(3))
    with refused("unreadable-npz", RequestError):
        signature_of_npz(tmp_path / "one.npy")
    with refused("not-found", RequestError):
        sources_of(tmp_path / "absent.npz")
