"""The scene, folders and pictures two by two give pairs one at a time, or a clear refusal."""

import gc
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options, sources_from_options
from refine_export.errors import FrameError
from tests.support.refusals import refused
from tests.support.source_files import SCENE, folder_of, pixels, shown, sources_of, video_of


def test_the_scene_is_a_pair_and_a_sequence():
    """Its ends with the middle frame, then frames at t = 0, 1/3, 2/3, 1 as consecutive ones; drawn only once."""
    sources = sources_of()
    found = list(sources.pairs())
    assert [(sequence, index) for _, sequence, index in found] == [(None, 0), ("scene", 0), ("scene", 1), ("scene", 2)]
    ends, *steps = (pair for pair, _, _ in found)
    assert ends is sources.first.pair
    assert ends.middle is not None
    assert np.array_equal(steps[0].img0, ends.img0)
    assert np.array_equal(steps[2].img1, ends.img1)
    assert steps[0].img1 is steps[1].img0
    assert not np.array_equal(steps[0].img0, steps[0].img1)
    assert [pair.name for pair in steps] == ["scene frames 0-1", "scene frames 1-2", "scene frames 2-3"]
    assert sources.first.at((96, 64)).size == (96, 64)
    assert sources.notes == ()
    assert [sequence for _, sequence, _ in sources_of(scene_frames=2).pairs()] == [None]


def test_two_pictures_are_one_pair(tmp_path):
    folder = folder_of(tmp_path / "f", ["a.png", "bb.png"])
    options = FramesOptions(pair=(str(folder / "a.png"), str(folder / "bb.png")))
    sources = sources_from_options(options, SCENE)
    ((pair, sequence, index),) = sources.pairs()
    assert (pair.name, sequence, index, pair.size) == ("a.png and bb.png", None, 0, (40, 60))
    assert np.array_equal(shown(pair.img1), pixels(1))
    assert pair.sha256 == sources.first.pair.sha256 == source_from_options(options, SCENE).pair.sha256
    assert sources.first.at((64, 96)).size == (64, 96)


def test_a_folder_is_sorted_by_its_numbers(tmp_path):
    """frame2 before frame10; what is left out is noted once."""
    names = ["frame10.png", "frame2.png", "Frame1.PNG", "frame02.png"]
    folder = folder_of(tmp_path / "clip", names)
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_text("x")
    sources = sources_of(folder)
    found = list(sources.pairs())
    order = ["Frame1.PNG", "frame02.png", "frame2.png", "frame10.png"]
    expected = [pixels(names.index(name)) for name in order]
    for k, (pair, sequence, index) in enumerate(found):
        assert (pair.name, sequence, index) == (f"clip frames {k}-{k + 1}", "clip", k)
        assert np.array_equal(shown(pair.img0), expected[k])
        assert np.array_equal(shown(pair.img1), expected[k + 1])
    assert len(found) == 3
    assert found[0][0].sha256 == sources.first.pair.sha256
    [left_out] = sources.notes
    assert "1 of its 5 entries" in left_out


def test_pairs_are_limited_and_thinned(tmp_path, monkeypatch):
    """every=2 takes the pairs 0, 2, 4: no two are consecutive; frames of no pair are not decoded."""
    folder = folder_of(tmp_path / "clip", [f"{k}.png" for k in range(8)])

    def indices(**options):
        return [index for _, _, index in sources_of(folder, **options).pairs()]

    assert indices() == list(range(7))
    assert indices(max_pairs=2) == [0, 1]
    assert indices(every=2) == [0, 2, 4, 6]
    assert indices(every=3, max_pairs=2) == [0, 3]
    assert indices(every=50) == [0]
    sources = sources_of(folder, every=5)
    read = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **options: (read.append(path.name), real(path, **options))[1])
    list(sources.pairs())
    assert list(dict.fromkeys(read)) == ["0.png", "1.png", "5.png", "6.png"]  # a PNG is opened twice, to be verified


def test_folders_that_are_refused(tmp_path):
    folder_of(tmp_path / "empty", [])
    folder_of(tmp_path / "one", ["a.png"])
    for name in ("unequal", "text"):
        folder_of(tmp_path / name, ["1.png", "2.png"])
    Image.fromarray(pixels(3, (40, 99))).save(tmp_path / "unequal" / "3.png")
    (tmp_path / "text" / "3.png").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for name, code in (
        ("empty", "too-few-frames"),
        ("one", "too-few-frames"),
        ("unequal", "sizes-differ"),
        ("text", "unreadable-picture"),
        ("absent", "not-found"),
        ("pipe", "not-a-file"),
    ):
        with refused(code, FrameError):
            sources_of(tmp_path / name)


