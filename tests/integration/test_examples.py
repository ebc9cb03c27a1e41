"""The scripts in examples/ run as written."""

import runpy

import pytest
import torch
from PIL import Image

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.frame_options import SceneOptions
from refine_export.data.images import uint8_from_frame
from refine_export.data.sample_scene import Scene
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import clip, read_clip
from tests.support.paths import ROOT


@pytest.fixture
def frames(tmp_path):
    scene = Scene(SceneOptions(height=64, width=96, motion_px=4.0))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, time in zip(paths, (0.0, 1.0), strict=True):
        Image.fromarray(uint8_from_frame(scene.frame(time))).save(path)
    return paths


def run(monkeypatch, capsys, script, *arguments):
    """Run a script as `python examples/SCRIPT` does, in this process: a new one would import torch again."""
    monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
    runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
    return capsys.readouterr().out


def test_five_lines(frames, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({f"module.{key}": value for key, value in seeded_checkpoint("IFNet").state_dict.items()}, "flownet.pkl")
    assert "passed" in run(monkeypatch, capsys, "five_lines.py", "flownet.pkl", *frames)
    assert (tmp_path / "five-lines-output" / "report.html").is_file()


def test_cogvideo(exports, frames, monkeypatch, capsys):
    printed = run(monkeypatch, capsys, "cogvideo.py", *exports.network("hdv3")[:1], *frames, exports.network("hdv3")[1])
    assert printed.startswith("4 frames of [3, 64, 96]")
    assert float(printed.rpartition(" ")[2]) < 1e-4


@pytest.mark.parametrize(("script", "package"), [("video_pyav.py", "av"), ("video_opencv.py", "cv2")])
def test_pipelines(tmp_path, monkeypatch, capsys, script, package):
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    write_average(tmp_path / "net.onnx")
    clip(tmp_path / "in.mp4", 12, rate=24)
    assert run(monkeypatch, capsys, script, "in.mp4", "out.mp4", "60", "net.onnx") == "30 frames\n"
    found = read_clip(tmp_path / "out.mp4")
    assert len(found.pictures) == 30
    assert found.video["rate"] == 60
