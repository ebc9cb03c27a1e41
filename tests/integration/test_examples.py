"""The scripts in examples/ run as written."""

import subprocess
import sys

import pytest
from PIL import Image

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


@pytest.fixture
def checkpoint(tmp_path, checkpoint):
    import torch

    path = tmp_path / "flownet.pkl"
    torch.save(dict(checkpoint.state_dict), path)
    return path


@pytest.mark.parametrize("script", ["five_lines.py", "torch_to_onnx.py"])
def test_example(script, checkpoint, frames, tmp_path):
    command = [
        sys.executable,
        str(ROOT / "examples" / script),
        str(checkpoint),
        *map(str, frames),
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
