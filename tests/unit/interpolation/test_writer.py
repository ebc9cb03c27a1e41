"""The output: times and sound that its container holds, and a file that is whole or not there."""

import _thread
import ctypes
import errno
import itertools
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.interpolation.reader import open_source
from tests.support.interpolation_clips import (
    Averaging,
    assert_frames,
    clip,
    expected_shares,
    read_clip,
    remuxed,
    run,
    shares_of,
    write_clip,
)
from tests.support.interrupts import interruptible
from tests.support.paths import names_in
from tests.support.refusals import refused


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
    assert names_in(tmp_path) == ["in.mp4"]


def test_parts_of_what_cannot_go_on_are_not_kept(tmp_path):
    """A frame of 46 days behind the third: no --resume mends that."""
    source = clip(
        tmp_path / "in.mkv", times=[0, 1, 2, 10**8, 10**8 + 1, 10**8 + 2], time_base=Fraction(1, 25), codec="ffv1"
    )
    with refused("frame-times-jump", RequestError):
        run(source, tmp_path / "out.mp4")
    assert names_in(tmp_path) == ["in.mkv"]


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
    assert names_in(tmp_path) == ["in.mp4"]


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
    assert names_in(tmp_path) == ["in.mp4"]


def test_an_interrupt_before_the_first_part_leaves_only_what_can_be_played(tmp_path):
    """Like Ctrl-C, which reaches the main thread while others compute."""
    source = clip(tmp_path / "in.mp4", 30)
    calls = itertools.count()  # the first, whose number is 0, interrupts
    with interruptible(), pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out.mp4", Averaging(2, wait=lambda: next(calls) or _thread.interrupt_main()))
    assert set(names_in(tmp_path)) <= {"in.mp4", "out.mp4.parts"}


@pytest.mark.parametrize(("output", "codec"), [("out.gif", "gif"), ("out.apng", "apng"), ("f_%03d.png", "png")])
def test_pictures_are_written(tmp_path, output, codec):
    source = clip(tmp_path / "in.mp4", 5, options={"qp": "0"})
    result = run(source, tmp_path / output)
    assert result.frames_written == 10
    assert len(names_in(tmp_path)) == (11 if "%" in output else 2)
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
    assert names_in(tmp_path) == ["in.mkv"]
    run(source, tmp_path / "out.gif", fps=50)
    before, after = read_clip(source), read_clip(tmp_path / "out.gif")
    assert float(after.length_s) == pytest.approx(float(before.length_s), abs=0.03)


def test_a_failure_leaves_no_pictures(tmp_path):
    def fail():
        raise UnavailableError("gone", code="server-away")

    (tmp_path / f".pictures.work-{2**22 + 1}-x").mkdir()  # of a process that was killed
    with pytest.raises(UnavailableError):
        run(clip(tmp_path / "in.mp4", 5), tmp_path / "f_%03d.png", Averaging(wait=fail))
    assert names_in(tmp_path) == ["in.mp4"]


def test_a_disk_that_is_full_while_pictures_are_written_is_named(tmp_path):
    def fill():
        raise OSError(errno.ENOSPC, "No space left on device")

    output = tmp_path / "f_%03d.png"
    with refused("cannot-write", RequestError, path=output):
        run(clip(tmp_path / "in.mp4", 5), output, Averaging(wait=fill))
    assert names_in(tmp_path) == ["in.mp4"]


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
    assert names_in(tmp_path) == ["in.y4m", "out.y4m"]
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is missing: it is Linux's")
def test_a_full_disk_behind_a_pipe_is_named(tmp_path, monkeypatch):
    with Path("/dev/full").open("wb") as output, refused("cannot-write", RequestError):
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
