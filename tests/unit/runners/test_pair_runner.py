"""Stacks fed as pairs."""

import numpy as np
import pytest

from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.pair_runner import pair_runner
from tests.support.refusals import refused
from tests.support.stacks import stacked_file


@pytest.mark.parametrize("channels", [7, 11])
def test_a_stack_takes_a_pair(tmp_path, channels):
    a, b = np.full((1, 3, 32, 64), 0.2, np.float32), np.full((1, 3, 32, 64), 0.6, np.float32)
    with pair_runner(OrtRunner(stacked_file(tmp_path / "net.onnx", channels))) as runner:
        assert [info.name for info in (*runner.inputs, *runner.outputs)] == ["img0", "img1", "timestep", "frame"]
        feeds = {"img0": a, "img1": b, "timestep": np.full((1, 1, 1, 1), 0.25, np.float32)}
        assert runner.run(feeds)["frame"] == pytest.approx(0.3)
        with refused("feed-names"):
            runner.run({"img0": a, "img1": b})


def test_other_runners_stay_as_they_are(tmp_path):
    with OrtRunner(stacked_file(tmp_path / "net.onnx", 8)) as runner:
        assert pair_runner(runner) is runner
