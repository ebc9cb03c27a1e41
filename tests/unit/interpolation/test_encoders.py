"""Encoders keep the depth and the colours of a picture, and take the options that are given."""

import shutil

import av
import numpy as np
import pytest
from PIL import Image

from refine_export.errors import FrameError, RequestError
from refine_export.interpolation.segments import SegmentWriter
from tests.support.interpolation_clips import (
    assert_frames,
    clip,
    read_clip,
    run,
)
from tests.support.paths import names_in
from tests.support.refusals import refused


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"encoder_options": ("presett=slow",)}, "unknown-encoder-option"),
        ({"encoder_options": ("preset=nothing",)}, "cannot-encode"),
        ({"encoder_options": ("pix_fmt=rgb48be",)}, "pixel-format-not-encoded"),
    ],
)
def test_options_that_the_encoder_does_not_have_are_refused(tmp_path, options, code):
    source = clip(tmp_path / "in.mp4", 2)
    with refused(code, RequestError):
        run(source, tmp_path / "out.mp4", **options)
    assert names_in(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this is about machines without an NVIDIA GPU")
@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_nvenc_without_a_gpu_is_refused(tmp_path, codec):
    source = clip(tmp_path / "in.mp4", 2)
    with refused("cannot-encode", RequestError, codec=codec):
        run(source, tmp_path / "out.mkv", codec=codec)
    assert names_in(tmp_path) == ["in.mp4"]


def test_an_option_of_the_encoder_reaches_it(tmp_path):
    source = clip(tmp_path / "in.mp4", 4)
    run(source, tmp_path / "out.mp4", encoder_options=("pix_fmt=yuv444p", "x264-params=keyint=2"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
        assert container.streams.video[0].codec_context.pix_fmt == "yuv444p"
    assert keys.count(True) == 4


def test_hdr_goes_through_in_10_bits(tmp_path):
    """Depth, curve, primaries and the mastering display; the frames between have values that 8 bits do not."""
    ramp = np.linspace(400, 480, 96).astype(np.uint16)
    hdr = "log-level=error:qp=1:hdr10=1:max-cll=1000,400:master-display="
    hdr += "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libx265", rate=24, width=96, height=64, options={"x265-params": hdr})
        context = stream.codec_context
        context.pix_fmt, context.colorspace, context.color_range = "yuv420p10le", 9, 1
        context.color_primaries, context.color_trc = 9, 16
        for number in range(4):
            frame = av.VideoFrame(96, 64, "yuv420p10le")
            for plane, values in zip(frame.planes, (ramp + 6 * number, 512, 512), strict=True):
                np.frombuffer(plane, np.uint16).reshape(plane.height, -1)[:, : plane.width] = values
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for output in ("out.mkv", "out.mp4"):
        run(tmp_path / "in.mkv", tmp_path / output, crf=1)
        with av.open(str(tmp_path / output)) as container:
            context = container.streams.video[0].codec_context
            frames = list(container.decode(video=0))
            assert (context.name, context.pix_fmt) == ("hevc", "yuv420p10le")
            assert (int(context.color_primaries), int(context.color_trc), int(context.colorspace)) == (9, 16, 9)
        assert {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} <= {one.type.name for one in frames[0].side_data}
        levels = [np.frombuffer(one.planes[0], np.uint16)[40] for one in frames]
        assert levels == pytest.approx([ramp[40] + 3 * k for k in range(7)] + [ramp[40] + 18], abs=1)


def test_pictures_keep_16_bits(tmp_path):
    """Colours and grey, by the levels that 8 bits do not have; the middle is rounded to one of 16 bits."""
    levels = np.random.default_rng(0).integers(0, 65536, (2, 64, 96, 3)).astype(np.uint16)
    for number, level in enumerate(levels):
        write_picture(tmp_path / f"rgb_{number}.png", level)
        Image.fromarray(level[..., 0]).save(tmp_path / f"grey_{number}.png")
    for name, expected in (("rgb", levels), ("grey", levels[..., :1].repeat(3, -1))):
        result = run(tmp_path / f"{name}_%d.png", tmp_path / f"out_{name}_%d.png", scene_cuts=False)
        assert not any("8" in note for note in result.notes)
        made = [read_picture(tmp_path / f"out_{name}_{number}.png") for number in (1, 2, 3)]
        assert np.array_equal(made[0], expected[0])
        assert np.array_equal(made[2], expected[1])
        assert np.abs(made[1] - expected.astype(int).mean(0)).max() <= 1


def write_picture(path, levels):
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", width=levels.shape[1], height=levels.shape[0], pix_fmt="rgb48be")
        container.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb48be")))
        container.mux(stream.encode(None))


def read_picture(path):
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "rgb48be"
        return frame.to_ndarray(format="rgb48le").astype(int)


def test_hdr_that_an_encoder_does_not_write_is_noted(tmp_path):
    options = {"x265-params": "log-level=error:hdr10=1:max-cll=1000,400"}
    source = clip(tmp_path / "in.mkv", 2, codec="libx265", layout="yuv420p10le", options=options)
    notes = {codec: run(source, tmp_path / f"{codec}.mkv", codec=codec).notes for codec in ("ffv1", "libx265")}
    assert [any("content light" in note for note in notes[codec]) for codec in notes] == [True, False]


def test_prores_takes_8_bits_as_10_in_limited_range(tmp_path):
    source = clip(tmp_path / "in.mp4", 4, options={"qp": "0"})
    assert any("yuv422p10le" in note for note in run(source, tmp_path / "out.mov", codec="prores_ks").notes)
    found = read_clip(tmp_path / "out.mov")
    assert found.video["layout"] == "yuv422p10le"
    assert_frames(found.pictures, 4, 2)
    with refused("range-not-encoded", FrameError):
        run(clip(tmp_path / "full.mp4", 4, full=True), tmp_path / "full.mov", codec="prores_ks")


def test_rates_that_no_encoder_takes_are_refused(tmp_path):
    """A YUV4MPEG header may state any."""
    source = tmp_path / "in.y4m"
    picture = bytes(64 * 96 * 3 // 2)
    source.write_bytes(b"YUV4MPEG2 W96 H64 F99999999999:1 C420jpeg\n" + 2 * (b"FRAME\n" + picture))
    with refused("cannot-encode"):
        run(source, tmp_path / "out.mkv")


def test_a_failure_of_the_encoder_is_translated(tmp_path, monkeypatch):
    def fail(*_):
        raise av.error.ExternalError(-542398533, "Generic error in an external library")

    monkeypatch.setattr(SegmentWriter, "write_frame", fail)
    with refused("cannot-encode", RequestError):
        run(clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    assert names_in(tmp_path) == ["in.mp4"]
