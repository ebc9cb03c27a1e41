"""`refine-export interpolate` as a user calls it."""

import functools
import io
import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.support.files import write_text
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import Sound, _write_sound, assert_frames, numbered, read_clip, write_clip
from tests.support.paths import names_in


@pytest.fixture
def call(command):
    return functools.partial(command, "interpolate")


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


def test_two_pictures_give_the_one_between(tmp_path, network, pictures, call):
    code, out, err = call(*pictures, "-o", tmp_path / "out.png", "--timestep", "0.25", "--file", network)
    found = np.asarray(Image.open(tmp_path / "out.png"))
    assert found.shape == (33, 45, 3)
    assert np.unique(found).tolist() == [45]
    assert (code, "computed by: onnxruntime" in out, "compute the frame" in err) == (0, True, True)


def test_a_video_gives_one_with_more_frames(tmp_path, network, source, call):
    code, out, err = call(source, "-o", tmp_path / "out.mkv", "--times", 4, "--file", network, "--json")
    found = read_clip(tmp_path / "out.mkv")
    assert_frames(found.pictures, 8, 4)
    assert len(found.sounds) == 1
    result = json.loads(out)
    assert (result["frames_read"], result["frames_written"], result["scene_cuts"]) == (8, 32, 0)
    assert result["path"] == str(tmp_path / "out.mkv")
    assert (code, err) == (0, "")


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
    tmp_path, monkeypatch, call, network, source, pictures, arguments, code
):
    monkeypatch.chdir(tmp_path)
    if "net.pkl" in arguments:
        torch.save(dict(seeded_checkpoint("IFNet").state_dict), "net.pkl")
    before = names_in(tmp_path)
    found, _, err = call(*arguments)
    assert (found, f"[{code}]" in err) == (2, True), err
    assert names_in(tmp_path) == before


def only_sound(path):
    with av.open(str(path), "w") as container:
        _write_sound(container, container.add_stream("aac", rate=48000), Sound())


def resumed(path):
    write_clip(path, [numbered(number) for number in range(4)])
    write_text(path.parent / "out.mp4.parts" / "job.json", json.dumps({"source": "another"}))


BAD_INPUT = {
    "one frame": (lambda path: write_clip(path, [numbered(0)]), "in.mp4", [], "too-few-frames"),
    "no video": (only_sound, "in.mp4", [], "no-video"),
    "a rate of zero": (lambda path: None, "-", ["--raw-input", "96x64:rgb24:0"], "wrong-option"),
    "a target of zero": (lambda path: None, "in.mp4", ["--fps", "0"], "wrong-option"),
    "a pipe without frames": (lambda path: None, "-", ["--raw-input", "96x64:rgb24:25"], "no-frames"),
    "codec": (
        lambda path: write_clip(path, [numbered(number) for number in range(4)]),
        "in.mp4",
        ["--codec", "prores_ks"],
        "codec-not-in-container",
    ),
    "below": (
        lambda path: write_clip(path, [numbered(number) for number in range(4)]),
        "in.mp4",
        ["--fps", "20"],
        "fps-below-source",
    ),
    "another source": (resumed, "in.mp4", ["--resume"], "resume-other-source"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_exits_with_2_and_makes_nothing(tmp_path, monkeypatch, call, network, name):
    make, source, options, code = BAD_INPUT[name]
    make(tmp_path / source)
    monkeypatch.setattr("sys.stdin", type("Stream", (), {"buffer": io.BytesIO()}))
    before = names_in(tmp_path)
    given = source if source == "-" else str(tmp_path / source)
    found, _, err = call(given, "-o", str(tmp_path / "out.mp4"), "--file", str(network), *options)
    assert (found, f"[{code}]" in err) == (2, True), err
    assert names_in(tmp_path) == before


def test_a_server_that_is_not_there_exits_with_3(tmp_path, source, call, monkeypatch):
    """That it is waited for is written once; with --quiet not at all."""
    pytest.importorskip("tritonclient.grpc")
    monkeypatch.setattr("refine_export.interpolation.backends.LONG_PAUSE_S", 0.0)  # the first one counts
    options = ["--server", "127.0.0.1:9", "--timeout", "1", "--patience", "0.4", "-o", tmp_path / "out.mp4"]
    waiting = "it is asked again for 0.4 s"
    code, _, err = call(source, *options)
    assert (code, err.count(waiting)) == (3, 1)
    code, _, err = call(source, *options, "--quiet")
    assert (code, err.count(waiting)) == (3, 0)
    assert not (tmp_path / "out.mp4").exists()


def test_progress_is_json_on_request(tmp_path, network, source, call, monkeypatch):
    monkeypatch.setattr("refine_export.interpolation.frame_work.REPORT_S", 0)
    code, out, err = call(source, "-o", tmp_path / "out.mkv", "--file", network, "--progress", "json", "--json")
    assert (code, json.loads(out)["frames_written"]) == (0, 16)
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["event"] for line in lines] == ["start", *["progress"] * 8, "end"]
    assert [(line["done"], line["total"]) for line in lines[1:-1]] == [(2 * k, 16) for k in range(1, 9)]
    assert lines[-2]["seconds_left"] == 0


def test_a_folder_of_videos_goes_to_a_folder(tmp_path, network, source, call):
    (tmp_path / "in").mkdir()
    source.rename(tmp_path / "in" / "a.mp4")
    code, out, _ = call(tmp_path / "in", "-o", tmp_path / "out", "--file", network, "--fps", 60, "--json")
    [result] = json.loads(out)
    assert (code, result["path"]) == (0, str(tmp_path / "out" / "a.mp4"))
    assert (result["frames_written"], read_clip(tmp_path / "out" / "a.mp4").video["rate"]) == (20, 60)


def test_an_interrupt_is_told_how_to_go_on(tmp_path, network, source, call, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt("12 frames are written; --resume goes on")

    monkeypatch.setattr("refine_export.jobs.interpolate_frames.interpolate_video", interrupted)
    code, _, err = call(source, "-o", tmp_path / "out.mp4", "--file", network)
    assert code == 130
    assert "--resume goes on" in err
