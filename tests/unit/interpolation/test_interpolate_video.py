"""Videos through the whole of it: every frame, its time, its colours, the sound."""

import itertools
import re
import threading
import time
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest

from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.interpolation import frame_work
from refine_export.support.progress import Silent
from tests.support.interpolation_clips import (
    HEIGHT,
    WIDTH,
    Averager,
    Averaging,
    Sound,
    assert_frames,
    average,
    clip,
    converted,
    numbered,
    read_clip,
    run,
    shares_of,
    write_clip,
)
from tests.support.paths import names_in
from tests.support.refusals import refused

LOSSLESS = {"codec": "libx264", "crf": 0}


@pytest.mark.parametrize(
    ("times", "threads", "takes_timestep"), [(2, 1, False), (3, 4, True), (4, 2, False), (5, 1, True)]
)
def test_every_frame_is_there_once_in_order_with_the_averages_between(tmp_path, times, threads, takes_timestep):
    """N frames become N * times; the source has B frames, so they are stored in another order."""
    run_with = {"backend": Averaging(threads, takes_timestep=takes_timestep), "times": times}
    result, _, found = converted(tmp_path, count=21, options={"bf": "3", "crf": "10"}, run_with=run_with)
    assert_frames(found.pictures, 21, times)
    assert found.times == [Fraction(index, 25 * times) for index in range(21 * times)]
    assert (result.frames_read, result.frames_written) == (21, 21 * times)
    assert found.length_s == Fraction(21, 25)
    assert found.video["rate"] == 25 * times


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
def test_times_that_vary_are_kept_and_divided(tmp_path, output):
    """Own frames at their own times; those between divide each interval equally, to the unit of the container."""
    ticks = [0, 3, 4, 10, 12, 40]
    options = {"codec": "ffv1", "times": ticks, "time_base": Fraction(1, 50)}
    times = converted(tmp_path, name="in.mkv", output=output, run_with={"times": 3}, **options)[2].times
    expected = [Fraction(a * 3 + (b - a) * k, 150) for a, b in itertools.pairwise(ticks) for k in range(3)]
    unit = Fraction(1, 1000) if output.endswith(("mkv", "webm")) else 0
    expected += [Fraction(40 * 3 + k * 2, 150) for k in range(3)]  # the last is held for 1 / 25 s
    assert all(abs(a - b) <= unit / 2 for a, b in zip(times, expected, strict=True))
    assert times[::3] == [Fraction(tick, 50) for tick in ticks]


def test_a_start_that_is_not_zero_stays_and_the_sound_with_it(tmp_path):
    options = {"times": [*range(10, 16)], "time_base": Fraction(1, 25), "sounds": [Sound()]}
    _, before, after = converted(tmp_path, **options)
    assert after.times[::2] == before.times == [Fraction(k, 25) for k in range(10, 16)]
    assert after.sounds == before.sounds


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv444p"])
def test_own_frames_pass_bit_for_bit_and_the_colours_keep_their_meaning(tmp_path, layout, full):
    """Lossless in, lossless out: own planes are equal, made frames are the average of the pictures, within rounding."""
    _, before, after = converted(tmp_path, layout=layout, full=full, options={"qp": "0"}, run_with=LOSSLESS)
    for own, passed in zip(before.planes, after.planes[::2], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(own, passed, strict=True))
    for index in range(5):
        wanted = average(before.pictures[index], before.pictures[index + 1], 0.5)
        off = after.pictures[2 * index + 1].astype(float) - wanted
        assert np.abs(off).max() <= 2
        assert abs(off.mean()) < 0.3
    names = ("matrix", "range", "primaries", "transfer")
    assert (
        [after.video[name] for name in names] == [before.video[name] for name in names] == [5, 2 if full else 1, 6, 6]
    )


def test_colours_that_are_not_named_stay_so(tmp_path):
    result, _, found = converted(tmp_path, tagged=False)
    assert [found.video[name] for name in ("matrix", "range", "primaries", "transfer")] == [2, 0, 2, 2]
    assert "BT.601 is taken" in result.notes[0]


def test_odd_sizes_keep_every_pixel(tmp_path):
    height, width = 65, 97
    source = write_clip(
        tmp_path / "in.mkv", [numbered(number, height, width) for number in range(4)], codec="ffv1", matrix=5
    )
    result = run(source, tmp_path / "out.mp4")
    found = read_clip(tmp_path / "out.mp4")
    assert found.pictures[0].shape == (height, width, 3)
    assert found.video["layout"] == "yuv444p"
    assert "takes no odd size" in result.notes[0]
    assert_frames(found.pictures, 4, 2)
    run(source, tmp_path / "out.webm")
    assert read_clip(tmp_path / "out.webm").video["layout"] == "yuv420p"


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv"])
def test_the_shape_of_pixels_and_the_rotation_are_kept_not_applied(tmp_path, output):
    _, _, found = converted(tmp_path, output=output, shape=Fraction(4, 3), rotation=90)
    assert (found.video["shape"], found.video["rotation"]) == (Fraction(4, 3), 90)
    assert found.pictures[0].shape == (HEIGHT, WIDTH, 3)
    assert_frames(found.pictures, 6, 2)


