"""Frames without a header on standard input and output, also between two real ffmpegs."""

import io
import shlex
import subprocess
import sys

import numpy as np
import pytest

from refine_export.errors import FrameError, RequestError
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import assert_frames, clip, numbered, read_clip, run
from tests.support.real_ffmpeg import needs_ffmpeg
from tests.support.refusals import refused


def piped(tmp_path, monkeypatch, content, **options):
    """Interpolate bytes on standard input, and return those on standard output."""
    options = {"raw_input": "96x64:rgb24:25", "raw_output": True} | options
    monkeypatch.setattr("sys.stdin", type("Stream", (), {"buffer": io.BytesIO(content)}))
    with (tmp_path / "out.raw").open("wb") as output:
        monkeypatch.setattr("sys.stdout", output)
        run(tmp_path.__class__("-"), tmp_path.__class__("-"), **options)
    return (tmp_path / "out.raw").read_bytes()


def test_rgb_goes_in_and_out_unchanged(tmp_path, monkeypatch):
    frames = [numbered(number) for number in range(5)]
    made = piped(tmp_path, monkeypatch, b"".join(map(np.ndarray.tobytes, frames)))
    pictures = np.frombuffer(made, np.uint8).reshape(-1, 64, 96, 3)
    assert_frames(list(pictures), 5, 2)
    assert all(np.array_equal(pictures[2 * number], frame) for number, frame in enumerate(frames))


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p10le", "gray"])
def test_the_pixel_format_is_the_sources(tmp_path, monkeypatch, layout):
    size = {"yuv420p": 96 * 64 * 3 // 2, "yuv422p10le": 96 * 64 * 4, "gray": 96 * 64}[layout]
    content = (np.arange(3 * size) % 200 // 2 * 2).astype(np.uint8)
    content[1::2] = 1 if layout.endswith("le") else content[1::2]
    made = piped(tmp_path, monkeypatch, content.tobytes(), raw_input=f"96x64:{layout}:24000/1001", scene_cuts=False)
    assert len(made) == 6 * size
    assert [made[2 * k * size : (2 * k + 1) * size] == content[k * size : (k + 1) * size].tobytes() for k in range(3)]


@pytest.mark.parametrize(
    ("content", "options", "error", "code"),
    [
        (bytes(96 * 64 * 3 * 2 + 7), {}, FrameError, "raw-frame-cut"),
        (bytes(7), {}, FrameError, "raw-frame-cut"),
        (bytes(96 * 64 * 6), {"raw_input": None}, FrameError, "video-undecodable"),
        (bytes(96 * 64 * 6), {"raw_input": "96x64:no_such_format:25"}, RequestError, "wrong-option"),
        (bytes(96 * 64 * 6), {"raw_input": "96x64:rgb4:25"}, RequestError, "wrong-option"),  # not converted from
        (bytes(96 * 64 * 6), {"raw_input": "96x64:vaapi:25"}, RequestError, "wrong-option"),  # of a GPU
        (bytes(96 * 64 * 6), {"raw_input": "96x64:yaf32le:25"}, RequestError, "wrong-option"),
    ],
)
def test_what_does_not_fill_frames_is_refused(tmp_path, monkeypatch, content, options, error, code):
    with refused(code, error):
        piped(tmp_path, monkeypatch, content, **options)


@pytest.mark.parametrize(
    "text",
    [
        *("96x64", "96x64:rgb24", "0x64:rgb24:25", "96x64:rgb24:-1", "96x64:rgb24:1/0", ""),
        *("96x64:rgb24:0", f"96x64:rgb24:{'9' * 400}"),
    ],
)
def test_a_description_that_is_not_whole_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="WIDTHxHEIGHT:PIX_FMT:FPS"):
        run(tmp_path / "-", tmp_path / "-", raw_input=text)


def test_files_have_headers_of_their_own(tmp_path):
    with refused("options-do-not-fit", RequestError, option="raw_input"):
        run(clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", raw_input="96x64:rgb24:25")
    with refused("options-do-not-fit", RequestError, option="raw_output"):
        run(tmp_path / "in.mp4", tmp_path / "out.mp4", raw_output=True)


@needs_ffmpeg
def test_between_two_ffmpegs(tmp_path):
    """One ffmpeg decodes and another one encodes, as in a shell pipeline."""
    clip(tmp_path / "in.mkv", 8, codec="ffv1")
    write_average(tmp_path / "net.onnx")
    here = f"{shlex.quote(sys.executable)} -c 'from refine_export.cli.main import program; program()' interpolate"
    subprocess.run(
        "ffmpeg -loglevel error -i in.mkv -f rawvideo -pix_fmt yuv420p - | "
        f"{here} - -o - --file net.onnx --fps 50 --raw-input 96x64:yuv420p:25 --raw-output 2>notes.txt | "
        "ffmpeg -loglevel error -f rawvideo -pix_fmt yuv420p -s 96x64 -r 50 -i - -c:v ffv1 out.mkv",
        shell=True,  # the pipe is what is tested
        executable="/bin/bash",
        check=True,
        cwd=tmp_path,
        timeout=60,
    )
    found = read_clip(tmp_path / "out.mkv")
    assert_frames(found.pictures, 8, 2)
    assert found.video["rate"] == 50
    assert "note: no colour matrix is stated" in (tmp_path / "notes.txt").read_text()
