"""Pictures as a video: their order, their numbers, the times of animations."""

import numpy as np
import pytest
from PIL import Image

from refine_export.data.picture_sequences import is_sequence, open_pictures
from refine_export.errors import FrameError
from tests.support.refusals import refused


def save(folder, numbers, name="f_{:03}.png", size=(24, 16)):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        Image.new("RGB", size, (number, 0, 0)).save(folder / name.format(number))
    return folder


def read(path, **options):
    with open_pictures(path, **options) as found:
        frames = [(frame.pts, int(frame.to_ndarray(format="rgb24")[0, 0, 0])) for frame in found.decode()]
        return found, frames


@pytest.mark.parametrize("pattern", ["", "f_%03d.png", "f_%d.png"])
def test_numbers_are_times(tmp_path, pattern):
    folder = save(tmp_path / "in", [7, 8, 9, 10])
    (folder / "notes.txt").write_text("not a picture")
    found, frames = read(folder / pattern, rate=24)
    assert frames == [(0, 7), (1, 8), (2, 9), (3, 10)]
    assert (found.rate, found.expected_frames, found.notes) == (24, 4, [])


def test_gaps_in_the_numbers_are_refused_or_become_gaps_in_time(tmp_path):
    folder = save(tmp_path / "in", [1, 2, 5, 10])
    with refused("frame-numbers-missing", FrameError, missing="3-4, 6-9"), open_pictures(folder):
        pass
    found, frames = read(folder, allow_missing=True)
    assert frames == [(0, 1), (1, 2), (4, 5), (9, 10)]
    assert "3-4, 6-9" in found.notes[0]


def test_names_without_numbers_are_in_order(tmp_path):
    folder = save(tmp_path / "in", [1, 2])
    (folder / "f_001.png").rename(folder / "b.png")
    (folder / "f_002.png").rename(folder / "a.png")
    assert read(folder)[1] == [(0, 2), (1, 1)]


@pytest.mark.parametrize(
    ("numbers", "code"), [([], "too-few-frames"), ([3], "too-few-frames"), ([3, 4], "sizes-differ")]
)
def test_pictures_that_are_no_video_are_refused(tmp_path, numbers, code):
    folder = save(tmp_path / "in", numbers)
    if len(numbers) == 2:
        save(folder, [5], size=(8, 8))
    with refused(code, FrameError), open_pictures(folder):
        pass


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_animations_have_their_own_times(tmp_path, name):
    frames = [Image.fromarray(np.full((16, 24, 3), level, np.uint8)) for level in (0, 80, 160)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=[40, 200, 0], lossless=True)
    assert is_sequence(tmp_path / name)
    found, times = read(tmp_path / name)
    assert [time for time, _ in times] == [0, 40, 240]
    assert [level for _, level in times] == pytest.approx([0, 80, 160], abs=2)
    assert found.rate * 340 == 3000  # 0 ms are shown for 100


def test_one_picture_is_no_sequence(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert not is_sequence(tmp_path / "a.png")
