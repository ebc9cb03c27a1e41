"""The frame between two frames: here, by a file, by a server."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.export.reference_network import graph_network
from refine_export.interpolation.backends import ComputeOptions
from refine_export.interpolation.interpolator import LocalInterpolator, ServedInterpolator, frames_between
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.runners.triton.client import ServedModel, ServedTensor, ServerOptions
from refine_export.signature import TensorInfo
from tests.support.interpolation_clips import Averager, average, averaging_model


def picture(pair_at, which, height=50, width=70):
    image = getattr(pair_at(64, 96), which)[0, :, :height, :width]
    return np.uint8(np.rint(np.moveaxis(image, 0, -1) * 255))


@pytest.mark.parametrize(("architecture", "timestep"), [("IFNet", 0.5), ("IFNet_m", 0.25)])
def test_a_frame_is_what_torch_gives_on_padded_frames_rounded(references, pair_at, architecture, timestep):
    """between(a, b, t) = round(255 * crop(network(pad(a / 255), pad(b / 255), t)))"""
    frames = [picture(pair_at, "img0"), picture(pair_at, "img1")]
    graph = "interpolator_m" if architecture == "IFNet_m" else "interpolator"
    with LocalInterpolator(TorchRunner(references(architecture), graph)) as interpolator:
        found = interpolator.between(*frames, timestep)
    images = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255 for frame in frames]
    padded = [torch.nn.functional.pad(image, (0, 26, 0, 14), mode="replicate") for image in images]
    more = [torch.full((1, 1, 1, 1), timestep)] if graph == "interpolator_m" else []
    with torch.inference_mode():
        whole = graph_network(references(architecture), graph)(*padded, *more)
    expected = (whole[0, :, :50, :70].permute(1, 2, 0).double() * 255).round().clamp(0, 255).byte().numpy()
    assert np.array_equal(found, expected)
    assert np.ptp(found) > 50


def test_a_file_gives_the_time_that_is_asked_for(tmp_path):
    onnx.save(averaging_model(), tmp_path / "net.onnx")
    a, b = np.full((40, 50, 3), 10, np.uint8), np.full((40, 50, 3), 210, np.uint8)
    with ComputeOptions(file=tmp_path / "net.onnx").open() as interpolator:
        found = [int(interpolator.between(a, b, timestep)[0, 0, 0]) for timestep in (0.1, 0.25, 0.5, 0.9)]
    assert found == [30, 60, 110, 190]


def test_a_file_of_one_size_refuses_others_and_says_which_it_takes(tmp_path):
    onnx.save(averaging_model(sizes=(1, 64, 96)), tmp_path / "net.onnx")
    fits, larger = np.zeros((60, 96, 3), np.uint8), np.zeros((70, 96, 3), np.uint8)
    with ComputeOptions(file=tmp_path / "net.onnx").open() as interpolator:
        assert interpolator.between(fits, fits, 0.5).shape == fits.shape
        with pytest.raises(RequestError, match="70x96 .* one pair of 96x96, and .* takes 1x3x64x96"):
            interpolator.between(larger, larger, 0.5)


class FixedRunner(Runner):
    """Gives img1 for any feeds of its types."""

    backend, version, device, provider = "fixed", "1", "cpu", "nothing"

    def __init__(self, names=("img0", "img1"), dtype="float32"):
        self.inputs = tuple(TensorInfo(name=name, dtype=dtype, shape=(1, 3, "H", "W")) for name in names)
        self.outputs = ()

    def _run(self, feeds):
        return {"frame": feeds["img1"]}


def test_fp16_files_get_fp16():
    frame = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    with LocalInterpolator(FixedRunner(dtype="float16")) as interpolator:
        assert np.abs(interpolator.between(frame, frame, 0.5).astype(int) - frame).max() <= 1


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        (FixedRunner(("image", "flow")), "inputs are flow, image: no graph that makes frames"),
        (FixedRunner(dtype="bfloat16"), "inputs are bfloat16; expected float32 or float16"),
    ],
)
def test_other_graphs_are_refused(runner, words):
    with pytest.raises(RequestError, match=words):
        LocalInterpolator(runner)


class WrongRunner(FixedRunner):
    """Answers with something else than a frame."""

    def __init__(self, wrong):
        super().__init__()
        self._wrong = wrong

    def _run(self, feeds):
        return {"frame": self._wrong(feeds["img1"].copy())}


def one_value(value):
    def wrong(frame):
        frame[0, 1, 5, 7] = value
        return frame

    return wrong


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (one_value(np.nan), "fixed 1, nothing, on cpu answers with values that are NaN or infinite"),
        (one_value(np.inf), "values that are NaN or infinite; expected 0 to 1: it overflows, as FP16 may"),
        (lambda frame: frame[:, :, ::2, ::2], r"answers with \[1, 3, 16, 16\] to frames of \[1, 3, 32, 32\]"),
        (lambda frame: np.repeat(frame, 2, 2), r"answers with \[1, 3, 64, 32\] to frames of \[1, 3, 32, 32\]"),
    ],
)
def test_what_is_no_frame_is_not_written_as_one(wrong, words):
    frame = np.zeros((30, 32, 3), np.uint8)
    with LocalInterpolator(WrongRunner(wrong)) as interpolator, pytest.raises(RequestError, match=words):
        interpolator.between(frame, frame, 0.5)


def test_what_is_cut_off_may_be_anything():
    frame = np.full((3, 32, 3), 51, np.uint8)  # row 5 is padding
    with LocalInterpolator(WrongRunner(one_value(np.nan))) as interpolator:
        assert np.array_equal(interpolator.between(frame, frame, 0.5), frame)


def test_where_only_the_middle_can_be_had_parts_are_halved():
    """1/4 = the middle of 0 and 1/2."""
    a, b = np.full((8, 8, 3), 0, np.uint8), np.full((8, 8, 3), 160, np.uint8)
    middles = frames_between(Averager(any_time=False), a, b, 8)
    assert [int(frame[0, 0, 0]) for frame in middles] == [20, 40, 60, 80, 100, 120, 140]
    assert [int(frame[0, 0, 0]) for frame in frames_between(Averager(), a, b, 5)] == [32, 64, 96, 128]


@pytest.mark.parametrize("times", [3, 6])
def test_other_numbers_of_times_are_refused_where_only_the_middle_can_be_had(times):
    frame = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(RequestError, match=rf"--times is {times}; .* 2, 4, 8, ...: choose one of these"):
        frames_between(Averager(any_time=False), frame, frame, times)


@pytest.mark.parametrize(
    ("timestep", "words"), [(0.25, "the middle of two frames, 0.5, alone"), (0, "between 0 and 1"), (1.5, "between")]
)
def test_a_time_that_cannot_be_had_is_refused(timestep, words):
    frame = np.zeros((32, 32, 3), np.uint8)
    with LocalInterpolator(FixedRunner()) as interpolator, pytest.raises(RequestError, match=words):
        interpolator.between(frame, frame, timestep)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (np.zeros((32, 40, 3), np.uint8), "differ in size: 32x32 and 40x32"),
        (np.zeros((32, 32), np.uint8), r"uint8 \[32, 32\]; expected uint8 \[H, W, 3\]"),
        (np.zeros((32, 32, 3), np.float32), "float32"),
    ],
)
def test_pairs_that_are_none_are_refused(other, words):
    frame = np.zeros((32, 32, 3), np.uint8)
    with LocalInterpolator(FixedRunner()) as interpolator, pytest.raises(FrameError, match=words):
        interpolator.between(frame, other, 0.5)


class FakeClient:
    """A client of a server with an ensemble that averages."""

    options = ServerOptions(url="host:8001")

    def __init__(self, any_time=True, answer=None):
        self._answer = answer
        self._inputs = ("frame0", "frame1", "timestep") if any_time else ("frame0", "frame1")
        self.closed = False

    def metadata(self, model):
        assert model == ENSEMBLE
        tensors = tuple(ServedTensor(name=name, dtype="uint8", shape=(None, None, 3)) for name in self._inputs)
        return ServedModel(name=model, versions=("1",), platform="ensemble", inputs=tensors, outputs=())

    def server(self):
        return "triton 2"

    def infer(self, model, inputs, outputs):
        assert (model, outputs, tuple(inputs)) == (ENSEMBLE, ["frame"], self._inputs)
        assert all(inputs[name].dtype == np.uint8 for name in ("frame0", "frame1"))
        timestep = inputs["timestep"] if "timestep" in inputs else np.array([0.5], np.float32)
        assert (timestep.dtype, timestep.shape) == (np.float32, (1,))
        if self._answer is not None:
            return {"frame": self._answer}
        return {"frame": average(inputs["frame0"], inputs["frame1"], float(timestep[0]))}

    def close(self):
        self.closed = True


def test_a_server_gets_the_frames_as_they_are_and_the_time():
    a, b = np.full((33, 47, 3), 40, np.uint8), np.full((33, 47, 3), 80, np.uint8)
    client = FakeClient()
    with ServedInterpolator(client) as interpolator:
        assert interpolator.any_time
        assert np.array_equal(interpolator.between(a, b, 0.25), np.full_like(a, 50))
    assert client.closed
    with ServedInterpolator(FakeClient(any_time=False)) as interpolator:
        assert np.array_equal(interpolator.between(a, b, 0.5), np.full_like(a, 60))
        with pytest.raises(RequestError, match="alone"):
            interpolator.between(a, b, 0.25)


@pytest.mark.parametrize("answer", [np.zeros((32, 64, 3), np.uint8), np.zeros((33, 47, 3), np.float32)])
def test_an_answer_of_another_kind_is_no_frame(answer):
    frame = np.zeros((33, 47, 3), np.uint8)
    with (
        ServedInterpolator(FakeClient(answer=answer)) as interpolator,
        pytest.raises(UnavailableError, match=r"answers with .* to frames of \[33, 47, 3\]"),
    ):
        interpolator.between(frame, frame, 0.5)


@pytest.mark.parametrize("batch", ["", "-1,"])
def test_a_server_of_one_size_says_for_which_pictures_it_is(monkeypatch, batch):
    frame = np.zeros((60, 90, 3), np.uint8)

    def refuse(*_):
        raise RequestError(
            "the server refuses: unexpected shape for input 'img0' for model 'interpolator_m'. Expected "
            f"[{batch}3,96,160], got [{batch}3,64,96]"
        )

    monkeypatch.setattr(FakeClient, "infer", refuse)
    words = r"got .*; the server's file is for pictures that pad to 96x160 .*, and these pad to 64x96: deploy a file"
    with ServedInterpolator(FakeClient()) as interpolator, pytest.raises(RequestError, match=words):
        interpolator.between(frame, frame, 0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"file": "a.onnx", "server": ServerOptions(url="host:1")}, "--file and --server are given; expected one"),
        ({"runtime": "half"}, "--runtime is given without --file"),
        ({"concurrency": 0}, "--concurrency is 0; expected 1 to 64"),
    ],
)
def test_options_that_contradict_are_refused(options, words):
    with pytest.raises(RequestError, match=words):
        ComputeOptions(**options)


def test_weights_and_files_that_make_no_frames_are_refused(tmp_path):
    from safetensors.torch import save_file

    from refine_export.checkpoint.checkpoint import seeded_checkpoint

    save_file(dict(seeded_checkpoint("refinement").state_dict), tmp_path / "refinement.safetensors")
    with (
        pytest.raises(RequestError, match="refinement weights do not make the graph 'interpolator_m'"),
        ComputeOptions(checkpoint=tmp_path / "refinement.safetensors").open(),
    ):
        pass


def test_demo_weights_are_said_and_make_any_time(pair_at):
    options = ComputeOptions()
    assert "they know small motion" in options.notes[0]
    with options.open() as interpolator:
        assert interpolator.any_time
        assert "demo weights" in interpolator.provider
