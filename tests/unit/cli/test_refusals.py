"""What cannot be carried out is refused before frames are drawn for it, and before anything is exported."""

import shutil

import onnx
import pytest

from refine_export.data.sample_scene import Scene
from refine_export.export import export_file
from tests.support.foreign import Foreign, foreign_model, plain_model

RECIPE = """
[checkpoint]
weights = "seeded"
[frames]
sample = "scene"
"""


@pytest.fixture(name="here")
def here_fixture(tmp_path, monkeypatch, exports):
    def never(*_, **__):
        raise AssertionError("frames were drawn, or a graph exported")

    monkeypatch.chdir(tmp_path)
    shutil.copy(exports.fp32("contextnet"), "ours.onnx")
    monkeypatch.setattr(Scene, "frame", never)
    monkeypatch.setattr(export_file, "onnx_from_network", never)
    (tmp_path / "r.toml").write_text(RECIPE)
    (tmp_path / "file").write_text("mine")
    onnx.save(plain_model(), "plain.onnx")
    onnx.save(foreign_model(Foreign()), "dynamic.onnx")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("validate ours.onnx --size 1000x1001", "wrong-size"),
        ("validate ours.onnx plain.onnx", "unknown-graph"),
        ("validate ours.onnx --report file", "cannot-write"),
        ("lower dynamic.onnx -o o.onnx", "needs-size"),
        ("lower ours.onnx -o o.onnx --size 1000x1001", "wrong-size"),
        ("bisect ours.onnx --against plain.onnx", "other-graph"),
        ("bisect ours.onnx --against-runtime onnxruntime-rtx", "provider-not-built"),
        ("bisect ours.onnx --against ours.onnx --runtime onnxruntime-rtx", "provider-not-built"),
        ("bench ours.onnx --size 10x10", "wrong-size"),
        ("bench ours.onnx --output file", "cannot-write"),
        ("export --graph interpolator --layout stacked7 -o out", "options-do-not-fit"),
        ("export --graph contextnet --size 10x10 -o out", "wrong-size"),
        ("build plain.onnx -o o.plan", "unknown-graph"),
        ("run -o file", "cannot-write"),
    ],
)
def test_refused_before_work(command, here, line, code):
    exit_code, _, messages = command(*line.split(), "--recipe", "r.toml")
    assert (exit_code in (2, 3), f"[{code}]" in messages) == (True, True), messages
