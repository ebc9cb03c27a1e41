"""Sources: arrays of an .npz file are the feeds of the graph that their names tell, or are refused."""

import functools
from pathlib import Path

import numpy as np
import pytest

from refine_export.data.npz_feeds import feeds_of_arrays, graph_of_npz
from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES
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


@pytest.mark.parametrize("graph", list(SIGNATURES))
def test_arrays_are_the_feeds_of_their_graph(tmp_path, graph):
    """The names tell the graph; files of others are passed over; the numbers are the file's own."""
    paths = [npz(tmp_path / f"{name}.npz", arrays_of(name, batch=2)) for name in SIGNATURES]
    sources = sources_of(*paths)
    assert sources.arrays == tuple(paths)
    assert list(sources.pairs()) == []
    assert sources.first.pair.middle is not None
    (feed,) = feeds_of_arrays(sources.arrays, graph)
    assert feed.name == f"{graph} 2x64x96, {graph}.npz"
    assert (feed.size, feed.sequence) == ((64, 96), None)
    assert list(feed.inputs) == list(SIGNATURES[graph].input_names)
    for name, array in feed.inputs.items():
        assert np.array_equal(array, arrays_of(graph, batch=2)[name])
    assert (feed.largest_flow_px is not None) == ("flow" in feed.inputs)


def test_arrays_beside_frames(tmp_path):
    folder = folder_of(tmp_path / "clip", ["1.png", "2.png"])
    sources = sources_of(npz(tmp_path / "a.npz", arrays_of("refine")), folder)
    assert [pair.name for pair, _, _ in sources.pairs()] == ["clip frames 0-1"]
    assert sources.first.pair.name == "clip frames 0-1"
    assert len(sources.arrays) == 1


def test_arrays_of_other_types_are_converted(tmp_path):
    path = npz(tmp_path / "a.npz", {name: array.astype(np.float64) for name, array in arrays_of("refine").items()})
    (feed,) = feeds_of_arrays([path], "refine")
    assert {array.dtype for array in feed.inputs.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flow": None}, "has arrays named img0, img1, .*; expected those of one graph .*refine: img0"),
        ({"extra": np.zeros(3)}, "has arrays named extra, flow"),
        (
            {"flow": np.zeros((1, 4, 64, 64), np.float32)},
            r"flow is \[1, 4, 64, 64\]; expected \[1, 4, 64, 96\], as img0",
        ),
        ({"flow": np.zeros((1, 2, 64, 96), np.float32)}, r"flow is \[1, 2, 64, 96\]; expected \[1, 4, 'H', 'W'\]|mend"),
        ({"mask": np.zeros((2, 1, 64, 96), np.float32)}, r"mask is \[2, 1, 64, 96\]; expected \[1, 1, 64, 96\]"),
        ({"mask": np.full((1, 1, 64, 96), "x")}, "mask is <U1; expected numbers"),
        ({"mask": np.full((1, 1, 64, 96), np.nan)}, "mask has NaN"),
    ],
)
def test_arrays_that_are_refused(tmp_path, change, message):
    arrays = {name: array for name, array in (arrays_of("refine") | change).items() if array is not None}
    with pytest.raises(RequestError, match=message):
        list(feeds_of_arrays(sources_of(npz(tmp_path / "a.npz", arrays)).arrays, "refine"))


def test_arrays_of_an_odd_size_or_no_batch_are_refused(tmp_path):
    odd = npz(tmp_path / "odd.npz", {name: np.zeros((1, 3, 60, 96), np.float32) for name in ("img0", "img1")})
    none = npz(tmp_path / "none.npz", {name: np.zeros((0, 3, 64, 96), np.float32) for name in ("img0", "img1")})
    for path in (odd, none):
        with pytest.raises(RequestError, match="expected one or more, with sides that are multiples of 32: pad"):
            list(feeds_of_arrays([path], "interpolator"))


def test_files_that_are_no_arrays(tmp_path):
    (tmp_path / "text.npz").write_text("x")
    (tmp_path / "empty.npz").write_bytes(b"")
    whole = npz(tmp_path / "a.npz", arrays_of("refine")).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-100])
    for name, message in (
        ("text.npz", "is no .npz, or truncated"),
        ("empty.npz", "is no .npz, or truncated"),
        ("cut.npz", "is no .npz, or truncated"),
        ("absent.npz", "absent.npz does not exist or is no file"),
    ):
        with pytest.raises(RequestError, match=message):
            graph_of_npz(tmp_path / name)
        with pytest.raises(RequestError, match=message):
            sources_of(tmp_path / name)
