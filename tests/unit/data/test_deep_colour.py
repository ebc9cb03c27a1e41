"""More than 8 bits: to floats and back without loss, in the meaning that the values have."""

from dataclasses import replace

import av
import numpy as np
import pytest

from refine_export.data.colour import coding_from_frame, encoding_for, frame_from_rgb, frame_to_encode
from refine_export.data.deep_colour import floats_from_frame


def frame_of(luma, blue, red, layout="yuv444p10le", *, matrix=9, full=False, size=(32, 48)):
    """A frame of one colour, in levels of its depth."""
    frame = av.VideoFrame(size[1], size[0], layout)
    for plane, level in zip(frame.planes, (luma, blue, red), strict=True):
        np.frombuffer(plane, np.uint16)[...] = level
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


@pytest.mark.parametrize(
    ("levels", "full", "expected"),
    [
        ((64, 512, 512), False, (0, 0, 0)),
        ((940, 512, 512), False, (1, 1, 1)),
        ((502, 512, 512), False, (0.5, 0.5, 0.5)),
        ((0, 512, 512), True, (0, 0, 0)),
        ((1023, 512, 512), True, (1, 1, 1)),
        ((64 + 0.2627 * 876, 512 - 0.2627 / 1.8814 * 896, 512 + 448), False, (1, 0, 0)),  # red by BT.2020
    ],
)
def test_levels_have_their_meaning(levels, full, expected):
    frame = frame_of(*map(round, levels), full=full)
    picture = floats_from_frame(frame, coding_from_frame(frame))
    assert picture.dtype == np.float32
    assert np.allclose(picture[3, 5], expected, atol=2e-3)


@pytest.mark.parametrize("layout", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p12le"])
@pytest.mark.parametrize("size", [(32, 48), (33, 49)])
def test_a_frame_that_goes_both_ways_keeps_its_values(layout, size):
    """Colours that RGB holds; odd sizes too."""
    bits = int(layout[7:9])
    random = np.random.default_rng(0)
    frame = frame_of(0, 0, 0, layout, size=size)
    for number, plane in enumerate(frame.planes):
        values = np.frombuffer(plane, np.uint16)
        low, high = (0.4, 0.6) if number == 0 else (0.47, 0.53)
        values[...] = random.integers(int(low * 2**bits), int(high * 2**bits), values.size)
    encoding = encoding_for(frame, "ffv1")
    assert encoding.layout == layout
    back = frame_from_rgb(floats_from_frame(frame, coding_from_frame(frame)), encoding)
    for plane, own in zip(back.planes, frame.planes, strict=True):
        found, wanted = (np.frombuffer(one, np.uint16).reshape(one.height, -1)[:, : one.width] for one in (plane, own))
        assert np.abs(found.astype(int) - wanted).max() <= 1


def test_a_narrow_frame_is_rounded_to_8_bits():
    """The lines of its planes are mostly padding."""
    frame = frame_of(502, 512, 512, "yuv420p10le", size=(8, 8))
    encoding = replace(encoding_for(frame, "libx264"), layout="yuv420p")
    made = frame_from_rgb(floats_from_frame(frame, coding_from_frame(frame)), encoding)
    assert (np.abs(made.to_ndarray().astype(int) - [126] * 8) <= 2).all()


def test_own_frames_pass_and_layouts_keep_the_depth():
    frame = frame_of(500, 512, 512, "yuv420p10le")
    picture = floats_from_frame(frame, coding_from_frame(frame))
    assert frame_to_encode(frame, picture, encoding_for(frame, "libx265")) is frame
    for codec, layout in (
        ("libx264", "yuv420p10le"),
        ("libsvtav1", "yuv420p10le"),
        ("prores_ks", "yuv422p10le"),
        ("png", "rgb48be"),
        ("gif", "pal8"),
    ):
        encoding = encoding_for(frame, codec)
        assert encoding.layout == layout
        assert frame_to_encode(frame, picture, encoding).format.name == layout
    assert (encoding.primaries, encoding.transfer) == (int(frame.color_primaries), int(frame.color_trc))


@pytest.mark.parametrize(
    ("codec", "expected", "noted"),
    [("hevc_nvenc", "p010le", 0), ("av1_nvenc", "p010le", 0), ("h264_nvenc", "yuv420p", 1)],
)
def test_nvenc_takes_10_bits_in_two_planes(monkeypatch, codec, expected, noted):
    """NVENC has no yuv420p10le; these are its formats in FFmpeg 5 and later, whose builds do not all have it."""
    known = [av.VideoFormat(name) for name in ("yuv420p", "nv12", "p010le", "yuv444p", "p016le", "yuv444p16le")]
    monkeypatch.setattr("av.codec.Codec", lambda *_: type("Codec", (), {"video_formats": known}))
    encoding = encoding_for(frame_of(500, 512, 512, "yuv420p10le"), codec)
    assert (encoding.layout, len(encoding.notes)) == (expected, noted)


@pytest.mark.parametrize("layout", ["p010le", "nv12", "yuva420p10le", "gbrp10le", "bgr0", "yuv444p10msble"])
def test_other_layouts_show_the_same_colours(layout):
    """Frames made from RGB are equal to those that the scaler converts."""
    frame = frame_of(600, 400, 560, "yuv420p10le")
    picture = floats_from_frame(frame, coding_from_frame(frame))
    encoding = replace(encoding_for(frame, "ffv1"), layout=layout)
    own, made = frame_to_encode(frame, picture, encoding), frame_from_rgb(picture, encoding)
    for planes in zip(made.planes, own.planes, strict=True):
        assert np.array_equal(*(np.frombuffer(one, np.uint8).reshape(one.height, -1)[:, : one.width] for one in planes))
