"""Files as ffmpeg writes them are whole, whatever their times; with a part taken out they are not."""

import pytest

from refine_export.data.completeness import Completeness
from refine_export.data.video import open_video
from refine_export.errors import FrameError
from tests.support.real_ffmpeg import ffmpeg, needs_ffmpeg
from tests.support.refusals import refused

SOURCE = "-f lavfi -i testsrc2=s=128x96:r=30:d=2"
SOUND = "-f lavfi -i sine=440:d=4"
STILL = "-vf \"setpts='if(lt(N,10),N,N+300)/30/TB'\" -fps_mode vfr"
"""Stands still for ten seconds, as the recording of a screen does."""
FASTER = "-vf \"setpts='N*N/300/TB'\" -fps_mode vfr"
REPEATED = "-f lavfi -i testsrc2=s=128x96:r=10:d=2,fps=30"
X264 = "-c:v libx264 -preset ultrafast -bf 2"
OPEN_GOP = "-c:v libx264 -g 15 -bf 3 -x264-params open-gop=1"

pytestmark = needs_ffmpeg


def decoded(path):
    with open_video(path) as video:
        return sum(1 for _ in video.decode())


@pytest.mark.parametrize(
    ("name", "commands", "frames"),
    [
        ("still.mp4", [f"{SOURCE} {SOUND} {X264} {STILL} still.mp4"], 60),
        ("still.mkv", [f"{SOURCE} {SOUND} {X264} {STILL} still.mkv"], 60),
        ("still.webm", [f"{SOURCE} {SOUND} -c:v libvpx -b:v 300k {STILL} still.webm"], 60),
        ("still.ts", [f"{SOURCE} {SOUND} {X264} {STILL} still.ts"], 60),
        ("still.flv", [f"{SOURCE} {SOUND} -c:v libx264 -bf 0 -c:a aac {STILL} still.flv"], 60),
        ("still.avi", [f"{SOURCE} {SOUND} -c:v mpeg4 {STILL} still.avi"], 60),
        ("fill.ts", [f"{SOURCE} {SOUND} {X264} {STILL} -muxrate 2M fill.ts"], 60),
        ("faster.mkv", [f"{SOURCE} {SOUND} {X264} {FASTER} faster.mkv"], 58),
        ("faster.avi", [f"{SOURCE} {SOUND} -c:v mpeg4 {FASTER} faster.avi"], 58),
        (
            "twice.mkv",
            [f"{SOURCE} {SOUND} -map 0:v -map 1:a -map 0:v -c:v:0 libx264 -c:v:1 mjpeg {STILL} twice.mkv"],
            60,
        ),
        (
            "few.avi",
            [f"-f lavfi -i testsrc2=s=128x96:r=10:d=2,fps=30 {SOUND} -vf mpdecimate -fps_mode vfr few.avi"],
            20,
        ),
        ("late.avi", [f"{SOURCE} -itsoffset 1.5 {SOUND} -c:v mpeg4 late.avi"], 60),
        ("late.mp4", [f"-itsoffset 1.5 {SOURCE} {SOUND} -map 0:v -map 1:a {X264} late.mp4"], 105),
        ("offset.mkv", [f"{SOURCE} {X264} -output_ts_offset 7.3 offset.mkv"], 60),
        ("part.mkv", [f"{SOURCE} {OPEN_GOP} whole.mkv", "-ss 0.8 -i whole.mkv -c copy part.mkv"], None),
        ("part.mp4", [f"{SOURCE} {OPEN_GOP} whole.mp4", "-ss 0.81 -i whole.mp4 -c copy part.mp4"], None),
        ("part.ts", [f"{SOURCE} {OPEN_GOP} whole.ts", "-ss 0.8 -i whole.ts -c copy part.ts"], None),
        (
            "slower.mkv",
            [
                f"{SOURCE} {X264} a.mkv",
                f"-f lavfi -i testsrc2=s=128x96:r=15:d=2 {X264} b.mkv",
                "-f concat -i list -c copy slower.mkv",
            ],
            90,
        ),
        ("fragments.mp4", [f"{SOURCE} {SOUND} {X264} {STILL} -movflags frag_keyframe+empty_moov fragments.mp4"], 60),
    ],
)
def test_whole_files_are_not_refused(tmp_path, name, commands, frames):
    (tmp_path / "list").write_text("file a.mkv\nfile b.mkv\n")
    for command in commands:
        ffmpeg(command, tmp_path)
    found = decoded(tmp_path / name)
    assert found == frames or (frames is None and found > 20)


@pytest.mark.parametrize("at", [0.4, 0.7])
@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("still.mkv", f"{X264} {STILL}"),
        ("even.mkv", X264),
        ("even.ts", X264),
        ("even.flv", "-c:v libx264 -bf 0"),
        ("even.avi", "-c:v mpeg4"),
    ],
)
def test_a_hole_is_found(tmp_path, name, encoder, at):
    """Bytes in the middle of a file are replaced by zeros."""
    ffmpeg(f"-f lavfi -i testsrc2=s=320x240:r=30:d=2 {SOUND} {encoder} -b:v 2M whole.{name[-3:]}", tmp_path)
    content = bytearray((tmp_path / f"whole.{name[-3:]}").read_bytes())
    place = int(len(content) * at)
    content[place : place + 32768] = bytes(32768)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrameError) as caught:
        decoded(tmp_path / name)
    assert caught.value.code in ("frames-missing", "video-broken", "video-undecodable", "video-truncated")


@pytest.mark.parametrize(
    ("name", "options"), [("end.avi", ""), ("end.mkv", ""), ("end.mp4", "-movflags faststart"), ("still.mkv", STILL)]
)
def test_an_end_that_is_missing_is_found(tmp_path, name, options):
    ffmpeg(f"{SOURCE} -c:v mpeg4 {options} {name}", tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(FrameError):
        decoded(tmp_path / name)


def test_frames_that_lead_the_first_key_frame_are_not_asked_for(tmp_path):
    """Only those: a packet behind it that gives no frame counts."""
    ffmpeg(f"{SOURCE} {OPEN_GOP} whole.mkv", tmp_path)
    ffmpeg("-ss 0.8 -i whole.mkv -c copy part.mkv", tmp_path)
    with open_video(tmp_path / "part.mkv") as video:
        found = Completeness(video.path, video.container, video.stream, video.rate)
        for packet in video.container.demux():
            found.take_packet(packet)
            for frame in packet.decode():
                if frame.pts != 500:
                    found.take_frame(frame)
        assert (found.lost, [error.code for error in found.problems(0, 0)]) == (1, ["frames-missing"])


@pytest.mark.parametrize(("more", "is_cut"), [(0, False), (500, True)])
def test_yuv4mpeg_that_ends_within_a_frame(tmp_path, more, is_cut):
    frame = b"FRAME\n" + bytes(96 * 64 * 3 // 2)
    (tmp_path / "in.y4m").write_bytes(b"YUV4MPEG2 W96 H64 F25:1 C420jpeg\n" + frame * 3 + frame[:more])
    if is_cut:
        with refused("video-truncated", FrameError, frame=3):
            decoded(tmp_path / "in.y4m")
    else:
        assert decoded(tmp_path / "in.y4m") == 3
