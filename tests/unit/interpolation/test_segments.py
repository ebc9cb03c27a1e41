"""Parts of an output: an interrupted job goes on, and is equal to one that was not interrupted."""

import _thread
import io
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from refine_export.errors import RequestError
from refine_export.interpolation import segments
from refine_export.interpolation.interpolate_video import Interrupted
from tests.support.interpolation_clips import (
    Averaging,
    Sound,
    assert_frames,
    clip,
    numbered,
    read_clip,
    run,
    write_clip,
)
from tests.support.interrupts import interruptible
from tests.support.paths import names_in
from tests.support.refusals import refused


class Killed(BaseException):
    """Stands for the end of the process."""


class Dying(Averaging):
    """Ends at a number of computed frames."""

    def __init__(self, at, how=Killed):
        self.left = at

        def wait():
            self.left -= 1
            if self.left == 0:
                if how is KeyboardInterrupt:
                    _thread.interrupt_main()
                else:
                    raise how

        super().__init__(1, wait=wait)


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(segments, "LENGTH", 8)


@pytest.mark.parametrize("options", [{"times": 3}, {"fps": 60}, {"times": 2, "codec": "ffv1"}])
def test_a_job_that_is_killed_three_times_is_equal_to_one_that_is_not(tmp_path, options):
    source = clip(tmp_path / "in.mp4", 40, sounds=[Sound("aac", 1.6)])
    whole = run(source, tmp_path / "whole.mkv", **options)
    for at in (11, 5, 17):
        with pytest.raises(Killed):
            run(source, tmp_path / "out.mkv", Dying(at), resume=True, **options)
    folder = tmp_path / "out.mkv.parts"
    before = len(list(folder.glob("*.json")))
    assert before >= 3  # with job.json
    result = run(source, tmp_path / "out.mkv", resume=True, **options)
    expected, found = read_clip(tmp_path / "whole.mkv"), read_clip(tmp_path / "out.mkv")
    assert found.times == expected.times
    for planes, wanted in zip(found.planes, expected.planes, strict=True):
        assert all(map(np.array_equal, planes, wanted))
    assert found.sounds == expected.sounds
    assert (result.frames_written, result.frames_read) == (whole.frames_written, 40)
    assert names_in(tmp_path) == ["in.mp4", "out.mkv", "whole.mkv"]


def test_a_resumed_job_repeats_less_than_one_part(tmp_path):
    source = clip(tmp_path / "in.mp4", 40)
    with pytest.raises(Killed):
        run(source, tmp_path / "out.mp4", Dying(30), resume=True)
    counting = Dying(10**6)
    run(source, tmp_path / "out.mp4", counting, resume=True)
    assert 10**6 - counting.left <= 39 - 29 + segments.LENGTH // 2 + 16  # 16 are computed ahead of those written


def test_an_interrupt_leaves_what_can_be_played_and_says_how_to_go_on(tmp_path):
    source = clip(tmp_path / "in.mp4", 60, sounds=[Sound("aac", 2.4)])
    with interruptible(), pytest.raises(Interrupted) as caught:
        run(source, tmp_path / "out.mp4", Dying(45, KeyboardInterrupt))
    part = read_clip(tmp_path / "out.mp4.parts" / "part.mp4")
    count = len(part.pictures)
    said = int(str(caught.value).split()[0])
    assert abs(said - count) <= 1  # an interrupt between the encoder and the count
    [kept] = re.findall(r"--resume keeps the (\d+) .* makes the unfinished part again", str(caught.value))
    assert int(kept) == said // segments.LENGTH * segments.LENGTH
    assert 8 < count < 120
    assert part.times == [Fraction(k, 50) for k in range(count)]
    assert 0 < len(part.sounds[0]) < 0.03 * count * 47
    assert "out.mp4" not in names_in(tmp_path)
    with refused("unfinished-output", RequestError):
        run(source, tmp_path / "out.mp4")
    run(source, tmp_path / "out.mp4", resume=True)
    assert_frames(read_clip(tmp_path / "out.mp4").pictures, 60, 2)
    assert names_in(tmp_path) == ["in.mp4", "out.mp4"]


def test_an_interrupted_pipe_does_not_offer_to_go_on(tmp_path, monkeypatch):
    content = io.BytesIO(b"".join(numbered(number).tobytes() for number in range(60)))
    monkeypatch.setattr("sys.stdin", type("Stream", (), {"buffer": content}))
    with interruptible(), pytest.raises(Interrupted) as caught:
        run(Path("-"), tmp_path / "out.mp4", Dying(45, KeyboardInterrupt), raw_input="96x64:rgb24:25")
    assert "--resume" not in str(caught.value)


