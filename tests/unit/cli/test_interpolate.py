"""`refine-export interpolate` as a user calls it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.cli.main import main
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import Sound, assert_frames, numbered, read_clip, write_clip


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["interpolate", *map(str, arguments)])
    return ended.value.code


@pytest.fixture
def network(tmp_path):
    write_average(tmp_path / "net.onnx")
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
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert (result["frames_read"], result["frames_written"], result["scene_cuts"]) == (8, 32, 0)
    assert result["path"] == str(tmp_path / "out.mkv")
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a.png", "b.png", "-o", "out.png", "--no-audio"], "options-do-not-fit"),
        (["a.png", "b.png", "-o", "out.png", "--checkpoint", "net.pkl", "--device", "x"], "unknown-device"),
        (["in.mp4", "-o", "out.mp4", "--runtime", "cuda", "--file", "net.onnx"], "wrong-option"),
        (["in.mp4", "-o", "out.mp4", "--server", "localhost:99999"], "wrong-option"),
        (["in.mp4", "-o", "out.mp4", "--server", "h:1", "--checkpoint", "net.onnx"], "wrong-option"),
        (["a.png", "b.png", "-o", "in.mp4", "--force"], "output-suffix"),
    ],
)
def test_wrong_requests_exit_with_2_and_make_nothing(
    tmp_path, monkeypatch, capsys, network, source, pictures, arguments, code
):
    monkeypatch.chdir(tmp_path)
    if "net.pkl" in arguments:
        torch.save(dict(seeded_checkpoint("IFNet").state_dict), "net.pkl")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert call(*arguments) == 2
    assert f"[{code}]" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_server_that_is_not_there_exits_with_3(tmp_path, source, capsys, monkeypatch):
    """That it is waited for is written once; with --quiet not at all."""
    pytest.importorskip("tritonclient.grpc")
    monkeypatch.setattr("refine_export.interpolation.backends.SILENCE_S", 0.1)
    options = ["--server", "127.0.0.1:9", "--timeout", "1", "--patience", "0.4", "-o", tmp_path / "out.mp4"]
    waiting = "it is asked again for 0.4 s"
    assert call(source, *options) == 3
    assert capsys.readouterr().err.count(waiting) == 1
    assert call(source, *options, "--quiet") == 3
    assert waiting not in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
