"""Videos that are not what they say: packets that are lost, colours that change, times and sound of another kind."""

import io
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest

from refine_export.errors import FrameError
from refine_export.interpolation.interpolation_options import VideoOptions
from refine_export.interpolation.reader import open_source
from tests.support.interpolation_clips import (
    Sound,
    clip,
    expected_shares,
    numbered,
    read_clip,
    remuxed,
    run,
    shares_of,
    write_clip,
)
from tests.support.paths import names_in
from tests.support.refusals import refused


def test_packets_that_give_no_frame_are_refused_or_noted(tmp_path):
    """A decoder drops them without an error: here frames that refer to some that are not there."""
    whole = clip(tmp_path / "whole.mp4", 40, options={"bf": "0", "g": "100"})
    lost = remuxed(whole, tmp_path / "in.mkv", lambda packets: packets[:10] + packets[20:])
    with av.open(str(lost)) as container:
        count = sum(1 for _ in container.decode(video=0))
    assert count < 30
    with refused("frames-missing", FrameError):
        run(lost, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("out*"))
    result = run(lost, tmp_path / "out.mp4", allow_missing=True)
    assert result.frames_read == count
    assert any("it is damaged" in note for note in result.notes)
    assert run(whole, tmp_path / "whole_out.mp4").notes == ()


def joined(folder, parts):
    """Bare H.264 of one kind after the other, in a container."""
    content = b""
    for options in parts:
        content += clip(folder / "part.h264", 4, options={"bf": "0"}, **options).read_bytes()
    (folder / "all.h264").write_bytes(content)

    def timed(packets):
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1, 25)
        return packets

    return remuxed(folder / "all.h264", folder / "in.mkv", timed)


def test_a_pixel_format_that_changes_is_noted(tmp_path):
    result = run(joined(tmp_path, [{}, {"layout": "yuv444p"}]), tmp_path / "out.mkv")
    assert (result.frames_written, [note for note in result.notes if "yuv444p" in note]) == (
        16,
        ["frame 4 and others are yuv444p: they are encoded as yuv420p is"],
    )


