"""The frame between two pictures: what does not go together, and what is lost."""

import numpy as np
import pytest
from PIL import Image

from refine_export.errors import RequestError
from refine_export.interpolation.interpolate_pictures import interpolate_pictures
from refine_export.support.progress import Silent
from tests.support.interpolation_clips import Averaging
from tests.support.paths import names_in
from tests.support.refusals import refused


def save(path, size, mode="RGB"):
    Image.new(mode, size).save(path)
    return path


def middle(first, second, output, timestep=0.5):
    return interpolate_pictures(first, second, output, timestep, Averaging(), force=True, progress=Silent())


@pytest.mark.parametrize(
    ("second", "output", "timestep", "code"),
    [
        ((40, 33), "out.png", 0.5, "frame-sizes-differ"),
        ((40, 32), "out.png", 1.0, "wrong-option"),
        ((40, 32), "a.png", 0.5, "output-is-input"),
    ],
)
def test_pictures_that_do_not_go_together_make_nothing(tmp_path, second, output, timestep, code):
    first, other = save(tmp_path / "a.png", (40, 32)), save(tmp_path / "b.png", second)
    with refused(code, RequestError):
        middle(first, other, tmp_path / output, timestep)
    assert names_in(tmp_path) == ["a.png", "b.png"]


def test_what_pictures_lose_is_noted(tmp_path):
    first, second = save(tmp_path / "a.png", (40, 32), "RGBA"), save(tmp_path / "b.png", (40, 32))
    assert "alpha" in middle(first, second, tmp_path / "out.png").notes[0]
    Image.fromarray(np.full((32, 40), 1000, np.uint16)).save(first)
    assert any("8 bits" in note for note in middle(first, second, tmp_path / "deep.png").notes)
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.size, picture.mode) == ((40, 32), "RGB")