def test_a_shape_of_pixels_that_the_output_cannot_say_is_refused(tmp_path):
    source = clip(tmp_path / "in.mp4", shape=Fraction(4, 3))
    with refused("pixel-shape-not-encoded", FrameError):
        run(source, tmp_path / "out.webm")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_all_sound_is_copied_packet_by_packet(tmp_path):
    sounds = [Sound("aac", 0.5), Sound("libmp3lame", 0.4, 44100)]
    options = {"sounds": sounds, "metadata": {"title": "numbers"}}
    _, before, after = converted(tmp_path, count=14, run_with={"times": 3}, **options)
    assert [len(packets) > 15 for packets in after.sounds] == [True, True]
    assert after.sounds == before.sounds
    assert after.metadata["title"] == "numbers"
    assert after.times[::3] == before.times


def test_sound_goes_with_the_pictures_where_the_container_starts_at_zero(tmp_path):
    """Matroska has no negative times: AAC's priming moves sound and pictures by the same."""
    _, before, after = converted(tmp_path, count=14, output="out.mkv", sounds=[Sound("aac", 0.5)])
    assert [packet[2] for packet in after.sounds[0]] == [packet[2] for packet in before.sounds[0]]
    moved = [b - a for a, b in zip(before.times, after.times[::2], strict=True)]
    moved += [b[0] - a[0] for a, b in zip(before.sounds[0], after.sounds[0], strict=True)]
    assert max(moved) - min(moved) <= Fraction(1, 1000)
    assert after.video["rate"] == 50  # Matroska writes the given rate


def test_subtitles_and_second_videos_are_left_out_and_noted(tmp_path):
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25, width=WIDTH, height=HEIGHT) for _ in range(2)]
        for number in range(3):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24").reformat(format="yuv420p")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    assert "left out: 1 video (ffv1)" in run(path, tmp_path / "out.mp4").notes


@pytest.mark.parametrize(("looked_for", "cuts"), [(True, 1), (False, 0)])
def test_at_a_cut_the_earlier_frame_is_repeated_until_the_cut(tmp_path, looked_for, cuts):
    noise = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    scenes = [np.kron(one, np.ones((16, 16, 1), np.uint8)) for one in noise]
    moved = [np.roll(scene, k, axis=1) for scene in scenes for k in range(3)]
    source = write_clip(tmp_path / "in.mp4", moved, layout="yuv444p", options={"qp": "0"})
    result = run(source, tmp_path / "out.mp4", times=4, scene_cuts=looked_for, **LOSSLESS)
    found = read_clip(tmp_path / "out.mp4")
    assert (result.scene_cuts, len(found.pictures)) == (cuts, 24)
    repeated = [np.array_equal(found.pictures[8], found.pictures[8 + k]) for k in (1, 2, 3, 4)]
    assert repeated == ([True, True, True, False] if cuts else [False] * 4)


def test_cuts_of_a_file_beyond_the_last_frame_are_named(tmp_path):
    (tmp_path / "cuts.txt").write_text("3\n6\n100\n")
    result = run(clip(tmp_path / "in.mp4", 6), tmp_path / "out.mp4", cuts=tmp_path / "cuts.txt")
    assert result.scene_cuts == 1
    assert [note for note in result.notes if note.endswith("begins at these: 6, 100")]


def test_a_video_that_stands_still_stays_as_it_is(tmp_path):
    """Frames between equal frames are those frames, planes and all, and nothing is computed."""

    def never():
        raise AssertionError("computed")

    still = [numbered(5)] * 4
    source = write_clip(tmp_path / "in.mp4", still, options={"qp": "0"})
    result = run(source, tmp_path / "out.mp4", Averaging(wait=never), times=3, **LOSSLESS)
    before, after = read_clip(source), read_clip(tmp_path / "out.mp4")
    assert result.still == 3
    assert len(after.planes) == 12
    for planes in after.planes:
        assert all(np.array_equal(a, b) for a, b in zip(before.planes[0], planes, strict=True))


