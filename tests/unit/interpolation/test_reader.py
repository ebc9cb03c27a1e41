"""Videos that are not what they say: packets that are lost, colours that change, times and sound of another kind."""

from fractions import Fraction

import av
import pytest

from refine_export.errors import FrameError
from refine_export.interpolation.reader import Gap, open_source
from tests.support.interpolation_clips import Sound, _write_sound, clip, remuxed, run
from tests.support.refusals import refused


def test_packets_that_give_no_frame_are_noted(tmp_path):
    """A decoder drops them without an error: here frames that refer to some that are not there."""
    whole = clip(tmp_path / "whole.mp4", 40, options={"bf": "0", "g": "100"})
    lost = remuxed(whole, tmp_path / "in.mkv", lambda packets: packets[:10] + packets[20:])
    with av.open(str(lost)) as container:
        count = sum(1 for _ in container.decode(video=0))
    assert count < 30
    result = run(lost, tmp_path / "out.mp4")
    assert result.frames_read == count
    assert any(note.startswith(f"{30 - count} of its packets gave no frame") for note in result.notes)
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
        items = list(opened.gaps())
    assert sum(isinstance(item, Gap) for item in items) == 40
    assert sum(not isinstance(item, Gap) for item in items) > 400
    with open_source(source, audio=False) as opened:
        assert all(isinstance(item, Gap) for item in opened.gaps())


def truncated(folder, name, **options):
    """Write 60 frames, and the first half of the file as `in` beside it."""
    whole = clip(folder / f"whole{name}", 60, **options).read_bytes()
    (folder / f"in{name}").write_bytes(whole[: len(whole) // 2])


def damaged(folder):
    content = bytearray(clip(folder / "whole.mkv", 30, codec="ffv1").read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 600):
        content[at] ^= 0x5A
    (folder / "in.mkv").write_bytes(content)


def without_pictures(folder):
    with av.open(str(folder / "in.mp4"), "w") as container:
        _write_sound(container, container.add_stream("aac", rate=48000), Sound())


@pytest.mark.parametrize(
    ("make", "codes"),
    [
        (lambda folder: truncated(folder, ".mkv", codec="ffv1"), ("video-truncated", "video-undecodable")),
        (
            lambda folder: truncated(folder, ".mp4", options={"qp": "0"}, container_options={"movflags": "faststart"}),
            ("video-truncated", "video-undecodable"),
        ),
        (damaged, ("video-undecodable", "video-broken")),
        (without_pictures, ("no-video",)),
        (lambda folder: (folder / "in.mp4").write_bytes(b""), ("video-undecodable",)),
        (lambda folder: (folder / "in.mp4").write_bytes(b"no video at all" * 99), ("video-undecodable",)),
        (lambda folder: None, ("not-found",)),
    ],
)
def test_what_is_not_a_whole_video_is_refused(tmp_path, make, codes):
    """Truncated files are not shorter ones: those that have their length written down are compared with it."""
    make(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(FrameError) as caught:
        run(next(tmp_path.glob("in.*"), tmp_path / "in.mp4"), tmp_path / "out.mp4")
    assert caught.value.code in codes
    assert sorted(path.name for path in tmp_path.iterdir()) == before
