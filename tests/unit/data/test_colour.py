"""Colours survive the way through RGB; errors are in levels of 255."""

import av
import numpy as np
import pytest

from refine_export.data.colour import (
    ColourCoding,
    Encoding,
    colour_notes,
    encoding_for,
    frame_from_rgb,
    frame_to_encode,
    rgb_from_frame,
)
from refine_export.errors import FrameError
from tests.support.refusals import refused

HEIGHT, WIDTH = 64, 96
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
SMOOTH = np.stack(
    [128 + 100 * np.sin(X / 40 + Y / 60), 128 + 100 * np.sin(X / 50 - Y / 30), 128 + 100 * np.cos(X / 35 + Y / 45)], -1
)
SMOOTH = np.uint8(np.rint(SMOOTH))
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}


def encoding(layout="yuv420p", matrix=1, full=False):
    coding = ColourCoding(matrix=matrix, full=full)
    span = 2 if full else 1
    return Encoding(coding=coding, layout=layout, tagged_matrix=matrix, tagged_range=span, primaries=2, transfer=2)


def planes(frame):
    return [np.frombuffer(p, np.uint8).reshape(p.height, -1)[:, : p.width].astype(float) for p in frame.planes]


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_rgb_becomes_what_the_standard_says(matrix, full):
    """Y = Kr R + (1 - Kr - Kb) G + Kb B; Cb = (B - Y) / (2 - 2 Kb); Cr = (R - Y) / (2 - 2 Kr): BT.601, 709, 2020."""
    kr, kb = WEIGHTS[matrix]
    r, g, b = np.moveaxis(SMOOTH / 255, -1, 0)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    chroma = (b - luma) / (2 - 2 * kb), (r - luma) / (2 - 2 * kr)
    offset, scale, chroma_scale = (0, 255, 255) if full else (16, 219, 224)
    expected = [offset + scale * luma, *(128 + chroma_scale * one for one in chroma)]
    for found, exact in zip(planes(frame_from_rgb(SMOOTH, encoding("yuv444p", matrix, full))), expected, strict=True):
        assert np.abs(found - exact).max() < 0.6
        assert abs((found - exact).mean()) < 0.03


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv440p", "yuv444p"])
def test_a_frame_that_was_made_is_as_bright_as_those_that_pass(layout, matrix, full):
    """Decoded -> RGB -> encoded: no shift on average, luma exact, chroma within a level."""
    of = encoding(layout, matrix, full)
    source = frame_from_rgb(SMOOTH, of)
    again = frame_from_rgb(rgb_from_frame(source, of.coding), of)
    luma, *chroma = (np.abs(a - b) for a, b in zip(planes(source), planes(again), strict=True))
    assert luma.max() <= 1
    assert luma.mean() < 0.01
    assert max(one.max() for one in chroma) <= 1
    shift = rgb_from_frame(source, of.coding).astype(float).mean((0, 1)) - SMOOTH.astype(float).mean((0, 1))
    assert np.abs(shift).max() < 0.15


@pytest.mark.parametrize("span", [0, 1, 2])
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_grey_keeps_its_values_whatever_its_range(codec, span):
    """An encoder without grey gets them as luma; a range that is not named is full, as FFmpeg takes it."""
    frame = av.VideoFrame.from_ndarray(SMOOTH[..., 0].copy(), format="gray")
    frame.color_range = span
    of = encoding_for(frame, codec)
    picture = rgb_from_frame(frame, of.coding)
    assert of.tagged_range == (span or 2)
    for made in (frame_from_rgb(picture, of), frame_to_encode(frame, picture, of)):
        assert made.format.name == of.layout
        assert np.array_equal(planes(made)[0], SMOOTH[..., 0])
        assert all((chroma == 128).all() for chroma in planes(made)[1:])


def decoded(layout, *, matrix=2, span=0, size=(HEIGHT, WIDTH), curve=2):
    frame = av.VideoFrame.from_ndarray(np.zeros((*size, 3), np.uint8), format="rgb24").reformat(format=layout)
    frame.colorspace, frame.color_range, frame.color_trc = matrix, span, curve
    return frame


