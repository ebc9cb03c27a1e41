"""Files with both frames in one input, as vs-mlrt has them."""

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from refine_export.errors import RequestError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolation_options import ComputeOptions
from refine_export.interpolation.stacked_input import is_stacked, stacked
from tests.support.refusals import refused


def file_of(path, channels, size="H, W"):
    """Write a file that gives frame 0 + timestep * (frame 1 - frame 0)."""
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    net (float[1, {channels}, {size}] input) => (float[1, 3, {size}] output)
    <int64[4] parts = {{3, 3, 1, {channels - 7}}}>
    {{
        a, b, t, rest = Split <axis = 1> (input, parts)
        d = Sub (b, a)
        m = Mul (d, t)
        output = Add (a, m)
    }}"""
    if channels == 7:
        text = text.replace("[4] parts = {3, 3, 1, 0}", "[3] parts = {3, 3, 1}").replace("a, b, t, rest", "a, b, t")
    onnx.save(parse_model(text), path)
    return ComputeOptions(file=path)


@pytest.mark.parametrize("channels", [7, 11])
def test_a_stack_is_fed(tmp_path, channels):
    a, b = np.full((50, 70, 3), 40, np.uint8), np.full((50, 70, 3), 80, np.uint8)
    with Backend(file_of(tmp_path / "net.onnx", channels)).open() as interpolator:
        assert interpolator.takes_timestep
        assert np.array_equal(interpolator.interpolate(a, b, 0.25), np.full_like(a, 50))
        deep = interpolator.interpolate(np.float32(a / 255), np.float32(b / 255), 0.25)
        assert deep == pytest.approx(50 / 255, abs=1e-6)


def test_a_file_of_another_size_is_refused(tmp_path):
    frame = np.zeros((50, 70, 3), np.uint8)
    options = file_of(tmp_path / "net.onnx", 7, "64, 64")
    with Backend(options).open() as interpolator, refused("size-not-taken", RequestError, size=(64, 128)):
        interpolator.interpolate(frame, frame, 0.5)


def test_the_channels_are_those_of_vs_mlrt():
    """Pixels as X * 2 / (W - 1) - 1, and the two factors."""
    stack = stacked(np.zeros((64, 128, 3), np.uint8), np.full((64, 128, 3), 255, np.uint8), 0.25, 11)
    assert stack.shape == (11, 64, 128)
    assert [float(stack[k, 5, 9]) for k in (0, 3, 6)] == [0, 1, 0.25]
    assert stack[7, 5, 9] == pytest.approx(9 * 2 / 127 - 1)
    assert stack[8, 5, 9] == pytest.approx(5 * 2 / 63 - 1)
    assert [float(stack[k, 5, 9]) for k in (9, 10)] == pytest.approx([2 / 127, 2 / 63])


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x07 what is left of a model")
    with refused("not-onnx"):
        is_stacked(path)
