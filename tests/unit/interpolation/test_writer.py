"""The output: times and sound that its container holds, and a file that is whole or not there."""

import _thread
import ctypes
import signal
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from refine_export.errors import FrameError, RequestError
from refine_export.interpolation.segments import SegmentWriter
from tests.support.interpolation_clips import Averaging, Sound, clip, read_clip, remuxed, run, write_clip
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
    with refused("cannot-write", RequestError):
        run(clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(
    ("options", "output", "code"),
    [
        ({}, "out.xyz", "output-suffix"),
        ({"crf": 70}, "out.mp4", "wrong-option"),
        ({"codec": "ffv1", "crf": 7}, "out.mkv", "wrong-option"),
        ({"codec": "libx264"}, "out.webm", "codec-not-in-container"),
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
    # A shell that starts the tests in the background has them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "out.mp4", Averaging(2, wait=_thread.interrupt_main))
    finally:
        signal.signal(signal.SIGINT, before)
    assert set(names(tmp_path)) <= {"in.mp4", "out.part.mp4"}
