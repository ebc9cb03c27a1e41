"""Clips of each kind, made by ffmpeg and read back by ffprobe: streams, colours, rotation, chapters and length stay."""

import pytest

from tests.support.interpolation_clips import clip, run
from tests.support.real_ffmpeg import ffmpeg, ffprobe, needs_ffmpeg

VIDEO = "-f lavfi -i testsrc2=s=128x96:r=24:d=1"
SOUND = "-f lavfi -i sine=440:d=1"
HD = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"
HDR = "-colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084 -color_range tv -pix_fmt yuv420p10le"
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
STREAMS = "stream=codec_type,color_range,color_space,color_transfer,color_primaries"
CHAPTERS = """;FFMETADATA1
[CHAPTER]
TIMEBASE=1/1000
START=0
END=500
title=first
[CHAPTER]
TIMEBASE=1/1000
START=500
END=1000
title=second
"""

pytestmark = needs_ffmpeg


@pytest.mark.parametrize(
    ("name", "made_with", "written_with"),
    [
        (
            "all.mkv",
            f"{VIDEO} {SOUND} {SOUND} -i s.srt -i c.txt -map 0 -map 1 -map 2 -map 3 -map_metadata 4 -c:v libx264 "
            f"-c:a:0 aac -c:a:1 flac {HD}",
            {},
        ),
        ("all.mp4", f"{VIDEO} {SOUND} -i s.srt -map 0 -map 1 -map 2 -c:v libx264 -c:a aac -c:s mov_text {HD}", {}),
        ("small.webm", f"{VIDEO} {SOUND} -c:v libvpx-vp9 -c:a libopus {HD}", {}),
        ("deep.mp4", f"{VIDEO} -c:v libx265 -x265-params log-level=error:master-display={MASTERING} {HDR}", {}),
        ("edit.mov", f"{VIDEO} -c:v prores_ks -pix_fmt yuv422p10le {HD}", {"codec": "prores_ks"}),
        ("lossless.mkv", f"{VIDEO} -c:v ffv1 {HD}", {"codec": "ffv1"}),
        ("new.mkv", f"{VIDEO} -c:v libx264 {HD}", {"codec": "libsvtav1"}),
        ("still.mkv", f"{VIDEO} {SOUND} -c:v libx264 {HD} -vf setpts=N*N/576/TB -fps_mode vfr", {}),
    ],
)
def test_a_clip_of_each_kind(tmp_path, name, made_with, written_with):
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    (tmp_path / "c.txt").write_text(CHAPTERS)
    ffmpeg(f"{made_with} {name}", tmp_path)
    source, output = tmp_path / name, tmp_path / f"out.{name}"
    run(source, output, **written_with)
    for entries in (STREAMS, "chapter=start_time,end_time:chapter_tags=title", "stream_tags=title,language"):
        assert ffprobe(output, entries) == ffprobe(source, entries)
    shapes = [ffprobe(path, "frame_side_data=side_data_type,red_x,max_luminance") for path in (source, output)]
    assert [("Mastering" in one, "34000/50000" in one) for one in shapes] == [(name == "deep.mp4",) * 2] * 2
    lengths = [float(ffprobe(path, "format=duration")) for path in (source, output)]
    assert lengths[1] == pytest.approx(lengths[0], abs=1 / 24)
    counted = "stream=nb_read_packets -count_packets -select_streams v"
    assert int(ffprobe(output, counted)) == 2 * int(ffprobe(source, counted))


def test_rotation_stays(tmp_path):
    source = clip(tmp_path / "in.mp4", 4, rotation=90)
    run(source, tmp_path / "out.mp4")
    found = {ffprobe(path, "stream_side_data=rotation") for path in (source, tmp_path / "out.mp4")}
    assert len(found) == 1
    assert "90" in found.pop()
