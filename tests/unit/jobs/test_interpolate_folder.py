"""A folder of videos: each of them, and what fails at the end."""

import re

import pytest

import refine_export as rx
from refine_export.errors import RequestError
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import assert_frames, clip, read_clip
from tests.support.paths import names_in
from tests.support.refusals import refused


def test_each_video_is_written_and_failures_come_last(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write_average(tmp_path / "net.onnx")
    for name, count in (("a.mp4", 5), ("c.mkv", 6)):
        clip(folder / name, count)
    (folder / "b.mp4").write_text("not a video")
    (folder / "notes.txt").write_text("not a video either")
    with refused("some-videos-failed", RequestError) as caught:
        rx.interpolate_folder(folder, output=output, file=tmp_path / "net.onnx", times=3)
    assert {path.name: error.code for path, error in caught.value.fields["failed"].items()} == {
        "b.mp4": "video-undecodable"
    }
    assert names_in(output) == ["a.mp4", "c.mkv"]
    assert_frames(read_clip(output / "c.mkv").pictures, 6, 3)
    (folder / "b.mp4").unlink()
    (output / "a.mp4").unlink()
    [result] = rx.interpolate_folder(folder, output=output, file=tmp_path / "net.onnx", times=3, resume=True)
    assert result.path == output / "a.mp4"


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(RequestError, match=re.escape(str(tmp_path / "out" / "frame_%05d.png"))) as caught:
        rx.interpolate_folder(tmp_path, output=tmp_path / "out")
    assert caught.value.code == "no-videos"
    with refused("not-a-folder", RequestError):
        rx.interpolate_folder(tmp_path / "missing", output=tmp_path / "out")
