"""The pictures show where the error is, and how large."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from refine_export.report import pictures
from refine_export.report.pictures import (
    BAD,
    amplification,
    data_uri_from_frame,
    difference_picture,
    pictures_from_compared,
)
from refine_export.signature import SIGNATURES
from tests.support.compared_pages import HEIGHT, PLACE, WIDTH, compared


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def drawn(how, **options):
    return pictures_from_compared(compared(how)[1], SIGNATURES["refine"], **options)


@pytest.mark.parametrize("name", ["nan", "infinite"])
def test_values_that_are_not_finite_are_magenta(name):
    found = drawn(name)
    assert tuple(pixels(found.difference)[PLACE]) == BAD
    assert tuple(pixels(found.worst_candidate)[16 * 8, 16 * 8]) == BAD
    assert tuple(pixels(found.candidate)[PLACE]) == BAD


def test_identical_arrays():
    found = drawn("same")
    assert found.difference_scale == 1
    assert not pixels(found.difference)[..., :2].any()  # no error is (0, 0, 4)


def test_nothing_comparable_has_no_pictures():
    assert drawn("none") is None
    assert drawn("short") is None


def test_features_are_named_and_grey():
    features = {"f1": np.random.default_rng(0).standard_normal((1, 32, HEIGHT // 2, WIDTH // 2))}
    one = dataclasses.replace(compared("same")[1], expected=features, actual=features)
    found = pictures_from_compared(one, SIGNATURES["contextnet"], crop=(50, 90))
    assert found.caption.startswith("f1: ")
    shown = pixels(found.reference)
    assert shown.shape == (HEIGHT // 2, WIDTH // 2, 3)  # half size: not cropped
    assert np.abs(np.diff(shown.astype(int), axis=2)).max() <= 4  # WebP is lossy


@pytest.mark.parametrize("largest", [1.0, 4.9e-5, 1e-38])
def test_amplified_error_is_between_two_fifths_and_one(largest):
    scale = amplification(largest)
    assert 0.4 - 1e-9 <= largest * scale <= 1 + 1e-9
    assert f"{scale:e}"[0] in "125"


def test_difference_is_the_error_times_its_scale():
    """An error of 0.03 times 20 is 0.6 of the scale: between the colours of 4/7 and 5/7; all else is black."""
    found = drawn("far")
    assert found.difference_scale == 20
    y, x = PLACE
    picture = pixels(found.difference).astype(int)
    expected = np.array((212, 72, 66)) + (0.6 * 7 - 4) * (np.array((245, 125, 21)) - (212, 72, 66))
    assert np.abs(picture[y, x] - expected).max() <= 4  # half of one of 63 levels
    picture[y, x] = 0
    assert picture[..., :2].max() == 0
    assert found.worst_at == ((x + 0.5) / WIDTH, (y + 0.5) / HEIGHT)
    middle = pixels(found.worst_difference)[16 * 8 + 4, 16 * 8 + 4]
    assert np.abs(middle - expected).max() <= 4


def test_crop_takes_padding_away():
    """The pictures are cropped; the region around the worst pixel, which lies outside, is not."""
    found = drawn("far", crop=(15, 90))
    assert pixels(found.reference).shape == pixels(found.difference).shape == (15, 90, 3)
    assert found.worst_at is None
    assert pixels(found.worst_difference)[16 * 8, 16 * 8].max() > 100


@pytest.mark.parametrize("bad", [1e-4, np.nan])
@pytest.mark.parametrize("place", [(0, 0), (53, 101), (107, 191)])
def test_one_bad_pixel_of_a_large_frame_keeps_its_colour(bad, place, monkeypatch):
    """Maximum over each cell: the one pixel of 108x192 keeps its colour in 54x96, and no other has any."""
    monkeypatch.setattr(pictures, "LARGEST_SIDE", 96)
    error = np.zeros((108, 192))
    error[place] = bad
    picture = np.asarray(difference_picture(error, 1e4).convert("RGB"))
    assert picture.shape == (54, 96, 3)
    assert tuple(picture[place[0] // 2, place[1] // 2]) == (BAD if np.isnan(bad) else (255, 255, 255))
    assert np.count_nonzero(picture[..., 0]) == 1
    frame = np.full((1, 3, 108, 192), 0.5, np.float32)
    frame[0, 0, *place] = np.nan
    assert tuple(pixels(data_uri_from_frame(frame))[place[0] // 2, place[1] // 2]) == BAD
