"""Videos that are not what they say: packets that are lost, colours that change, times and sound of another kind."""

from __future__ import annotations

import ctypes
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from refine_export.errors import FrameError, RequestError
from refine_export.interpolation import reader
from refine_export.interpolation.colour import colours_of
from refine_export.interpolation.interpolate_files import VideoOptions, interpolate_video
from refine_export.interpolation.reader import MOST_PACKETS, video_source
from refine_export.interpolation.reader import VideoSource as Source
from refine_export.interpolation.writer import EncoderOptions
from tests.support.interpolation_clips import Averaging, Sound, numbered, read_clip, write_clip


def clip(path, count=6, **options):
    return write_clip(path, [numbered(number) for number in range(count)], **options)


def run(source, output, **options):
    return interpolate_video(source, output, VideoOptions(**options), compute=Averaging())


def remuxed(source, output, edit):
    """The packets of a video that `edit` leaves, under another name."""
    with av.open(str(source)) as before, av.open(str(output), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in edit([packet for packet in before.demux(video=0) if packet.size]):
            packet.stream = stream
            after.mux_one(packet)
    return output


def test_packets_that_give_no_frame_are_said(tmp_path):
    """What a decoder drops without an error: here frames that refer to some that are not there."""
    whole = clip(tmp_path / "whole.mp4", 40, options={"bf": "0", "g": "100"})
    lost = remuxed(whole, tmp_path / "in.mkv", lambda packets: packets[:10] + packets[20:])
    with av.open(str(lost)) as container:
        count = sum(1 for _ in container.decode(video=0))
    assert count < 30
    result = run(lost, tmp_path / "out.mp4")
    assert result.frames_read == count
    assert any(f"{30 - count} of its 30 packets gave no frame: it is damaged" in note for note in result.notes)
    assert run(whole, tmp_path / "whole_out.mp4").notes == []


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


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            {"layout": "yuvj420p", "full": True},
            "frame 4 are BT.601 in full range, those before BT.601 in limited range",
        ),
        ({"matrix": 1}, "frame 4 are BT.709 in limited range, those before BT.601 in limited range; .* cut the video"),
    ],
)
def test_colours_that_change_in_mid_stream_are_refused(tmp_path, second, words):
    source = joined(tmp_path, [{}, second])
    with pytest.raises(FrameError, match=words):
        run(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("second", [{"matrix": 6}, {"layout": "yuv444p"}, {"tagged": False}])
def test_what_means_the_same_goes_on(tmp_path, second):
    """BT.601 has two numbers; other bits and subsampling are converted; a small video without a name is BT.601."""
    assert run(joined(tmp_path, [{}, second]), tmp_path / "out.mp4").frames_read == 8


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
    with pytest.raises(FrameError, match=r"a frame is shown at .*e\+13 s, which is too late .* anew, from 0"):
        run(source, tmp_path / "out.mp4", times=61)
    assert not (tmp_path / "out.mp4").exists()


class Counting:
    """A container that counts what is read."""

    def __init__(self, container):
        self._container, self.count = container, 0

    def __getattr__(self, name):
        return getattr(self._container, name)

    def demux(self):
        for packet in self._container.demux():
            self.count += 1
            yield packet


def test_sound_far_behind_the_pictures_is_passed_on_in_batches(tmp_path, monkeypatch):
    source = clip(tmp_path / "in.mp4", 40, sounds=[Sound("aac", 9.0)])
    monkeypatch.setattr(reader, "VideoSource", lambda path, container, *more: Source(path, Counting(container), *more))
    with video_source(source) as opened:
        most, before, total = 0, opened.container.count, 0
        for item in opened.gaps(colours_of(opened.first, "libx264"), sound=True):
            if isinstance(item, reader.Sound):
                total += len(item.packets)
            most, before = max(most, opened.container.count - before), opened.container.count
    assert total > 5 * MOST_PACKETS
    assert most <= MOST_PACKETS + 10


@pytest.mark.parametrize(
    ("name", "sound", "output", "words"),
    [
        (
            "in.mkv",
            "libopus",
            "out.mov",
            r"not to hold the sound in .*in.mkv \(opus\) .*; write .mkv, or leave the sound",
        ),
        ("in.avi", "pcm_s16le", "out.mp4", r"where its 2 channels stand, and .mp4 files have to; write .mkv, or leave"),
        (
            "in.avi",
            "adpcm_ms",
            "out.mkv",
            r".mkv files hold no adpcm_ms, .*in.avi is; leave the sound out with --no-audio",
        ),
    ],
)
def test_sound_that_the_container_refuses_is_named(tmp_path, name, sound, output, words):
    source = clip(tmp_path / name, codec="mpeg4", sounds=[Sound(sound)])
    with pytest.raises(RequestError, match=words):
        run(source, tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    run(source, tmp_path / output, sound=False)


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
            run(source, tmp_path / f"{byte}.mp4", encoder=EncoderOptions())
            content.append((tmp_path / f"{byte}.mp4").read_bytes())
    finally:
        dirty(-6, 0)
    assert len(set(content)) == 1
