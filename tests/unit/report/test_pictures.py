"""The pictures show where the error is, and how large."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refine_export.report.pictures import (
    BAD,
    Pictures,
    amplification,
    data_uri_from_frame,
    difference_picture,
    pictures_from_compared,
)
from refine_export.signature import SIGNATURES, GraphName
from refine_export.validate.comparison import Compared
from tests.support.compared_pages import HEIGHT, PLACE, WIDTH, Array


def pixels(uri: str) -> Array:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def shown(compared: Compared, graph: GraphName = "interpolator", **options: Any) -> Pictures:
    pictures = pictures_from_compared(compared, SIGNATURES[graph], **options)
    assert pictures is not None
    return pictures


@pytest.mark.parametrize("name", ["nan", "infinite"])
def test_values_that_are_not_finite(compared: dict[str, Compared], name: str) -> None:
    """They are magenta in every picture."""
    pictures = shown(compared[name])
    assert tuple(pixels(pictures.difference)[PLACE]) == BAD
    assert tuple(pixels(pictures.worst_candidate)[16 * 8, 16 * 8]) == BAD
    assert tuple(pixels(pictures.candidate)[PLACE]) == BAD


def test_identical_arrays(compared: dict[str, Compared]) -> None:
    pictures = shown(compared["same"])
    assert pictures.difference_scale == 1
    assert not pixels(pictures.difference)[..., :2].any()  # no error is (0, 0, 4)


def test_nothing_comparable_has_no_pictures(compared: dict[str, Compared]) -> None:
    for name in ("none", "short"):
        assert pictures_from_compared(compared[name], SIGNATURES["interpolator"]) is None


def test_features_are_named_and_grey(compared: dict[str, Compared]) -> None:
    pictures = shown(compared["features"], "contextnet", crop=(50, 90))
    assert pictures.caption == "f1: mean of the channels, scaled to its range"
    assert pixels(pictures.reference).shape == (HEIGHT // 2, WIDTH // 2, 3)  # half size: not cropped


@pytest.mark.parametrize("largest", [1.0, 0.99, 4.9e-5, 5e-5, 2e-7, 3.7, 1e4, 1e-38])
def test_amplified_error_is_between_two_fifths_and_one(largest: float) -> None:
    scale = amplification(largest)
    assert 0.4 - 1e-9 <= largest * scale <= 1 + 1e-9
    assert f"{scale:e}"[0] in "125"


def test_difference_is_the_error_times_its_scale(compared: dict[str, Compared]) -> None:
    """An error of 0.03 times 20 is 0.6 of the scale: between the colours of 4/7 and 5/7; all else is black."""
    pictures = shown(compared["far"])
    assert pictures.difference_scale == 20
    y, x = PLACE
    picture = pixels(pictures.difference).astype(int)
    expected = np.array((212, 72, 66)) + (0.6 * 7 - 4) * (np.array((245, 125, 21)) - (212, 72, 66))
    assert np.abs(picture[y, x] - expected).max() <= 4  # half of one of 63 levels
    picture[y, x] = 0
    assert picture[..., :2].max() == 0
    assert pictures.worst_at == ((x + 0.5) / WIDTH, (y + 0.5) / HEIGHT)
    middle = pixels(pictures.worst_difference)[16 * 8 + 4, 16 * 8 + 4]
    assert np.abs(middle - expected).max() <= 4


def test_crop_takes_padding_away(compared: dict[str, Compared]) -> None:
    """The pictures are cropped; the region around the worst pixel, which lies outside, is not."""
    pictures = shown(compared["far"], crop=(15, 90))
    assert pixels(pictures.reference).shape == pixels(pictures.difference).shape == (15, 90, 3)
    assert pictures.worst_at is None
    assert pixels(pictures.worst_difference)[16 * 8, 16 * 8].max() > 100


@pytest.mark.parametrize("bad", [1e-4, np.nan])
@pytest.mark.parametrize("place", [(0, 0), (543, 1001), (1087, 1919)])
def test_one_bad_pixel_of_a_large_frame_is_seen(bad: float, place: tuple[int, int]) -> None:
    """Maximum over each cell: the one pixel of 1088x1920 keeps its colour in 544x960, and no other has any."""
    error = np.zeros((1088, 1920))
    error[place] = bad
    picture = np.asarray(difference_picture(error, 1e4).convert("RGB"))
    assert picture.shape == (544, 960, 3)
    assert tuple(picture[place[0] // 2, place[1] // 2]) == (BAD if np.isnan(bad) else (255, 255, 255))
    assert np.count_nonzero(picture[..., 0]) == 1


def test_large_frame_keeps_a_bad_pixel() -> None:
    frame = np.full((1, 3, 1088, 1920), 0.5, np.float32)
    frame[0, 0, 400, 800] = np.nan
    picture = pixels(data_uri_from_frame(frame))
    assert picture.shape == (544, 960, 3)
    assert tuple(picture[200, 400]) == BAD
