"""The frame between two frames: here, by a file, by a server."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.export.reference_network import graph_network
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolation_options import ComputeOptions
from refine_export.interpolation.interpolator import LocalInterpolator, ServedInterpolator, frames_at
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.runners.triton.transport import ServedModel
from refine_export.signature import TensorInfo
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import Averager, average
from tests.support.refusals import refused

BLACK = np.zeros((30, 32, 3), np.uint8)


def picture(pair_at, which, height=50, width=70):
    image = getattr(pair_at(64, 96), which)[0, :, :height, :width]
    return np.uint8(np.rint(np.moveaxis(image, 0, -1) * 255))


@pytest.mark.parametrize(("architecture", "timestep"), [("IFNet", 0.5), ("IFNet_m", 0.25)])
def test_a_frame_is_what_torch_gives_on_padded_frames_rounded(references, pair_at, architecture, timestep):
    """interpolate(a, b, t) = round(255 * crop(network(pad(a / 255), pad(b / 255), t)))"""
    frames = [picture(pair_at, "img0"), picture(pair_at, "img1")]
    with LocalInterpolator(TorchRunner(references(architecture), "interpolator")) as interpolator:
        found = interpolator.interpolate(*frames, timestep)
    images = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255 for frame in frames]
    padded = [torch.nn.functional.pad(image, (0, 26, 0, 14), mode="replicate") for image in images]
    more = [torch.full((1, 1, 1, 1), timestep)] if architecture == "IFNet_m" else []
    with torch.inference_mode():
        whole = graph_network(references(architecture), "interpolator")(*padded, *more)
    expected = (whole[0, :, :50, :70].permute(1, 2, 0).double() * 255).round().clamp(0, 255).byte().numpy()
    assert np.array_equal(found, expected)
    assert np.ptp(found) > 50


def test_a_file_computes_the_chosen_time(tmp_path):
    write_average(tmp_path / "net.onnx")
    a, b = np.full((40, 50, 3), 10, np.uint8), np.full((40, 50, 3), 210, np.uint8)
    with Backend(ComputeOptions(file=tmp_path / "net.onnx")).open() as interpolator:
        found = [int(interpolator.interpolate(a, b, timestep)[0, 0, 0]) for timestep in (0.1, 0.25, 0.5, 0.9)]
    assert found == [30, 60, 110, 190]


def test_a_file_of_one_size_refuses_others(tmp_path):
    write_average(tmp_path / "net.onnx", size=(64, 96), batch=1)
    fits, larger = np.zeros((60, 96, 3), np.uint8), np.zeros((70, 96, 3), np.uint8)
    with Backend(ComputeOptions(file=tmp_path / "net.onnx")).open() as interpolator:
        assert interpolator.interpolate(fits, fits, 0.5).shape == fits.shape
        with refused("size-not-taken", RequestError, size=(96, 96)):
            interpolator.interpolate(larger, larger, 0.5)


class FixedRunner(Runner):
    """Returns img1, changed by a function, for any feeds of its types."""

    backend, version, device, provider = "fixed", "1", "cpu", "nothing"

    def __init__(self, dtype="float32", change=lambda frame: frame):
        self.inputs = tuple(TensorInfo(name=name, dtype=dtype, shape=(1, 3, "H", "W")) for name in ("img0", "img1"))
        self.outputs = ()
        self._change = change

    def _run(self, feeds):
        return {"frame": self._change(feeds["img1"].copy())}


def test_fp16_files_get_fp16():
    frame = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    with LocalInterpolator(FixedRunner(dtype="float16")) as interpolator:
        assert np.abs(interpolator.interpolate(frame, frame, 0.5).astype(int) - frame).max() <= 1


def one_value(value):
    def change(frame):
        frame[0, 1, 5, 7] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (one_value(np.nan), "frame-not-finite"),
        (one_value(np.inf), "frame-not-finite"),
        (lambda frame: frame[:, :, ::2, ::2], "not-a-frame"),
        (lambda frame: np.repeat(frame, 2, 2), "not-a-frame"),
    ],
)
def test_an_output_that_is_not_a_frame_is_refused(change, code):
    with LocalInterpolator(FixedRunner(change=change)) as interpolator, refused(code, RequestError):
        interpolator.interpolate(BLACK, BLACK, 0.5)


def test_padding_may_be_anything():
    frame = np.full((3, 32, 3), 51, np.uint8)  # row 5 is padding
    with LocalInterpolator(FixedRunner(change=one_value(np.nan))) as interpolator:
        assert np.array_equal(interpolator.interpolate(frame, frame, 0.5), frame)


def test_where_only_the_middle_is_computed_parts_are_halved():
    """1/4 = the middle of 0 and 1/2."""
    a, b = np.full((8, 8, 3), 0, np.uint8), np.full((8, 8, 3), 160, np.uint8)

    def levels(timesteps, *, takes_timestep):
        return [int(frame[0, 0, 0]) for frame in frames_at(Averager(takes_timestep=takes_timestep), a, b, timesteps)]

    eighths = [Fraction(part, 8) for part in range(1, 8)]
    assert levels(eighths, takes_timestep=False) == [20, 40, 60, 80, 100, 120, 140]
    assert levels([Fraction(1, 5), Fraction(4, 5)], takes_timestep=True) == [32, 128]
    assert levels([Fraction(3, 4)], takes_timestep=False) == [120]
    with refused("only-the-middle", RequestError):
        levels([Fraction(1, 2), Fraction(1, 6)], takes_timestep=False)


@pytest.mark.parametrize(
    ("other", "timestep", "error", "code"),
    [
        (BLACK, 0.25, RequestError, "only-the-middle"),
        (BLACK, 0, RequestError, "wrong-option"),
        (BLACK, 1.5, RequestError, "wrong-option"),
        (np.zeros((32, 40, 3), np.uint8), 0.5, FrameError, "frame-sizes-differ"),
    ],
)
def test_wrong_frames_and_times_are_refused(other, timestep, error, code):
    with LocalInterpolator(FixedRunner()) as interpolator, refused(code, error):
        interpolator.interpolate(BLACK, other, timestep)


class FakeClient:
    """A client of a server with an ensemble that averages."""

    options = ServerOptions(url="host:8001")

    def __init__(self, takes_timestep=True, answer=None):
        self._answer = answer
        self._inputs = ("frame0", "frame1", "timestep") if takes_timestep else ("frame0", "frame1")
        self.closed = False

    def metadata(self, model):
        assert model == ENSEMBLE
        tensors = tuple(TensorInfo(name=name, dtype="uint8", shape=("H", "W", 3)) for name in self._inputs)
        return ServedModel(name=model, versions=("1",), platform="ensemble", inputs=tensors, outputs=())

    def server(self):
        return "triton 2"

    def infer(self, model, inputs, outputs):
        assert (model, outputs, tuple(inputs)) == (ENSEMBLE, ["frame"], self._inputs)
        assert all(inputs[name].dtype == np.uint8 for name in ("frame0", "frame1"))
        timestep = inputs["timestep"] if "timestep" in inputs else np.array([0.5], np.float32)
        assert (timestep.dtype, timestep.shape) == (np.float32, (1,))
        if isinstance(self._answer, Exception):
            raise self._answer
        frame = average(inputs["frame0"], inputs["frame1"], float(timestep[0]))
        return {"frame": frame if self._answer is None else self._answer}

    def close(self):
        self.closed = True


def test_a_server_gets_the_frames_as_they_are_and_the_time():
    a, b = np.full((33, 47, 3), 40, np.uint8), np.full((33, 47, 3), 80, np.uint8)
    client = FakeClient()
    with ServedInterpolator(client) as interpolator:
        assert interpolator.takes_timestep
        assert np.array_equal(interpolator.interpolate(a, b, 0.25), np.full_like(a, 50))
    assert client.closed
    with ServedInterpolator(FakeClient(takes_timestep=False)) as interpolator:
        assert np.array_equal(interpolator.interpolate(a, b, 0.5), np.full_like(a, 60))
        with pytest.raises(RequestError):
            interpolator.interpolate(a, b, 0.25)


def test_a_server_computes_8_bits_of_frames_that_have_more():
    a, b = np.full((33, 47, 3), 0.25, np.float32), np.full((33, 47, 3), 0.5, np.float32)
    with ServedInterpolator(FakeClient()) as interpolator:
        assert not interpolator.keeps_depth
        found = interpolator.interpolate(a, b, 0.5)
    assert found.dtype == np.float32
    assert np.allclose(found, 0.375, atol=1 / 255)


SHAPE = "unexpected shape for input 'img0' for model 'interpolator'. Expected [{}3,96,160], got [{}3,64,96]"


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (np.zeros((32, 64, 3), np.uint8), UnavailableError, "not-a-frame"),
        (np.zeros((30, 32, 3), np.float32), UnavailableError, "not-a-frame"),
        (RequestError(SHAPE.format("", "")), RequestError, "size-not-taken"),
        (RequestError(SHAPE.format("-1,", "-1,")), RequestError, "size-not-taken"),
        (RequestError("no", code="server-refused"), RequestError, "server-refused"),
    ],
)
def test_other_answers_of_a_server(answer, error, code):
    with ServedInterpolator(FakeClient(answer=answer)) as interpolator, refused(code, error):
        interpolator.interpolate(BLACK, BLACK, 0.5)
