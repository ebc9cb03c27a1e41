"""Clips of each kind, made by ffmpeg and read back by ffprobe: streams, colours, rotation, chapters and length stay."""

import pytest

from tests.support.interpolation_clips import clip, run
from tests.support.real_ffmpeg import ffmpeg, ffprobe, needs_ffmpeg

VIDEO = "-f lavfi -i testsrc2=s=128x96:r=20:d=1"
SOUND = "-f lavfi -i sine=440:d=1"
HD = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"
HDR = "-colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084 -color_range tv -pix_fmt yuv420p10le"
LIGHT = "hdr10=1:max-cll=1000,400:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
DEEP = f"{VIDEO} -c:v libx265 -x265-params log-level=error:{LIGHT} {HDR}"
X264 = f"-c:v libx264 {HD}"
RGB = "-colorspace rgb -color_range pc"
COVER = "-f lavfi -i color=red:s=32x32:d=1 -frames:v 1 cover.png"
IN_MP4 = "-map 0 -map 1 -c:v:1 png -disposition:v:1 attached_pic"
IN_MKV = "-attach cover.png -metadata:s:t mimetype=image/png"
ORIENTED = f"{VIDEO} {X264} -bsf:v h264_metadata=display_orientation=insert"
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
COLOURS = ("pix_fmt", "color_range", "color_space", "color_transfer", "color_primaries")
KEPT = ("codec_type", "width", "height", "channels", "sample_rate")

pytestmark = needs_ffmpeg


def streams_of(found):
    """What stays of each stream; the codec of the video may change, and Matroska's cover art is an attachment."""
    for stream in found["streams"]:
        kept, tags = {name: stream.get(name) for name in KEPT}, stream.get("tags", {})
        kept |= {"shape of pixels": stream.get("sample_aspect_ratio", "1:1")}
        if stream["disposition"]["attached_pic"]:
            yield {"cover": stream["codec_name"]}
        elif stream["codec_type"] == "video":
            yield kept | {name: stream.get(name) for name in COLOURS}
        else:
            yield kept | {name: tags.get(name) for name in ("language", "title")} | {"codec": stream["codec_name"]}


def side_data_of(found):
    """The display matrix and HDR's data, of the stream or of the first frame, as numbers."""
    frame = next(one for one in found["frames"] if one.get("pix_fmt"))
    both = [*found["streams"][0].get("side_data_list", ()), *frame.get("side_data_list", ())]
    values = {name: value for one in both for name, value in one.items() if name not in ("side_data_type", "rotation")}
    return {
        name: pytest.approx(eval(value), rel=0.01) if "/" in str(value) else value for name, value in values.items()
    }


@pytest.mark.parametrize(
    ("name", "made_with", "output", "written_with", "codec"),
    [
        (
            "all.mkv",
            f"{VIDEO} {SOUND} {SOUND} -i s.srt -i s.srt -i c.txt -map 0 -map 1 -map 2 -map 3 -map 4 -map_metadata 5 "
            f"{X264} -c:a:0 aac -c:a:1 flac -metadata:s:a:1 language=deu -metadata:s:s:1 title=signs",
            "all.mkv",
            {},
            "h264",
        ),
        (
            "all.mp4",
            f"{VIDEO} {SOUND} {SOUND} -i s.srt -i c.txt -map 0 -map 1 -map 2 -map 3 -map_metadata 4 {X264} -c:a aac "
            "-c:s mov_text",
            "all.mp4",
            {},
            "h264",
        ),
        (
            "small.webm",
            f"{VIDEO} {SOUND} -i s.srt -c:v libvpx-vp9 -c:a libopus -c:s webvtt {HD}",
            "small.webm",
            {},
            "vp9",
        ),
        ("deep.mp4", DEEP, "deep.mp4", {}, "hevc"),
        ("deep.mkv", DEEP, "deep.mkv", {"codec": "libsvtav1"}, "av1"),
        ("edit.mov", f"{VIDEO} -c:v prores_ks -pix_fmt yuv422p10le {HD}", "edit.mov", {"codec": "prores_ks"}, "prores"),
        ("lossless.mkv", f"{VIDEO} -c:v ffv1 {HD}", "lossless.mkv", {"codec": "ffv1"}, "ffv1"),
        ("new.mkv", f"{VIDEO} {X264}", "new.mkv", {"codec": "libsvtav1"}, "av1"),
        ("small.mp4", f"{VIDEO} {X264}", "small_265.mp4", {"codec": "libx265"}, "hevc"),
        (
            "uneven.mkv",
            f"{VIDEO} {SOUND} {X264} -vf setpts=N*N/400/TB -fps_mode vfr",
            "uneven.mkv",
            {},
            "h264",
        ),
        ("cover.mp4", f"{VIDEO} -i cover.png {X264} {IN_MP4}", "cover.mp4", {}, "h264"),
        ("cover.mkv", f"{VIDEO} {X264} {IN_MKV}", "cover.mkv", {}, "h264"),
        ("turned.mkv", f"{ORIENTED}:rotate=90", "turned.mp4", {}, "h264"),
        ("mirrored.mkv", f"{ORIENTED}:flip=horizontal", "mirrored.mp4", {}, "h264"),
        ("mirrored.mkv", f"{ORIENTED}:flip=vertical:rotate=90", "both.mov", {}, "h264"),
        ("moving.gif", "-f lavfi -i testsrc2=s=128x96:r=10:d=1", "moving.gif", {}, "gif"),
        ("f_%05d.png", VIDEO, "out_%05d.png", {"source_fps": 25}, "png"),
        ("deep_%05d.png", f"{VIDEO} -pix_fmt rgb48be", "out_%05d.png", {"source_fps": 25}, "png"),
    ],
)
def test_a_clip_of_each_kind(tmp_path, name, made_with, output, written_with, codec):
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    (tmp_path / "c.txt").write_text(CHAPTERS)
    ffmpeg(COVER, tmp_path)
    ffmpeg(f"{made_with} {name}", tmp_path)
    source, output = tmp_path / name, tmp_path / "out" / output
    run(source, output, **written_with)
    before, after = ffprobe(source), ffprobe(output)
    assert list(streams_of(after)) == list(streams_of(before))
    assert side_data_of(after) == side_data_of(before)
    assert after["chapters"] == before["chapters"]
    assert after["streams"][0]["codec_name"] == codec
    counts = [sum(one.get("stream_index") == 0 for one in found["frames"]) for found in (before, after)]
    assert counts[1] == 2 * counts[0]
    if codec == "png":
        return
    lengths = [float(found["format"]["duration"]) for found in (before, after)]
    assert lengths[1] == pytest.approx(lengths[0], abs=1 / 24)


def test_rotation_stays(tmp_path):
    source = clip(tmp_path / "in.mp4", 4, rotation=90)
    run(source, tmp_path / "out.mp4")
    before, after = side_data_of(ffprobe(source)), side_data_of(ffprobe(tmp_path / "out.mp4"))
    assert after == before
    assert "displaymatrix" in before
