"""`interpolate`: what goes together, and what does not."""

import pytest
from PIL import Image

from refine_export.errors import RequestError
from refine_export.jobs.interpolate_frames import interpolate
from tests.support.interpolation_clips import averaging_model, clip
from tests.support.refusals import refused


def test_two_pictures_or_a_video(tmp_path):
    network = tmp_path / "net.onnx"
    network.write_bytes(averaging_model().SerializeToString())
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 32)).save(tmp_path / name)
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    result = interpolate(pictures, output=tmp_path / "out.png", timestep=0.25, file=network)
    assert (result.path, result.frames_written) == (tmp_path / "out.png", 1)
    video = interpolate(clip(tmp_path / "in.mp4"), output=str(tmp_path / "out.mp4"), file=network, times=4)
    assert video.to_dict()["frames_written"] == 21
    assert "onnxruntime" in video.computed_by


@pytest.mark.parametrize(
    ("inputs", "options", "code"),
    [
        (["a.png", "b.png", "c.png"], {}, "not-pictures-or-video"),
        (["a.png"], {}, "not-pictures-or-video"),
        (["a.png", "b.mp4"], {}, "not-pictures-or-video"),
        (["a.mp4"], {"timestep": 0.5}, "options-do-not-fit"),
        (["a.png", "b.png"], {"times": 2}, "options-do-not-fit"),
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