def test_a_bare_stream_without_times_goes_through(tmp_path):
    source = tmp_path / "in.mpg"
    with av.open(str(source), "w", format="mpeg2video") as container:
        stream = container.add_stream("mpeg2video", rate=25, width=WIDTH, height=HEIGHT)
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    run(source, tmp_path / "out.mp4")
    found = read_clip(tmp_path / "out.mp4")
    assert_frames(found.pictures, 6, 2)
    assert [time - found.times[0] for time in found.times] == [Fraction(k, 50) for k in range(12)]


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_an_avi_with_b_frames_has_no_times_of_its_own(tmp_path, codec):
    _, _, found = converted(tmp_path, count=12, name="in.avi", codec=codec, options={"bf": "2", "b": "4000000"})
    assert_frames(found.pictures, 12, 2)
    assert [time - found.times[0] for time in found.times] == [Fraction(k, 50) for k in range(24)]


def test_interlaced_is_noted(tmp_path):
    result, _, _ = converted(tmp_path, count=4, options={"x264-params": "tff=1"})
    assert any("interlaced" in note for note in result.notes)


@pytest.mark.parametrize(("codec", "name"), [("libx264", "in.mp4"), ("rawvideo", "in.mkv")])
def test_more_sound_than_pictures_goes_through(tmp_path, codec, name):
    """Raw frames are decoded at once: the last is there before the sound behind it."""
    _, before, after = converted(tmp_path, count=3, name=name, codec=codec, sounds=[Sound("aac", 4.0)])
    assert [packet[2] for packet in after.sounds[0]] == [packet[2] for packet in before.sounds[0]]
    assert len(after.sounds[0]) > 150


def test_how_frames_were_coded_does_not_decide_how_they_are(tmp_path):
    """A video of key frames alone does not force any."""
    converted(tmp_path, count=12, options={"g": "1"})
    counts = []
    for path in (tmp_path / "in.mp4", tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            counts.append(sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size))
    assert counts == [12, 1]


def test_progress_is_reported_up_to_the_last_frame(tmp_path, monkeypatch):
    reports = []

    class Reporting(Silent):
        def within(self, phase, done, steps):
            reports.append((phase, done, steps))

    monkeypatch.setattr(frame_work, "REPORT_S", 0)
    run(clip(tmp_path / "in.mp4", 5), tmp_path / "out.mp4", times=3, progress=Reporting())
    assert [(done, steps) for _, done, steps in reports] == [(k, 15) for k in (3, 6, 9, 12, 15)]
    assert all(re.search("frames/s, [0-9]+:[0-9][0-9] left", phase) for phase, _, _ in reports)


def test_nothing_is_overwritten_unasked_and_the_input_never(tmp_path):
    source = clip(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_bytes(b"precious")
    (tmp_path / "same.mp4").symlink_to(source)
    before = source.read_bytes()
    for output, force, code in (
        (tmp_path / "out.mp4", False, "output-exists"),
        (source, True, "output-is-input"),
        (tmp_path / "same.mp4", True, "output-is-input"),
        (tmp_path / "folder.mp4", True, "is-directory"),
    ):
        (tmp_path / "folder.mp4").mkdir(exist_ok=True)
        with refused(code, RequestError):
            run(source, output, force=force)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    assert source.read_bytes() == before
    run(source, tmp_path / "out.mp4", force=True)
    assert (tmp_path / "out.mp4").stat().st_size > 500


def test_a_failure_keeps_what_was_there(tmp_path):
    source = clip(tmp_path / "in.mp4", 30)
    (tmp_path / "out.mp4").write_bytes(b"precious")

    def fail():
        raise UnavailableError("gone", code="server-away")

    with pytest.raises(UnavailableError, match="gone"):
        run(source, tmp_path / "out.mp4", Averaging(3, wait=fail), force=True)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    assert names_in(tmp_path) == ["in.mp4", "out.mp4"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("compute-", "read"))]


def test_ending_early_does_not_wait_out_the_patience(tmp_path):
    """The thread with the first pair fails while another waits for its server: it is made to give up."""

    class Stuck(Averager):
        def _interpolate(self, frame0, frame1, timestep):
            if max(shares_of(frame0)) < 0.5:  # frame 0
                time.sleep(0.1)
                raise UnavailableError("lost")
            self.stop.wait(60)
            return frame0

    class Backend(Averaging):
        @contextmanager
        def open(self, stop=None):
            interpolator = Stuck()
            interpolator.stop = stop
            yield interpolator

    started = time.perf_counter()
    with pytest.raises(UnavailableError, match="lost"):
        run(clip(tmp_path / "in.mp4", 12), tmp_path / "out.mp4", Backend(2))
    assert time.perf_counter() - started < 30  # the patience is 60


def test_a_number_of_times_that_is_not_computed_is_refused_where_nothing_is_to_compute(tmp_path):
    source = write_clip(tmp_path / "in.mp4", [numbered(1)] * 4, options={"qp": "0"})
    with refused("only-the-middle", RequestError):
        run(source, tmp_path / "out.mp4", Averaging(takes_timestep=False), times=3)
    assert names_in(tmp_path) == ["in.mp4"]
