"""Interpolators with one input: the layout, what is recognised, and the file that is written."""

import numpy as np
import onnx
import pytest

from refine_export.artifacts import artifact_from_file, stacked_signature_of_model
from refine_export.checkpoint.checkpoint import checkpoint_from_file, seeded_checkpoint
from refine_export.errors import GraphError, RequestError
from refine_export.export.export_file import export_file
from refine_export.export.export_options import ExportOptions
from refine_export.export.reference_network import reference_network
from refine_export.graph.stacked_input import stack_of, with_stacked_input
from refine_export.jobs.export_graphs import export
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import padded_size
from tests.support.refusals import refused
from tests.support.stacks import stacked_file


def pictures(height, width):
    img0 = np.random.default_rng(3).random((1, 3, height, width), np.float32)
    return img0, np.roll(img0, 3, axis=3), np.full((1, 1, 1, 1), 0.3, np.float32)


def test_the_channels_are_those_of_vs_mlrt():
    """Pixels as X * 2 / (W - 1) - 1, and the two factors."""
    shape = 2, 3, 64, 128
    times = np.array([0.25, 0.75], np.float32).reshape(2, 1, 1, 1)
    stack = stack_of(np.zeros(shape), np.ones(shape), times, 11)
    assert stack.shape == (2, 11, 64, 128)
    assert stack[:, [0, 3, 6], 5, 9].tolist() == [[0, 1, 0.25], [0, 1, 0.75]]
    assert stack[1, 7:, 5, 9] == pytest.approx([9 * 2 / 127 - 1, 5 * 2 / 63 - 1, 2 / 127, 2 / 63])
    assert np.array_equal(stack_of(np.zeros(shape), np.ones(shape), times, 7), stack[:, :7])


@pytest.mark.parametrize("name", ["rife4_6", "rife4_25"])
def test_a_written_file_computes_what_torch_does(exports, name):
    """At a size that is not a multiple of the padding, a file of 7 channels pads inside; for 11 the caller pads."""
    weights, pair = exports.network(name)
    reference = reference_network(checkpoint_from_file(weights))
    unit = reference.multiple_of
    img0, img1, time = pictures(70, 100)
    height, width = padded_size(70, 100, unit)
    whole = [np.pad(one, ((0, 0), (0, 0), (0, height - 70), (0, width - 100)), mode="edge") for one in (img0, img1)]
    with TorchRunner(reference, "interpolator") as torch:
        expected = torch.run({"img0": whole[0], "img1": whole[1], "timestep": time})["frame"]
    for form, fed in (("stacked7", (img0, img1)), ("stacked11", whole)):
        channels = int(form.removeprefix("stacked"))
        model = with_stacked_input(onnx.load(pair), form, unit)
        with OrtRunner(model.SerializeToString()) as runner:
            assert runner.inputs[0].shape == ("N", channels, "H", "W")
            made = runner.run({"input": stack_of(*fed, time, channels)})["output"]
        assert made == pytest.approx(expected[:, :, : made.shape[2], : made.shape[3]], abs=1e-4)
        assert made.shape == fed[0].shape


def test_the_option_writes_a_file_that_is_recognised(exports, tmp_path):
    weights, _ = exports.network("rife4_6")
    made = export(weights, "interpolator", output=tmp_path / "net.onnx", layout="stacked11", size="64x96")
    assert made.sizes == "1x11x64x96"
    known = artifact_from_file(made.path)
    assert (known.stacked, known.takes_timestep, known.multiple_of, known.fixed) == (11, True, 32, (1, 64, 96))
    with refused("options-do-not-fit", RequestError, option="layout"):
        export(exports.network("rife4_0_refined")[0], "refine", output=tmp_path / "refine.onnx", layout="stacked7")


def test_a_network_without_a_timestep_has_no_stack(tmp_path):
    checkpoint = seeded_checkpoint("IFNet")
    options = ExportOptions(layout="stacked7", dynamic=False, size="32x32")
    with refused("options-do-not-fit", RequestError, option="layout"):
        export_file(lambda: reference_network(checkpoint), checkpoint, "interpolator", options, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("given", "made", "is_stack"), [(7, 3, True), (11, 3, True), (8, 3, False), (7, 1, False)])
def test_a_stack_is_known_by_its_channels(tmp_path, given, made, is_stack):
    model = onnx.load(stacked_file(tmp_path / "net.onnx", given))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = made
    assert (stacked_signature_of_model(model) is not None) is is_stack


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x07 what is left of a model")
    with refused("not-onnx", GraphError):
        artifact_from_file(path)
