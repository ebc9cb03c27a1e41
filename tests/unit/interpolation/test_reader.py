"""Videos that are not what they say: packets that are lost, colours that change, times and sound of another kind."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from refine_export.errors import FrameError
from refine_export.interpolation.reader import Gap, open_source
from tests.support.interpolation_clips import Sound, _write_sound, clip, remuxed, run


def test_packets_that_give_no_frame_are_noted(tmp_path):
    """What a decoder drops without an error: here frames that refer to some that are not there."""
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
    with pytest.raises(FrameError) as caught:
        run(source, tmp_path / "out.mp4")
    assert (caught.value.code, caught.value.fields["frame"]) == ("frame-colours-change", 4)
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


CODES = ("video-truncated", "video-undecodable", "video-broken")


def refused(folder, codes=CODES):
    """The input is refused, and nothing is written."""
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(FrameError) as caught:
        run(next(folder.glob("in.*"), folder / "in.mp4"), folder / "out.mp4")
    assert caught.value.code in codes
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_truncated_video_is_not_a_shorter_one(tmp_path):
    """Matroska says its length; half of it is gone."""
    whole = clip(tmp_path / "whole.mkv", 60, codec="ffv1").read_bytes()
    (tmp_path / "in.mkv").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path)


def test_an_mp4_without_its_end_is_truncated(tmp_path):
    whole = clip(tmp_path / "whole.mp4", 60, options={"qp": "0"})
    front = tmp_path / "front.mp4"  # its index first, so that it opens
    with av.open(str(whole)) as source, av.open(str(front), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = front.read_bytes()
    (tmp_path / "in.mp4").write_bytes(content[: len(content) * 2 // 3])
    refused(tmp_path)


def test_damage_in_the_middle_is_refused(tmp_path):
    content = bytearray(clip(tmp_path / "whole.mkv", 30, codec="ffv1").read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 600):
        content[at] ^= 0x5A
    (tmp_path / "in.mkv").write_bytes(content)
    refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "video-undecodable"), (b"no video at all" * 99, "video-undecodable"), (None, "not-found")],
)
def test_what_is_not_a_video_is_refused(tmp_path, content, code):
    if content is not None:
        (tmp_path / "in.mp4").write_bytes(content)
    refused(tmp_path, (code,))


def test_sound_alone_is_not_a_video(tmp_path):
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        _write_sound(container, container.add_stream("aac", rate=48000), Sound())
    refused(tmp_path, ("no-video",))
