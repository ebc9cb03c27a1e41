"""Layouts of data sets: what is found in each, and what is refused."""

import pytest
from PIL import Image

from refine_export.errors import FrameError
from refine_export.score.layouts import OF_PAPERS, data_set_from_folder
from tests.support.data_sets import SIZE, draw_data_set, drawn_triplet, write_triplet
from tests.support.refusals import refused

LAYOUTS = ("vimeo-triplet", "vimeo-septuplet", "ucf101", "snu-film", "middlebury", "triplets")
LIST = "tri_testlist.txt"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognised_and_its_frames_are_in_order(tmp_path, layout):
    data = data_set_from_folder(draw_data_set(tmp_path / "set", layout, 3))
    splits = 4 if layout == "snu-film" else 1
    assert (data.layout, len(data.triplets), data.sizes) == (layout, 3 * splits, {SIZE})
    assert len({one.split for one in data.triplets}) == splits
    for number, triplet in enumerate(data.triplets):
        for path, expected in zip(triplet.files, drawn_triplet(number % 3), strict=True):
            with Image.open(path) as picture:
                assert picture.tobytes() == expected.tobytes(), path
    assert any(str(OF_PAPERS[layout]) in note for note in data.notes) if layout in OF_PAPERS else not data.notes
    assert data_set_from_folder(tmp_path / "set", layout).triplets == data.triplets


def test_a_limit_counts_for_each_split_and_is_noted(tmp_path):
    data = data_set_from_folder(draw_data_set(tmp_path, "snu-film", 3), limit=1)
    assert [one.split for one in data.triplets] == ["easy", "medium", "hard", "extreme"]
    assert sum("the first 1 of 3" in note for note in data.notes) == 4


def test_copies_of_snu_film_lie_in_several_ways(tmp_path):
    """The lists may be in eval_modes, the frames without `test`; a list that is missing is noted."""
    draw_data_set(tmp_path, "snu-film")
    (tmp_path / "eval_modes").mkdir()
    (tmp_path / "test-hard.txt").rename(tmp_path / "eval_modes" / "test-hard.txt")
    (tmp_path / "test-easy.txt").unlink()
    (tmp_path / "test" / "GOPRO_test").rename(tmp_path / "GOPRO_test")
    data = data_set_from_folder(tmp_path)
    assert [one.split for one in data.triplets] == ["medium"] * 2 + ["hard"] * 2 + ["extreme"] * 2
    assert any("easy" in note for note in data.notes)


def test_the_test_set_of_vimeo_alone(tmp_path):
    draw_data_set(tmp_path, "vimeo-triplet")
    (tmp_path / "sequences").rename(tmp_path / "target")
    assert len(data_set_from_folder(tmp_path).triplets) == 2


def test_what_is_not_a_data_set_is_refused(tmp_path):
    with refused("not-a-folder", FrameError, path=tmp_path / "none"):
        data_set_from_folder(tmp_path / "none")
    with refused("unknown-layout", FrameError, path=tmp_path):
        data_set_from_folder(tmp_path)
    draw_data_set(tmp_path, "middlebury")
    with refused("wrong-layout", FrameError, layout="ucf101"):
        data_set_from_folder(tmp_path, "ucf101")
    draw_data_set(tmp_path, "vimeo-triplet")
    with refused("ambiguous-layout", FrameError, layouts=["vimeo-triplet", "middlebury"]):
        data_set_from_folder(tmp_path)
    assert data_set_from_folder(tmp_path, "middlebury").layout == "middlebury"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty-split"),
        (" \n\n", "empty-split"),
        ("00001/0001\n00001/0001\n", "listed-twice"),
        ("00001/0001\n00009/0001\n", "not-found"),
        ("../00001/0001\n", "bad-list"),
        ("/etc/0001\n", "bad-list"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, text, code):
    draw_data_set(tmp_path, "vimeo-triplet")
    (tmp_path / LIST).write_text(text)
    with refused(code, FrameError):
        data_set_from_folder(tmp_path)


def test_a_list_that_is_not_text_and_a_line_without_three_paths(tmp_path):
    draw_data_set(tmp_path / "vimeo", "vimeo-triplet")
    (tmp_path / "vimeo" / LIST).write_bytes(b"\xff\xfe\x00")
    with refused("bad-list", FrameError, path=tmp_path / "vimeo" / LIST):
        data_set_from_folder(tmp_path / "vimeo")
    draw_data_set(tmp_path / "snu", "snu-film")
    path = tmp_path / "snu" / "test-hard.txt"
    path.write_text(path.read_text() + "a.png b.png\n")
    with refused("bad-list", FrameError, path=path, line=3):
        data_set_from_folder(tmp_path / "snu")


@pytest.mark.parametrize(
    ("layout", "frame"),
    [
        ("vimeo-septuplet", "sequences/00002/0001/im4.png"),
        ("ucf101", "ucf101_interp_ours/11/frame_02.png"),
        ("snu-film", "test/GOPRO_test/clip1/00003.png"),
        ("middlebury", "other-gt-interp/Name1/frame10i11.png"),
        ("middlebury", "other-data/Name0/frame11.png"),
    ],
)
def test_a_missing_frame_is_named(tmp_path, layout, frame):
    path = draw_data_set(tmp_path, layout) / frame
    path.unlink()
    with refused("not-found", FrameError, path=path):
        data_set_from_folder(tmp_path)


def test_frames_that_do_not_belong_together_are_refused(tmp_path):
    draw_data_set(tmp_path, "triplets")
    inner = tmp_path / "clip1"
    write_triplet(inner / "frame9.png", inner / "frame10.png", tmp_path / "spare.png", size=(32, 32))
    with refused("sizes-differ", FrameError, path=inner / "frame11.png"):
        data_set_from_folder(tmp_path)
    assert len(data_set_from_folder(tmp_path, limit=1).triplets) == 1
    (inner / "frame11.png").unlink()
    with refused("not-a-triplet", FrameError, path=inner):
        data_set_from_folder(tmp_path)
    (inner / "frame11.png").write_bytes(b"not a picture")
    with refused("unreadable-picture", FrameError, path=inner / "frame11.png"):
        data_set_from_folder(tmp_path)
