"""`interpolate`: what goes together, and what does not."""

import re
import shlex
import shutil
import subprocess
from fractions import Fraction

import pytest
from PIL import Image

from refine_export.errors import RequestError
from refine_export.jobs.interpolate_frames import interpolate
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import clip, numbered, read_clip, write_clip
from tests.support.refusals import refused


def test_two_pictures_or_a_video(tmp_path):
    network = tmp_path / "net.onnx"
    write_average(network)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 32)).save(tmp_path / name)
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    result = interpolate(pictures, output=tmp_path / "out.png", timestep=0.25, file=network)
    assert (result.path, result.frames_written) == (tmp_path / "out.png", 1)
    video = interpolate(clip(tmp_path / "in.mp4"), output=str(tmp_path / "out.mp4"), file=network, times=4)
    assert video.to_dict()["frames_written"] == 24
    assert "onnxruntime" in video.computed_by


ADVICE = re.compile(r"ffmpeg .*\.mkv")


def follow(error, folder):
    """Run the command that a message gives, and return the video that it makes."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    command = shlex.split(ADVICE.search(str(error))[0])
    subprocess.run([*command, "-loglevel", "error"], check=True, cwd=folder)
    return folder / command[-1]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "frames", "frames/%d.png"])
def test_animations_folders_and_numbered_pictures_are_videos(tmp_path, name):
    frames = [Image.new("RGB", (40, 32), (0, 60 * level, 0)) for level in range(4)]
    if name.startswith("frames"):
        (tmp_path / "frames").mkdir()
        for number, frame in enumerate(frames):
            frame.save(tmp_path / "frames" / f"{number}.png")
    else:
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=40, lossless=True)
    write_average(tmp_path / "net.onnx")
    options = {"file": tmp_path / "net.onnx", "scene_cuts": False}
    result = interpolate(tmp_path / name, output=tmp_path / "out.mkv", **options)
    assert (result.frames_read, result.frames_written) == (4, 8)
    found = read_clip(tmp_path / "out.mkv")
    assert found.times == [Fraction(k, 50) for k in range(8)]
    assert [int(picture[0, 0, 1]) for picture in found.pictures] == pytest.approx(
        [0, 30, 60, 90, 120, 150, 180, 180], abs=3
    )


def test_two_frames_at_one_time_are_refused_with_what_gives_new_times(tmp_path):
    network, twice = tmp_path / "net.onnx", tmp_path / "twice.mkv"
    write_average(network)
    write_clip(twice, [numbered(number) for number in range(6)], codec="ffv1", times=[0, 1, 2, 2, 3, 4])
    with refused("frame-times-not-growing", RequestError) as caught:
        interpolate(twice, output=tmp_path / "out.mkv", file=network)
    even = follow(caught.value, tmp_path)
    assert interpolate(even, output=tmp_path / "out.mkv", file=network).frames_read >= 5


@pytest.mark.parametrize(
    ("inputs", "options", "code"),
    [
        (["a.png", "b.png", "c.png"], {}, "not-pictures-or-video"),
        (["a.png"], {}, "not-pictures-or-video"),
        (["a.png", "b.mp4"], {}, "not-pictures-or-video"),
        (["a.mp4"], {"timestep": 0.5}, "options-do-not-fit"),
        (["a.png", "b.png"], {"times": 2}, "options-do-not-fit"),
        (["a.png", "b.png"], {"concurrency": 2}, "options-do-not-fit"),
        (["a.mp4"], {"times": 1}, "wrong-option"),
        (["a.mp4"], {"server": "nowhere"}, "wrong-option"),
        (["a.mp4"], {"server": 1}, "wrong-option"),
        (["a.mp4"], {"codec": "h263"}, "wrong-option"),
        (["a.mp4"], {"times": "3"}, "wrong-option"),
        (["a.mp4"], {"tmies": 3}, "unknown-option"),
        (["a.png", "b.png"], {"timestep": "a"}, "wrong-option"),
        (["a.png", "b.png"], {"runtime": "cuda", "file": "c.onnx"}, "wrong-option"),
        (["a.png", "b.png"], {"file": "c.onnx"}, "not-found"),
    ],
)
def test_inputs_and_options_that_do_not_go_together(tmp_path, inputs, options, code):
    with refused(code, RequestError):
        interpolate([tmp_path / name for name in inputs], output=tmp_path / "out.png", **options)