@pytest.mark.parametrize("second", [{"layout": "yuvj420p", "full": True}, {"matrix": 1}])
def test_colours_that_change_in_mid_stream_are_refused(tmp_path, second):
    source = joined(tmp_path, [{}, second])
    with refused("frame-colours-change", FrameError, frame=4):
        run(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("second", [{"matrix": 6}, {"layout": "yuv444p"}, {"tagged": False}])
def test_what_means_the_same_goes_on(tmp_path, second):
    """BT.601 has two numbers; other bits and subsampling are converted; a small video without a name is BT.601."""
    assert run(joined(tmp_path, [{}, second]), tmp_path / "out.mp4").frames_read == 8


def test_sound_far_behind_the_pictures_does_not_wait_for_them(tmp_path):
    """Packets are passed on as they are read: a file may have minutes of sound behind its last frame."""
    source = clip(tmp_path / "in.mp4", 40, sounds=[Sound("aac", 9.0)])
    with open_source(source) as opened:
        assert len(list(opened.gaps())) == 40
    run(source, tmp_path / "out.mp4")
    assert len(read_clip(tmp_path / "out.mp4").sounds[0]) > 400


def truncated(folder, name, **options):
    """Write 60 frames, and the first half of the file as `in` beside it."""
    whole = clip(folder / f"whole{name}", 60, **options).read_bytes()
    (folder / f"in{name}").write_bytes(whole[: len(whole) // 2])


def damaged(folder):
    content = bytearray(clip(folder / "whole.mkv", 30, codec="ffv1").read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 600):
        content[at] ^= 0x5A
    (folder / "in.mkv").write_bytes(content)


@pytest.mark.parametrize(
    ("make", "codes"),
    [
        (lambda folder: truncated(folder, ".mkv", codec="ffv1"), ("video-truncated", "video-undecodable")),
        (
            lambda folder: truncated(folder, ".mp4", options={"qp": "0"}, container_options={"movflags": "faststart"}),
            ("video-truncated", "video-undecodable"),
        ),
        (damaged, ("frames-missing", "video-broken")),
        (lambda folder: None, ("not-found",)),
    ],
)
def test_what_is_not_a_whole_video_is_refused(tmp_path, make, codes):
    """Truncated files are not shorter ones: those that have their length written down are compared with it."""
    make(tmp_path)
    before = names_in(tmp_path)
    with pytest.raises(FrameError) as caught:
        run(next(tmp_path.glob("in.*"), tmp_path / "in.mp4"), tmp_path / "out.mp4")
    assert caught.value.code in codes
    assert names_in(tmp_path) == before


def test_missing_frames_are_no_advice_for_a_container_that_cannot_be_opened(tmp_path):
    truncated(tmp_path, ".mp4")  # its index is at the end
    for allow_missing in (False, True):
        with pytest.raises(FrameError, match="copy or make it again") as caught:
            run(tmp_path / "in.mp4", tmp_path / "out.mp4", allow_missing=allow_missing)
        assert caught.value.code == "video-undecodable"
        assert "--allow-missing" not in str(caught.value)


def zeroed(folder, name, share, **options):
    """Write a video, and the same with 4 KiB of zeros in it as `in` beside it."""
    content = bytearray(moving(folder / f"whole{name}", **options).read_bytes())
    at = int(len(content) * share)
    content[at : at + 4096] = bytes(4096)
    (folder / f"in{name}").write_bytes(content)
    return folder / f"in{name}"


def cut(folder, name, by, **options):
    content = moving(folder / f"whole{name}", **options).read_bytes()
    (folder / f"in{name}").write_bytes(content[: len(content) - by])
    return folder / f"in{name}"


def flipped(folder, name, **options):
    content = bytearray(moving(folder / f"whole{name}", **options).read_bytes())
    content[len(content) * 6 // 10] ^= 1
    (folder / f"in{name}").write_bytes(content)
    return folder / f"in{name}"


def moving(path, **options):
    base = np.kron(np.random.default_rng(1).integers(0, 256, (16, 24, 3)), np.ones((12, 12, 1))).astype(np.uint8)
    return write_clip(path, [np.roll(base, 3 * k, 1) for k in range(40)], **options)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda folder: zeroed(folder, ".mkv", 0.5, codec="ffv1"), "frames-missing"),
        (lambda folder: zeroed(folder, ".ts", 0.5), "frames-missing"),
        (lambda folder: zeroed(folder, ".webm", 0.6, codec="libvpx", options={"b": "2M"}), "video-truncated"),
        (lambda folder: cut(folder, ".mkv", 4096, codec="ffv1"), "video-truncated"),
        (lambda folder: flipped(folder, ".mkv", codec="ffv1"), "video-broken"),
    ],
)
def test_damage_that_decoders_pass_over_is_refused_unless_it_is_allowed(tmp_path, make, code):
    """Frames are left out, or replaced by those before, without an error of FFmpeg."""
    source = make(tmp_path)
    with refused(code, FrameError):
        run(source, tmp_path / "out.mkv")
    assert not list(tmp_path.glob("out*"))
    result = run(source, tmp_path / "out.mkv", allow_missing=True)
    assert result.frames_read < 40
    assert any("it is damaged" in note for note in result.notes)


def test_a_variable_rate_is_not_damage(tmp_path):
    """Times jump, and no bytes are missing."""
    ticks = [0, 1, 2, 9, 10, 30, 31]
    source = clip(tmp_path / "in.mkv", 7, codec="ffv1", times=ticks, time_base=Fraction(1, 25))
    assert run(source, tmp_path / "out.mkv").frames_read == 7


@pytest.mark.parametrize("rate", ["0:0", "0:1", "1:0", "-1:1", ""])
@pytest.mark.parametrize("is_pipe", [False, True])
def test_a_rate_of_zero_is_refused(tmp_path, monkeypatch, rate, is_pipe):
    """FFmpeg takes 25 in its place, without a message."""
    content = f"YUV4MPEG2 W96 H64 F{rate} C420jpeg\n".encode() + 3 * (b"FRAME\n" + bytes(96 * 64 * 3 // 2))
    (source := tmp_path / "in.y4m").write_bytes(content)
    if is_pipe:
        source = source.__class__("-")
        monkeypatch.setattr("sys.stdin", type("Stream", (), {"buffer": io.BytesIO(content)}))
    with refused("frame-rate-zero", FrameError, path=source):
        run(source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.y4m"]


def test_alpha_that_the_decoder_drops_is_noted(tmp_path):
    source = tmp_path / "in.webm"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, width=96, height=64)
        stream.pix_fmt = "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(96, 64, "yuva420p")))
        container.mux(stream.encode(None))
    assert "its alpha channel is left out" in run(source, tmp_path / "out.mp4").notes


def test_repeated_frames_are_left_out_on_request(tmp_path):
    """Animation on twos: every second frame repeats; the times of the others are kept."""
    source = write_clip(tmp_path / "in.mp4", [numbered(k // 2) for k in range(12)], options={"qp": "4"})
    result = run(source, tmp_path / "out.mkv", times=1.5, dedupe=True, codec="ffv1")
    assert (result.frames_read, result.repeated, result.frames_written) == (12, 5, 18)  # the last one stays
    for index, picture in enumerate(read_clip(tmp_path / "out.mkv").pictures[:15]):
        assert np.abs(np.array(shares_of(picture)) - expected_shares(index / 3)).max() < 0.04


def test_a_picture_that_stands_still_is_not_taken_for_repeated_frames(tmp_path):
    source = write_clip(tmp_path / "in.mp4", [numbered(max(0, k - 9)) for k in range(12)], options={"qp": "4"})
    with open_source(source, VideoOptions(dedupe=True)) as opened:
        pairs = [(gap.before.number, gap.after.number) for gap in opened.gaps() if gap.after is not None]
    assert pairs == [(0, 4), (4, 8), (8, 10), (10, 11)]


def test_24_frames_in_30_get_the_times_of_24(tmp_path):
    """Every fourth frame is shown twice: at 60 a second, each is 2.5 frames behind the one before."""
    shown = [k for k in range(24) for _ in range(1 + (k % 4 == 3))]
    source = write_clip(tmp_path / "in.mp4", [numbered(k) for k in shown], rate=30, options={"qp": "2"})
    result = run(source, tmp_path / "out.mkv", fps=60, dedupe=True, codec="ffv1")
    assert (result.frames_read, result.repeated, result.frames_written) == (30, 5, 60)
    for index, picture in enumerate(read_clip(tmp_path / "out.mkv").pictures[:50]):
        assert np.abs(np.array(shares_of(picture)) - expected_shares(index / 2.5)).max() < 0.04, index


@pytest.mark.parametrize("skip", [0, 240, 250])
def test_a_frame_that_is_shown_for_long_has_its_frames_in_parts(tmp_path, skip):
    """All at once, those of an hour would take 300 GB at 1080p."""
    source = write_clip(tmp_path / "in.mkv", [numbered(k) for k in range(3)], times=[0, 1, 3601])
    with open_source(source, VideoOptions(fps=60)) as opened:
        gaps = list(islice(opened.gaps(skip), 40))
    shots = [shot for gap in gaps for shot in gap.shots]
    assert [shot.pts for shot in shots] == list(range(skip, skip + len(shots)))
    assert max(len(gap.shots) for gap in gaps) <= 64 < len(shots)
    assert sum(gap.counts for gap in gaps) == (0 if skip else 2)
