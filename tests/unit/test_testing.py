"""`assert_matches`: silent on what is right, readable on what is wrong, and never green where nothing was compared."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import save_file

from refine_export.accuracy.limits import Limits
from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.feeds import feeds_for
from refine_export.errors import RequestError, UnavailableError
from refine_export.export.reference_network import reference_network
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES
from refine_export.testing import SHOWN, assert_matches
from tests.support.refusals import refused

SIZE = (64, 96)


@pytest.fixture(scope="module")
def place(exports, tmp_path_factory):
    """Weights, the file made from them, a spoilt one, and two pictures."""
    folder = tmp_path_factory.mktemp("gate")
    weights = dict(seeded_checkpoint("IFNet").state_dict)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "weights.safetensors")
    model = onnx.load(exports.fp32("contextnet", size="64x96"))
    del model.metadata_props[:]  # which name other weights than those of the file
    onnx.save(model, folder / "good.onnx")
    [first] = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4][:1]
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * 1.05, first.name))
    onnx.save(model, folder / "spoilt.onnx")
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(generator.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / name)
    return folder


def test_a_right_file_passes_silently(place, capsys):
    verdicts = assert_matches(
        place / "weights.safetensors", place / "good.onnx", (place / "a.png", str(place / "b.png"))
    )
    assert {verdict.status for verdict in verdicts} == {"passed"}
    assert len(verdicts) >= 4
    assert any("noise" in verdict.feed for verdict in verdicts)
    assert capsys.readouterr().out == ""


def test_without_pictures_a_scene_is_drawn(place):
    assert assert_matches(str(place / "weights.safetensors"), place / "good.onnx")


def test_a_wrong_file_fails_with_numbers_and_place(place):
    with pytest.raises(AssertionError) as caught:
        assert_matches(place / "weights.safetensors", place / "spoilt.onnx", (place / "a.png", place / "b.png"))
    message = str(caught.value)
    assert re.search(r"spoilt\.onnx is not the reference: (\d) of \1 feeds failed\n", message)
    assert re.search(
        r"subpixel flow, f1: largest error \S+ of the peak, above 0\.0001; PSNR \S+ dB, below 90 \(worst at x \d+, y",
        message,
    )
    assert message.count("\n") <= SHOWN + 1


def test_thresholds_of_ones_own(place):
    loose = Limits(max_abs=0.5, psnr_db=10.0)
    assert assert_matches(place / "weights.safetensors", place / "spoilt.onnx", thresholds=loose)
    with pytest.raises(AssertionError):
        assert_matches(
            place / "weights.safetensors", place / "good.onnx", thresholds=Limits(max_abs=1e-4, psnr_db=200.0)
        )


def test_runners_and_feeds(place, pair_at):
    network = reference_network(seeded_checkpoint("IFNet"))
    feeds = list(feeds_for(network, SIGNATURES["contextnet"], pair_at(*SIZE), kinds=("subpixel",)))
    with TorchRunner(network, "contextnet") as torch_runner, OrtRunner(place / "good.onnx") as ort:
        assert len(assert_matches(torch_runner, ort, feeds)) == 1
        assert len(assert_matches(seeded_checkpoint("IFNet"), ort, iter(feeds))) == 1
        for none in (None, []):
            with refused("no-feeds", RequestError):
                assert_matches(torch_runner, ort, none)


def test_a_missing_runtime_is_never_green(place):
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there; this is about a machine without")
    with refused("not-compared", UnavailableError):
        assert_matches(place / "weights.safetensors", place / "good.onnx", runtime="onnxruntime-cuda")


def test_what_is_no_graph_of_ours_is_refused(place):
    with pytest.raises(RequestError):
        assert_matches(place / "weights.safetensors", Path("nope.onnx"))
