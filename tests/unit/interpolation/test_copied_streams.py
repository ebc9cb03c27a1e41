"""Sound, subtitles, attachments and cover art go into the output, or are named."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from refine_export.errors import FrameError, RequestError
from tests.support.interpolation_clips import (
    Sound,
    assert_frames,
    clip,
    read_clip,
    run,
)
from tests.support.paths import names_in
from tests.support.refusals import refused


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
    assert names_in(tmp_path) == [name]
    assert "its sound is left out, as asked for" in run(source, tmp_path / output, audio=False).notes
    assert read_clip(tmp_path / output).sounds == []


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
    assert names_in(tmp_path) == ["in.mkv"]
    assert run(source, tmp_path / output, audio=False).frames_written == 12
