"""`refine-export interpolate` as a user calls it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from refine_export.cli.main import main
from tests.support.interpolation_clips import Sound, assert_frames, averaging_model, numbered, read_clip, write_clip


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["interpolate", *map(str, arguments)])
    return ended.value.code


@pytest.fixture
def network(tmp_path):
    onnx.save(averaging_model(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def source(tmp_path):
    return write_clip(tmp_path / "in.mp4", [numbered(number) for number in range(8)], sounds=[Sound()])


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, level in zip(paths, (20, 120), strict=True):
        Image.new("RGB", (45, 33), (level, level, level)).save(path)
    return paths


def test_two_pictures_give_the_one_between(tmp_path, network, pictures, capsys):
    assert call(*pictures, "-o", tmp_path / "out.png", "--timestep", "0.25", "--file", network) == 0
    found = np.asarray(Image.open(tmp_path / "out.png"))
    assert found.shape == (33, 45, 3)
    assert np.unique(found).tolist() == [45]
    captured = capsys.readouterr()
    assert "computed by: onnxruntime" in captured.out
    assert "compute the frame" in captured.err


def test_a_video_gives_one_with_more_frames(tmp_path, network, source, capsys):
    assert call(source, "-o", tmp_path / "out.mkv", "--times", 4, "--file", network, "--json") == 0
    found = read_clip(tmp_path / "out.mkv")
    assert_frames(found.pictures, 8, 4)
    assert len(found.sounds) == 1
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert (result["frames_read"], result["frames_written"], result["scene_cuts"]) == (8, 29, 0)
    assert result["output"] == str(tmp_path / "out.mkv")
    assert told.err == ""


@pytest.mark.parametrize("option", [[], ["--no-scene-cuts"], ["--scene-cut", "0.9"]])
def test_scene_cuts_have_a_threshold_and_an_off_switch(tmp_path, network, source, capsys, option):
    """Frames 3 and 4 differ in three of six blocks: no cut at 0.2, one at 0.9, and none that are not looked for."""
    assert call(source, "-o", tmp_path / "out.mp4", "--file", network, "--json", *option) == 0
    cuts = json.loads(capsys.readouterr().out)["scene_cuts"]
    assert cuts > 0 if option[:1] == ["--scene-cut"] else cuts == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "b.png", "-o", "out.png", "--times", "2"], "--times is for a video, and two pictures are given"),
        (["in.mp4", "-o", "out.mp4", "--timestep", "0.5"], "--timestep is for two pictures, and one video is given"),
        (["a.png", "b.png", "a.png", "-o", "out.png"], "3 files are given; expected two pictures or one video"),
        (["in.mp4", "-o", "out.mp4", "--runtime", "cuda", "--file", "net.onnx"], "--runtime is 'cuda'; expected one"),
        (["in.mp4", "-o", "out.mp4", "--server", "nowhere"], "'nowhere'; expected HOST:PORT"),
        (["in.mp4", "-o", "out.mp4", "--server", "h:1", "--protocol", "ftp"], "'ftp'; expected grpc or http"),
        (["in.mp4", "-o", "out.mp4", "--server", "h:1", "--checkpoint", "x"], "--checkpoint and --server are given"),
        (["in.mp4", "-o", "out.mp4", "--server", "h:1", "--device", "cuda:0"], "--device is given with --server"),
        (["in.mp4", "-o", "out.mp4", "--file", "n.onnx", "--device", "cpu"], "--device is given with --file"),
        (["a.png", "b.png", "-o", "out.png", "--device", "x"], "device is 'x'; expected cpu, cuda or such as cuda:0"),
        (["a.png", "-o", "out.png"], "one picture is given, a.png; give two, or a video"),
        (["a.png", "-o", "one.mp4"], "one picture is given, a.png; give two, or a video"),
        (["a.png", "in.mp4", "-o", "out.png"], "a.png and in.mp4 are given; a video goes alone"),
        (["in.mp4", "in.mp4", "-o", "out.mp4"], "in.mp4 and in.mp4 are given; a video goes alone"),
        (["in.mp4", "-o", "out.mp4", "--timeout", "3"], "are of a --server; give it with them"),
        (["a.png", "b.png", "-o", "out.png", "--no-audio"], "--audio is for a video, and two pictures are given"),
        (["a.png", "b.png", "-o", "out.png", "--no-scene-cuts"], "--scene-cuts is for a video"),
        (["in.mp4", "-o", "out.mp4", "--server", "localhost:99999"], "'localhost:99999'; expected HOST:PORT"),
        (["missing.png", "b.png", "-o", "out.png"], "missing.png does not exist"),
        (["missing.mp4", "-o", "out.mp4"], "missing.mp4 does not exist"),
        (["a.png", "b.png", "-o", "in.mp4", "--force"], "'in.mp4'; expected a .png"),
    ],
)
def test_wrong_requests_exit_with_2_and_say_why(
    tmp_path, monkeypatch, capsys, network, source, pictures, arguments, words
):
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert call(*arguments) == 2
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("option", ["--file", "--checkpoint"])
def test_weights_that_are_not_there_are_missed_before_anything_starts(tmp_path, source, capsys, option):
    assert call(source, "-o", tmp_path / "out.mp4", option, tmp_path / "nope.onnx") == 2
    assert capsys.readouterr().err.startswith(f"error: {option} is {tmp_path / 'nope.onnx'}, which does not exist")


def test_without_weights_a_note_says_what_the_frames_are_good_for(tmp_path, pictures, capsys):
    assert call(*pictures, "-o", tmp_path / "out.png", "--timestep", "0.75", "-q") == 0
    assert "they know small motion" in capsys.readouterr().out


def test_a_server_that_is_not_there_exits_with_3(tmp_path, source, capsys):
    pytest.importorskip("tritonclient.grpc")
    options = ["--server", "127.0.0.1:9", "--timeout", "1", "--patience", "0.2"]
    assert call(source, "-o", tmp_path / "out.mp4", *options) == 3
    said = capsys.readouterr().err
    assert "missing: no answer from the grpc server at 127.0.0.1:9" in said
    assert said.endswith("start it, or check the address and that this is its grpc port; nothing was written\n")
    assert not (tmp_path / "out.mp4").exists()


def test_that_a_server_is_waited_for_is_said_once(tmp_path, source, capsys, monkeypatch):
    """By all threads together; with --quiet not at all."""
    pytest.importorskip("tritonclient.grpc")
    monkeypatch.setattr("refine_export.interpolation.backends.SAID_AFTER_S", 0.1)
    options = ["--server", "127.0.0.1:9", "--timeout", "1", "--patience", "0.5", "-o", tmp_path / "out.mp4"]
    line = "no answer from the grpc server at 127.0.0.1:9: it is asked again for 0.5 s (--patience)\n"
    assert call(source, *options) == 3
    assert capsys.readouterr().err.count(line) == 1
    assert call(source, *options, "--quiet") == 3
    assert line not in capsys.readouterr().err
