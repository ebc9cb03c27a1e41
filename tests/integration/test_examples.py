"""The scripts in examples/ run as written."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.frame_options import SceneOptions
from refine_export.data.images import uint8_from_frame
from refine_export.data.sample_scene import Scene
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def frames(tmp_path):
    scene = Scene(SceneOptions(height=64, width=96, motion_px=4.0))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, time in zip(paths, (0.0, 1.0), strict=True):
        Image.fromarray(uint8_from_frame(scene.frame(time))).save(path)
    return paths


@pytest.mark.parametrize(("script", "architecture"), [("five_lines.py", "IFNet"), ("cogvideo.py", "HDv3")])
def test_example(script, architecture, frames, tmp_path):
    weights = {f"module.{key}": value for key, value in seeded_checkpoint(architecture).state_dict.items()}
    torch.save(weights, tmp_path / "flownet.pkl")
    command = [sys.executable, str(ROOT / "examples" / script), "flownet.pkl", *map(str, frames)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if script == "cogvideo.py":
        assert float(done.stdout.rpartition(" ")[2]) < 1e-4