@pytest.mark.parametrize(
    ("layout", "codec", "expected"),
    [
        ("yuv420p", "libx264", "yuv420p"),
        ("yuvj422p", "libx264", "yuv422p"),
        ("nv12", "libx264", "yuv420p"),
        ("yuyv422", "libx264", "yuv422p"),
        ("yuva420p", "libx264", "yuv420p"),
        ("gray", "libx264", "gray"),
        ("gray", "libvpx-vp9", "yuv420p"),
        ("gray10le", "libx264", "gray"),
        ("yuv440p", "libx264", "yuv444p"),
        ("yuv440p", "libvpx-vp9", "yuv440p"),
        ("rgb24", "libx264", "yuv444p"),
        ("gbrp", "libvpx-vp9", "yuv444p"),
        ("pal8", "libx264", "yuv444p"),
    ],
)
def test_what_is_encoded_holds_what_was_decoded(layout, codec, expected):
    frame = av.VideoFrame(WIDTH, HEIGHT, layout) if layout == "pal8" else decoded(layout)
    of = encoding_for(frame, codec)
    assert of.layout == expected
    lossless = layout in (expected, "nv12", "yuvj422p", "yuyv422", "yuva420p", "gray10le", "yuv420p10le")
    assert (of.notes == ()) == lossless
    made = frame_to_encode(frame, SMOOTH, of)
    assert made.format.name == expected


@pytest.mark.parametrize(
    ("layout", "size", "codec", "given", "noted"),
    [
        ("rgb24", (32, 48), "libx264", None, True),
        ("rgb48le", (32, 48), "libx265", None, True),
        ("rgb24", (33, 47), "libx264", None, False),  # cannot be yuv420p
        ("rgb24", (32, 48), "libx264", "yuv444p", False),
        ("rgb24", (32, 48), "libx264", "yuv420p", False),
        ("rgb24", (32, 48), "ffv1", None, False),
        ("yuv444p", (32, 48), "libx264", None, False),
    ],
)
def test_rgb_that_becomes_what_few_players_play_is_noted_with_the_option_that_helps(layout, size, codec, given, noted):
    notes = encoding_for(av.VideoFrame(size[1], size[0], layout), codec, given).notes
    assert any("pix_fmt=yuv420p" in note for note in notes) == noted


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (decoded("yuv420p10le", matrix=1), "10 bits"),
        (decoded("yuva420p", matrix=1), "alpha"),
        (decoded("yuv420p", matrix=9, curve=16), "PQ"),
        (decoded("yuv420p"), "BT.601"),
        (decoded("yuv420p", size=(720, 1280)), "BT.709"),
        (decoded("yuv420p", matrix=1, span=1), None),
    ],
)
def test_what_changes_on_the_way_to_rgb_is_noted(frame, words):
    notes = list(colour_notes(frame))
    assert len(notes) == (words is not None)
    assert all(words in note for note in notes)


@pytest.mark.parametrize(
    ("layout", "size", "codec", "expected", "noted"),
    [
        ("yuv420p", (33, 47), "libx264", "yuv444p", True),
        ("yuv422p", (32, 47), "libx264", "yuv444p", True),
        ("yuv422p", (33, 48), "libx264", "yuv422p", False),
        ("yuv420p", (33, 47), "libvpx-vp9", "yuv420p", False),
    ],
)
def test_odd_sizes_are_not_subsampled_where_the_encoder_refuses_them(layout, size, codec, expected, noted):
    found = encoding_for(decoded(layout, size=size), codec)
    assert (found.layout, bool(found.notes)) == (expected, noted)


def test_full_range_by_its_old_name_is_full_range_by_its_tag_and_its_values_stay():
    frame = frame_from_rgb(SMOOTH, encoding("yuv420p", 5, full=True)).reformat(
        format="yuvj420p", src_color_range=2, dst_color_range=2
    )
    frame.color_range = 0
    of = encoding_for(frame, "libvpx-vp9")
    assert (of.coding.full, of.tagged_range, of.layout) == (True, 2, "yuv420p")
    for a, b in zip(planes(frame), planes(frame_to_encode(frame, SMOOTH, of)), strict=True):
        assert np.array_equal(a, b)


def test_an_encoder_without_a_format_that_fits_is_refused():
    with refused("pixel-format-not-encoded", FrameError, expected="yuv444p"):
        encoding_for(decoded("yuv444p"), "libsvtav1")


@pytest.mark.parametrize("codec", ["png", "gif", "apng"])
def test_pictures_that_stay_rgb_have_no_note_of_a_rounding(codec):
    assert not any("YUV" in note for note in encoding_for(decoded("rgb24"), codec).notes)