def test_another_source_or_other_options_are_refused(tmp_path):
    source, other, cuts = clip(tmp_path / "in.mp4", 30), clip(tmp_path / "other.mp4", 31), tmp_path / "cuts.txt"
    cuts.write_text("3")
    with pytest.raises(Killed):
        run(source, tmp_path / "out.mp4", Dying(20), cuts=cuts)
    content = (tmp_path / "out.mp4.parts" / "job.json").read_text()
    with refused("resume-other-source", RequestError):
        run(other, tmp_path / "out.mp4", resume=True, cuts=cuts)
    with refused("resume-other-options", RequestError, options=("times",)):
        run(source, tmp_path / "out.mp4", resume=True, cuts=cuts, times=4)
    with refused("resume-other-options", RequestError, options=("crf",)):
        run(source, tmp_path / "out.mp4", resume=True, cuts=cuts, crf=30)
    (job := tmp_path / "out.mp4.parts" / "job.json").write_text("")
    with refused("resume-other-source", RequestError):
        run(source, tmp_path / "out.mp4", resume=True, cuts=cuts)
    job.write_text(content)
    cuts.write_text("4")
    with refused("resume-other-options", RequestError, options=("cuts",)):
        run(source, tmp_path / "out.mp4", resume=True, cuts=cuts)
    run(source, tmp_path / "out.mp4", force=True, times=4)
    assert_frames(read_clip(tmp_path / "out.mp4").pictures, 30, 4)


def test_pictures_of_other_numbers_are_another_source(tmp_path):
    (folder := tmp_path / "in").mkdir()
    for number in range(1, 31):
        Image.fromarray(numbered(number)).save(folder / f"{number}.png")
    with pytest.raises(Killed):
        run(folder, tmp_path / "out.mp4", Dying(20))
    (folder / "30.png").rename(folder / "40.png")
    with refused("resume-other-source", RequestError):
        run(folder, tmp_path / "out.mp4", resume=True, allow_missing=True)


@pytest.mark.skipif(segments.fcntl is None, reason="Windows has no fcntl")
def test_one_process_alone_writes_the_parts(tmp_path):
    source = clip(tmp_path / "in.mp4", 4)
    first = segments.Segments(tmp_path / "out.mp4", {}, resume=False, force=False)
    for options in ({}, {"force": True}, {"resume": True}):
        with refused("output-in-use", RequestError):
            run(source, tmp_path / "out.mp4", **options)
    first.release()
    run(source, tmp_path / "out.mp4", force=True)
    assert names_in(tmp_path) == ["in.mp4", "out.mp4"]


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    source = clip(tmp_path / "in.mp4", 4)
    (tmp_path / "out.mp4.parts").mkdir()
    (tmp_path / "out.mp4.parts" / "precious").write_text("mine")
    for options in ({}, {"force": True}, {"resume": True}):
        with refused("output-exists", RequestError):
            run(source, tmp_path / "out.mp4", **options)
    assert (tmp_path / "out.mp4.parts" / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["00001.packets", "00001.json"])
def test_a_part_that_is_not_whole_is_made_again(tmp_path, name):
    source = clip(tmp_path / "in.mp4", 30)
    with pytest.raises(Killed):
        run(source, tmp_path / "out.mp4", Dying(26))
    part = tmp_path / "out.mp4.parts" / name
    part.write_bytes(part.read_bytes()[:-3])
    run(source, tmp_path / "out.mp4", resume=True)
    assert_frames(read_clip(tmp_path / "out.mp4").pictures, 30, 2)


@pytest.mark.parametrize("looked_for", [0.2, 0.0])
def test_counts_go_on(tmp_path, looked_for):
    frames = [numbered(k) for k in range(12)] + [np.full_like(numbered(0), 255)] * 4 + [numbered(k) for k in range(12)]
    source = write_clip(tmp_path / "in.mp4", frames, options={"qp": "0"})
    whole = run(source, tmp_path / "whole.mp4", scene_cut=looked_for)
    with pytest.raises(Killed):
        run(source, tmp_path / "out.mp4", Dying(20), scene_cut=looked_for)
    again = run(source, tmp_path / "out.mp4", resume=True, scene_cut=looked_for)
    assert (again.scene_cuts, again.still) == (whole.scene_cuts, whole.still)
    assert again.still == 3


@pytest.mark.parametrize(
    ("codec", "output"), [("libx264", "out.mp4"), ("libx265", "out.mkv"), ("libsvtav1", "out.mp4")]
)
def test_every_part_starts_with_a_key_frame(tmp_path, codec, output):
    source = clip(tmp_path / "in.mp4", 20)
    run(source, tmp_path / output, codec=codec)
    with av.open(str(tmp_path / output)) as container:
        packets = sorted((packet.pts, packet.is_keyframe) for packet in container.demux(video=0) if packet.size)
    assert all(is_key for _, is_key in packets[:: segments.LENGTH])
    assert_frames(read_clip(tmp_path / output).pictures, 20, 2)


def test_outputs_that_cannot_go_on_refuse_to(tmp_path):
    source = clip(tmp_path / "in.mp4", 4)
    with refused("options-do-not-fit", RequestError, option="resume"):
        run(source, tmp_path / "out_%d.png", resume=True)


@pytest.mark.parametrize(("output", "codec"), [("out.mkv", "ffv1"), ("out_%03d.png", None), ("out.gif", None)])
def test_a_disk_without_space_is_refused_before_anything_is_computed(tmp_path, monkeypatch, output, codec):
    source = clip(tmp_path / "in.mp4", 30)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with refused("no-space", RequestError, free=1000):
        run(source, tmp_path / output, Averaging(wait=lambda: pytest.fail("computed")), codec=codec)
    assert names_in(tmp_path) == ["in.mp4"]
