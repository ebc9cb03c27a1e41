"""The output: times and sound that its container holds, and a file that is whole or not there."""

import _thread
import ctypes
import errno
import io
import itertools
import os
import shutil
import signal
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.interpolation.reader import open_source
from refine_export.interpolation.segments import SegmentWriter
from tests.support.interpolation_clips import (
    Averaging,
    Sound,
    assert_frames,
    clip,
    expected_shares,
    read_clip,
    remuxed,
    run,
    shares_of,
    write_clip,
)
from tests.support.refusals import refused


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("output", ["out.mp4", "out.mov"])
def test_a_long_last_interval_is_in_the_length(tmp_path, output):
    """B frames are stored behind those that are shown after them: the last that is stored is not the last shown."""
    ticks = [0, 100, 200, 300, 400, 500, 600, 5000]
    source = clip(tmp_path / "in.mkv", 8, times=ticks, time_base=Fraction(1, 1000), rate=10, options={"bf": "0"})
    run(source, tmp_path / output)
    found = read_clip(tmp_path / output)
    with av.open(str(tmp_path / output)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.has_b_frames
        assert (container.duration, stream.duration * stream.time_base) == (5_100_000, Fraction(51, 10))
    assert found.times[::2] == [Fraction(tick, 1000) for tick in ticks]


def test_times_that_no_container_holds_are_refused(tmp_path):
    def late(packets):
        for packet in packets:
            packet.pts, packet.dts = packet.pts + 2**58, packet.dts + 2**58
        return packets

    source = remuxed(clip(tmp_path / "early.mp4"), tmp_path / "in.nut", late)
    with refused("frame-too-late", FrameError):
        run(source, tmp_path / "out.mp4", times=61)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("name", "sound", "output"),
    [
        ("in.mkv", "libopus", "out.mov"),  # refused by the header
        ("in.mkv", "aac", "out.webm"),
        ("in.avi", "pcm_s16le", "out.mp4"),  # refused at the end, when all else is written
        ("in.avi", "adpcm_ms", "out.mkv"),
    ],
)
def test_sound_that_the_container_refuses_is_named(tmp_path, name, sound, output):
    source = clip(tmp_path / name, codec="mpeg4", sounds=[Sound(sound)])
    with refused("sound-not-in-container", RequestError):
        run(source, tmp_path / output)
    assert names(tmp_path) == [name]
    assert "its sound is left out, as asked for" in run(source, tmp_path / output, audio=False).notes
    assert read_clip(tmp_path / output).sounds == []


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc fills memory on demand")
def test_two_runs_give_the_same_bytes(tmp_path):
    """Whatever stands in memory that nobody wrote; x264 read some, in a size that is not of whole macroblocks."""
    dirty = ctypes.CDLL(None).mallopt
    noise = np.random.default_rng(0).integers(0, 256, (32, 40, 3))
    base = np.kron(noise, np.ones((8, 8, 1))).astype(np.uint8)[:250, :310]
    source = write_clip(tmp_path / "in.mkv", [np.roll(base, 5 * k, 1) for k in range(16)], codec="ffv1")
    content = []
    try:
        for byte in (0, 1, 77, 200):
            dirty(-6, byte)  # M_PERTURB
            run(source, tmp_path / f"{byte}.mp4")
            content.append((tmp_path / f"{byte}.mp4").read_bytes())
    finally:
        dirty(-6, 0)
    assert len(set(content)) == 1


def test_times_that_the_output_cannot_tell_apart_are_refused(tmp_path):
    """Matroska counts milliseconds."""
    source = clip(tmp_path / "in.mp4", 12, rate=8000)
    with refused("frames-too-close", FrameError):
        run(source, tmp_path / "out.mkv", times=8)
    assert names(tmp_path) == ["in.mp4"]