def test_damage_shows_at_its_pair(tmp_path):
    """Damage behind a header, and a file that is overwritten meanwhile, are not found before."""
    folder = folder_of(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    whole = (folder / "2.png").read_bytes()
    (folder / "3.png").write_bytes(whole[:3000])
    pairs = sources_of(folder).pairs()
    next(pairs)
    with refused("unreadable-picture", FrameError):
        next(pairs)
    (folder / "3.png").write_bytes(whole)
    sources = sources_of(folder)
    Image.fromarray(pixels(3, (40, 99))).save(folder / "3.png")
    with refused("sizes-differ", FrameError):
        list(sources.pairs())


def test_pictures_that_make_no_pair(tmp_path):
    folder = folder_of(tmp_path / "f", ["a.png", "b.png", "c.png"])
    Image.fromarray(pixels(0, (40, 99))).save(folder / "wide.png")
    (folder / "a.png").with_suffix(".gif").write_bytes((folder / "a.png").read_bytes())
    for names, code in (
        (("a.png",), "single-picture"),
        (("a.png", "b.png", "c.png"), "single-picture"),
        (("a.png", "", "b.png"), "single-picture"),
        (("a.gif",), "single-picture"),
        (("a.png", "wide.png"), "sizes-differ"),
    ):
        with refused(code, FrameError):
            sources_of(*(folder / name for name in names))
    for second, code in ((folder, "is-directory"), (folder / "x.mp4", "not-found")):
        options = FramesOptions(pair=(str(folder / "a.png"), str(second)))
        with refused(code, FrameError):
            sources_from_options(options, SCENE)


def test_all_kinds_together(tmp_path):
    """Names are unique though files share theirs; notes do not repeat; the first pair is that of the first input."""
    for side in ("x", "y"):
        (tmp_path / side).mkdir()
        folder_of(tmp_path / side / "clip", [f"{k}.png" for k in range(3)])
        video_of(tmp_path / side / "clip.mkv", [pixels(k) for k in range(3)])
    picture = tmp_path / "grey.png"
    Image.fromarray(pixels(0)).convert("L").save(picture)
    clips = (tmp_path / side / name for side in ("x", "y") for name in ("clip", "clip.mkv"))
    sources = sources_of(*clips, picture, picture)
    names = [pair.name for pair, _, _ in sources.pairs()]
    assert len(set(names)) == len(names) == 9
    assert names[::2] == [
        "clip frames 0-1",
        "clip.mkv frames 0-1",
        "clip (2) frames 0-1",
        "clip.mkv (2) frames 0-1",
        "grey.png and grey.png (2)",
    ]
    assert sources.first.pair.name == names[0]
    before = sources.notes
    list(sources.pairs())
    assert sources.notes == before
    assert [note for note in before if note.startswith("grey.png: ")]


def test_the_hash_is_of_the_files_and_the_options(tmp_path):
    folder = folder_of(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    known = {sources_of(folder).sha256, sources_of(folder, max_pairs=1).sha256, sources_of(folder, every=2).sha256}
    assert sources_of(folder).sha256 in known
    Image.fromarray(pixels(9)).save(folder / "2.png")
    known |= {sources_of(folder).sha256}
    (folder / "3.png").rename(folder / "4.png")
    known |= {sources_of(folder).sha256, sources_of().sha256, sources_of(scene_frames=3).sha256}
    known |= {sources_of(scene=SceneOptions(height=64, width=96, seed=1)).sha256}
    assert len(known) == 8
    sources = sources_of(folder)
    (folder / "4.png").unlink()
    with refused("cannot-read", FrameError):
        _ = sources.sha256


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_memory_does_not_grow_with_the_frames(tmp_path, kind):
    """100 frames peak where 20 do: three pairs' worth of arrays or less, though a tenth of them would be five times."""
    count, size = 100, (64, 96)
    if kind == "folder":
        path = folder_of(tmp_path / "clip", [f"{k}.png" for k in range(count)], size)
    else:
        path = video_of(tmp_path / "clip.mkv", [pixels(k, size) for k in range(count)])

    def peak(pairs):
        sources = sources_of(path, max_pairs=pairs)
        gc.collect()
        tracemalloc.start()
        try:
            seen = sum(1 for _ in sources.pairs())
            return seen, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(3)
    few, of_few = peak(20)
    many, of_many = peak(None)
    frame = 3 * 4 * size[0] * size[1]
    assert (few, many) == (20, count - 1)
    assert of_many < of_few + frame
    assert frame < of_many < 10 * frame


@pytest.mark.parametrize(
    "wrong", [{"pair": ("a",)}, {"max_pairs": 0}, {"every": 0}, {"scene_frames": 1}, {"scene_frames": 65}]
)
def test_options_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}"):
        FramesOptions(**wrong)