def test_a_failure_of_the_encoder_is_translated(tmp_path, monkeypatch):
    def fail(*_):
        raise av.error.ExternalError(-542398533, "Generic error in an external library")

    monkeypatch.setattr(SegmentWriter, "write_frame", fail)
    with refused("cannot-encode", RequestError):
        run(clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mp4"]


def test_parts_of_what_no_container_takes_are_not_kept(tmp_path):
    """A frame of 68 years, as a header of YUV4MPEG may have it: no --resume mends that."""
    frames = b"".join(b"FRAME\n" + bytes([level]) * (64 * 64 * 3 // 2) for level in (30, 60, 90))
    (tmp_path / "in.y4m").write_bytes(b"YUV4MPEG2 W64 H64 F1:2147483647 C420jpeg\n" + frames)
    with refused("cannot-encode", RequestError):
        run(tmp_path / "in.y4m", tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.y4m"]


@pytest.mark.parametrize(
    ("options", "output", "code"),
    [
        ({}, "out.xyz", "output-suffix"),
        ({"crf": 70}, "out.mp4", "wrong-option"),
        ({"codec": "ffv1", "crf": 7}, "out.mkv", "wrong-option"),
    ],
)
def test_wrong_requests_make_nothing(tmp_path, options, output, code):
    source = clip(tmp_path / "in.mp4", 2)
    with refused(code, RequestError):
        run(source, tmp_path / output, **options)
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("limit", [200, 20_000])
def test_a_full_disk_leaves_nothing(tmp_path, limit):
    """A limit on the size of files stands for the disk: at the header, or in the middle."""
    import resource

    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), dtype=np.uint8)
    source = write_clip(tmp_path / "in.mp4", list(noise))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(RequestError) as caught:
            run(source, tmp_path / "out.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.code, caught.value.exit_code) == ("cannot-write", 2)
    assert names(tmp_path) == ["in.mp4"]


def test_an_interrupt_before_the_first_part_leaves_only_what_can_be_played(tmp_path):
    """Like Ctrl-C, which reaches the main thread while others compute."""
    source = clip(tmp_path / "in.mp4", 30)
    calls = itertools.count()  # the first, whose number is 0, interrupts
    # A shell that starts the tests in the background has them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "out.mp4", Averaging(2, wait=lambda: next(calls) or _thread.interrupt_main()))
    finally:
        signal.signal(signal.SIGINT, before)
    assert set(names(tmp_path)) <= {"in.mp4", "out.mp4.parts"}


@pytest.mark.parametrize(("output", "codec"), [("out.gif", "gif"), ("out.apng", "apng"), ("f_%03d.png", "png")])
def test_pictures_are_written(tmp_path, output, codec):
    source = clip(tmp_path / "in.mp4", 5, options={"qp": "0"})
    result = run(source, tmp_path / output)
    assert result.frames_written == 10
    assert len(names(tmp_path)) == (11 if "%" in output else 2)
    with open_source(tmp_path / output) as written:
        pictures = [gap.before.picture for gap in written.gaps()]
    assert_frames(pictures, 5, 2)
    with refused("output-exists", RequestError):
        run(source, tmp_path / output)
    with refused("options-do-not-fit", RequestError):
        run(source, tmp_path / output, codec="libx264", force=True)


@pytest.mark.parametrize(
    "options", [{"rate": 20}, {"times": [0, 1, 2, 12, 22], "time_base": Fraction(1, 30)}], ids=["constant", "varying"]
)
def test_frames_that_players_of_gif_show_too_long_are_refused(tmp_path, options):
    source = clip(tmp_path / "in.mkv", 5, codec="ffv1", **options)
    with refused("frames-too-close", RequestError):
        run(source, tmp_path / "out.gif", times=3)
    assert names(tmp_path) == ["in.mkv"]
    run(source, tmp_path / "out.gif", fps=50)
    before, after = read_clip(source), read_clip(tmp_path / "out.gif")
    assert float(after.length_s) == pytest.approx(float(before.length_s), abs=0.03)


def test_a_failure_leaves_no_pictures(tmp_path):
    def fail():
        raise UnavailableError("gone", code="server-away")

    (tmp_path / f".pictures.work-{2**22 + 1}-x").mkdir()  # of a process that was killed
    with pytest.raises(UnavailableError):
        run(clip(tmp_path / "in.mp4", 5), tmp_path / "f_%03d.png", Averaging(wait=fail))
    assert names(tmp_path) == ["in.mp4"]


def test_a_disk_that_is_full_while_pictures_are_written_is_named(tmp_path):
    def fill():
        raise OSError(errno.ENOSPC, "No space left on device")

    output = tmp_path / "f_%03d.png"
    with refused("cannot-write", RequestError, path=output):
        run(clip(tmp_path / "in.mp4", 5), output, Averaging(wait=fill))
    assert names(tmp_path) == ["in.mp4"]


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
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this is about machines without an NVIDIA GPU")
@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_nvenc_without_a_gpu_is_refused(tmp_path, codec):
    source = clip(tmp_path / "in.mp4", 2)
    with refused("cannot-encode", RequestError, codec=codec):
        run(source, tmp_path / "out.mkv", codec=codec)
    assert names(tmp_path) == ["in.mp4"]


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


def test_cover_art_is_left_out_where_it_cannot_be(tmp_path):
    """FFmpeg writes none into MOV, and does not say so."""
    cover = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(cover, "PNG")
    with av.open(str(clip(tmp_path / "plain.mkv", 2))) as plain, av.open(str(tmp_path / "in.mkv"), "w") as rich:
        copy = rich.add_stream_from_template(plain.streams.video[0])
        rich.add_attachment("cover.png", "image/png", cover.getvalue())
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = copy
                rich.mux_one(packet)
    notes = {name: run(tmp_path / "in.mkv", tmp_path / name).notes for name in ("out.mov", "out.mp4")}
    assert [any("png" in note for note in notes[name]) for name in notes] == [True, False]


def test_hdr_that_an_encoder_does_not_write_is_noted(tmp_path):
    options = {"x265-params": "log-level=error:hdr10=1:max-cll=1000,400"}
    source = clip(tmp_path / "in.mkv", 2, codec="libx265", layout="yuv420p10le", options=options)
    notes = {codec: run(source, tmp_path / f"{codec}.mkv", codec=codec).notes for codec in ("ffv1", "libx265")}
    assert [any("content light" in note for note in notes[codec]) for codec in notes] == [True, False]


def test_streams_besides_the_pictures_are_kept(tmp_path):
    """Subtitles, attachments, chapters and cover art, into the containers that have them."""
    cover = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(cover, "JPEG")
    (tmp_path / "text.srt").write_text("1\n00:00:00,200 --> 00:00:00,700\nHello\n")
    with (
        av.open(str(clip(tmp_path / "plain.mkv", 50, sounds=[Sound(), Sound()]))) as plain,
        av.open(str(tmp_path / "text.srt")) as text,
        av.open(str(tmp_path / "in.mkv"), "w") as rich,
    ):
        copies = {one.index: rich.add_stream_from_template(one, opaque=True) for one in plain.streams}
        titles = rich.add_stream_from_template(text.streams.subtitles[0], opaque=True)
        titles.metadata["language"] = "deu"
        rich.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        rich.add_attachment("font.ttf", "application/x-truetype-font", b"a font")
        rich.set_chapters(
            [{"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        for packet in text.demux():
            if packet.size:
                packet.stream = titles
                rich.mux_one(packet)
        for packet in plain.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                rich.mux_one(packet)
    for output, kinds in (
        ("out.mkv", ["attachment", "audio", "audio", "subtitle", "video", "video"]),
        ("out.mp4", ["audio", "audio", "data", "video", "video"]),
    ):
        notes = run(tmp_path / "in.mkv", tmp_path / output).notes
        with av.open(str(tmp_path / output)) as container:
            assert sorted(one.type for one in container.streams) == kinds
            assert [one["metadata"]["title"] for one in container.chapters()] == ["one"]
            if output == "out.mkv":
                assert [bytes(one) for one in container.demux(subtitles=0) if one.size] == [b"Hello"]
        assert any("subtitle" in note for note in notes) == (output == "out.mp4")


@pytest.mark.parametrize(("output", "codec"), [("out.mkv", "aac"), ("out.webm", "opus")])
def test_slow_motion_stretches_the_sound(tmp_path, output, codec):
    source = clip(tmp_path / "in.mp4", 25, sounds=[Sound("aac", 1.0)])
    result = run(source, tmp_path / output, slow=4)
    found = read_clip(tmp_path / output)
    assert result.frames_written == 100
    assert found.video["rate"] == 25
    assert_frames(found.pictures, 25, 4)
    with av.open(str(tmp_path / output)) as container:
        assert container.streams.audio[0].codec_context.name == codec
        sound = np.concatenate([one.to_ndarray()[0] for one in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    assert len(sound) / rate == pytest.approx(4, abs=0.1)
    loudest = np.abs(np.fft.rfft(sound)).argmax() * rate / len(sound)
    assert loudest == pytest.approx(440, abs=10)  # its pitch stays
    assert read_clip(tmp_path / output).length_s == pytest.approx(4, abs=0.1)
    run(source, tmp_path / output, slow=4, audio=False, force=True)
    assert read_clip(tmp_path / output).sounds == []


def test_a_pipe_gives_what_a_file_gives(tmp_path, monkeypatch):
    """YUV4MPEG on standard input and output."""
    source = clip(tmp_path / "in.y4m", 6, codec="wrapped_avframe")
    with (tmp_path / "out.y4m").open("wb") as output, source.open("rb") as given:
        monkeypatch.setattr("sys.stdin", type("Stream", (), {"buffer": given}))
        monkeypatch.setattr("sys.stdout", output)
        result = run(Path("-"), Path("-"), fps=60)
    assert result.frames_written == 15
    found = read_clip(tmp_path / "out.y4m")
    assert (len(found.pictures), found.video["rate"]) == (15, 60)
    assert names(tmp_path) == ["in.y4m", "out.y4m"]
    for index in range(13):
        assert np.abs(np.array(shares_of(found.pictures[index])) - expected_shares(index * 25 / 60)).max() < 0.04


@pytest.mark.parametrize(
    ("name", "first", "options"),
    [("in.mp4", 0, {}), ("in.mkv", 0, {}), ("in.mkv", 7, {"fps": 48}), ("in.mp4", 7, {"times": 2})],
)
def test_a_pipe_states_the_rate_whatever_the_unit_of_the_times(tmp_path, monkeypatch, name, first, options):
    unit = Fraction(1, 24000)
    source = clip(tmp_path / name, rate=24, times=[first * 1000 + 1000 * k for k in range(6)], time_base=unit)
    with (tmp_path / "out.y4m").open("wb") as output:
        monkeypatch.setattr("sys.stdout", output)
        run(source, Path("-"), **options)
    assert b" F48:1 " in (tmp_path / "out.y4m").read_bytes()[:60]
    assert_frames(read_clip(tmp_path / "out.y4m").pictures, 6, 2)


def test_a_pipe_has_a_constant_rate_where_that_of_the_video_varies(tmp_path, monkeypatch):
    source = clip(tmp_path / "in.mkv", times=[0, 1, 2, 5, 6, 9], time_base=Fraction(1, 25), codec="ffv1")
    with (tmp_path / "out.y4m").open("wb") as output:
        monkeypatch.setattr("sys.stdout", output)
        run(source, Path("-"))
    found = read_clip(tmp_path / "out.y4m")
    assert float(found.length_s) == pytest.approx(10 / 25, abs=0.08)
    shown = round(Fraction(5, 25) * found.video["rate"])
    assert np.abs(np.array(shares_of(found.pictures[shown])) - expected_shares(3)).max() < 0.3


def test_a_pipe_that_closes_is_an_error(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output, refused("pipe-closed", RequestError):
        monkeypatch.setattr("sys.stdout", output)
        run(clip(tmp_path / "in.mp4", 20), Path("-"))


def test_mirroring_is_kept_not_applied(tmp_path):
    with av.open(str(clip(tmp_path / "plain.mp4", 4))) as plain, av.open(str(tmp_path / "in.mp4"), "w") as mirrored:
        stream = mirrored.add_stream_from_template(plain.streams.video[0])
        stream.set_display_rotation(90, hflip=True)
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = stream
                mirrored.mux_one(packet)
    matrices = []
    for name in ("in.mp4", "out.mp4", "out.mkv"):
        if name != "in.mp4":
            run(tmp_path / "in.mp4", tmp_path / name)
        matrices.append(bytes(read_clip(tmp_path / name).first.side_data["DISPLAYMATRIX"]))
    assert matrices[0] == matrices[1] == matrices[2]
    assert any("not turned" in note for note in run(tmp_path / "in.mp4", tmp_path / "out.gif").notes)
    assert_frames(read_clip(tmp_path / "out.mkv").pictures, 4, 2)


def test_prores_takes_8_bits_as_10_in_limited_range(tmp_path):
    source = clip(tmp_path / "in.mp4", 4, options={"qp": "0"})
    assert any("yuv422p10le" in note for note in run(source, tmp_path / "out.mov", codec="prores_ks").notes)
    found = read_clip(tmp_path / "out.mov")
    assert found.video["layout"] == "yuv422p10le"
    assert_frames(found.pictures, 4, 2)
    with refused("range-not-encoded", FrameError):
        run(clip(tmp_path / "full.mp4", 4, full=True), tmp_path / "full.mov", codec="prores_ks")


def test_sound_that_cannot_be_decoded_is_named(tmp_path):
    """Slow motion decodes it; otherwise it is copied as it is."""
    source = clip(tmp_path / "in.mkv", sounds=[Sound("aac", 0.2)])
    with av.open(str(source)) as container:
        packet = bytes([packet for packet in container.demux(audio=0) if packet.size][4])
    source.write_bytes(source.read_bytes().replace(packet, b"\xff" * len(packet)))
    with refused("sound-damaged", path=source):
        run(source, tmp_path / "out.mkv", slow=2)
    assert run(source, tmp_path / "out.mkv", slow=2, audio=False).frames_written == 12
    assert run(source, tmp_path / "copied.mkv").frames_written == 12


@pytest.mark.parametrize(
    ("codec", "output", "options"),
    [
        ("libopus", "out.mp4", {}),
        ("flac", "out.mp4", {}),
        ("flac", "out.mkv", {}),
        ("alac", "out.mkv", {}),
        ("alac", "out.mkv", {"slow": 2}),
    ],
)
def test_sound_with_a_damaged_header_is_named(tmp_path, codec, output, options):
    """MP4 and Matroska refuse it as they write the trailer, and the header; of ALAC nothing is known then."""
    source = clip(tmp_path / "in.mkv", sounds=[Sound(codec, 0.2)])
    with av.open(str(source)) as container:
        header = bytes(container.streams.audio[0].codec_context.extradata)
    before, found, after = source.read_bytes().partition(header)
    at = before.rindex(b"\x63\xa2")  # CodecPrivate
    source.write_bytes(before[:at] + b"\x63\xa3" + before[at + 2 :] + found + after)
    with refused("stream-damaged", FrameError, path=source):
        run(source, tmp_path / output, **options)
    assert names(tmp_path) == ["in.mkv"]
    assert run(source, tmp_path / output, audio=False).frames_written == 12


def test_rates_that_no_encoder_takes_are_refused(tmp_path):
    """A YUV4MPEG header may state any."""
    source = tmp_path / "in.y4m"
    picture = bytes(64 * 96 * 3 // 2)
    source.write_bytes(b"YUV4MPEG2 W96 H64 F99999999999:1 C420jpeg\n" + 2 * (b"FRAME\n" + picture))
    with refused("cannot-encode"):
        run(source, tmp_path / "out.mkv")
