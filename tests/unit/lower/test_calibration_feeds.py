"""Feeds of a size, feeds made for inputs, and feeds of the user."""

from __future__ import annotations

import numpy as np
import pytest

from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.lower import calibration_feeds
from refine_export.lower.calibration_feeds import Calibration, feeds_for_inputs
from refine_export.signature import TensorInfo
from tests.support.foreign import CONV, SAMPLE, foreign_model, grid_input_model, kernel, model_of
from tests.support.lower_files import here_fixture, refused_fixture, run_fixture, saved, tiny  # noqa: F401 (fixtures)

STILL = "float[1,3,64,96] x, float[1,64,96,2] g"
PICTURE = "float[1,3,64,96] x"
WEIGHTS = f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)}"


def test_a_foreign_file_of_free_sizes_needs_one(refused, run):
    """What no size can tell needs feeds."""
    path = saved(foreign_model())
    assert refused(path, code="needs-size").fields["tensor"] == "img0"
    run(path, size=(64, 96))
    refused(grid_input_model(), "new.onnx", size=(64, 96), code="needs-feeds")


@pytest.mark.parametrize("sides", ["1,3,0,96", "1,3,64,40000", "N,C,64,96"])
def test_shapes_that_no_feed_can_be_made_for(refused, sides):
    channels = ",".join(sides.split(",")[:2])
    inputs = f"float[{sides}] x, float[1,64,96,2] g"
    assert refused(model_of(f"y = {SAMPLE} (x, g)", inputs, f"float[{channels},64,96] y"), code="needs-feeds")


def test_inputs_of_several_sizes_and_a_scalar(run):
    """A grid, a number, and a picture that is wider and lower than the other get feeds of their own shape."""
    body = f"m = Mul (x, timestep) a = {SAMPLE} (m, g) b = GlobalAveragePool (z) y = Add (a, b)"
    model = model_of(body, f"{STILL}, float[1,3,32,128] z, float timestep", "float[1,3,64,96] y")
    del model.graph.input[3].type.tensor_type.shape.dim[:]
    model.graph.input[3].type.tensor_type.shape.SetInParent()
    assert run(model).types


def test_a_flow_gets_a_flow(run):
    """Two channels called a flow, one called a timestep, six channels, and noise for anything else."""
    body = f"t = Transpose <perm = [0,2,3,1]> (flow) s = {SAMPLE} (pair, t) a = Mul (s, time) y = Mul (a, other)"
    inputs = "float[1,6,64,96] pair, float[1,2,64,96] flow, float[1,1,64,96] time, float[1,1,64,96] other"
    assert run(model_of(body, inputs, "float[1,6,64,96] y")).types == {"float32": 4}


def test_integers_need_feeds(refused):
    """Whole numbers can mean anything."""
    body = f"h = Cast <to = 1> (n) b = Mul (x, h) y = {SAMPLE} (b, g)"
    model = model_of(body, f"{STILL}, int64[1] n", "float[1,3,64,96] y")
    assert refused(model, code="needs-feeds").fields["tensor"] == "n"


def test_a_batch_is_calibrated_as_one(run, exports):
    """Our own static file of two pairs a call is fed two pairs."""
    assert run(exports.fp32("contextnet", size="64x64", batch=2)).psnr_db > 40


def feed(name: str, x: np.ndarray) -> str:
    np.savez(name, x=x, g=np.zeros((1, 16, 24, 2), np.float32))
    return name


def test_feeds_of_the_user(run, here):
    """Several files, of other number types, calibrate together: the largest values of any decide."""
    path, image = saved(tiny()), np.random.default_rng(0).random((1, 3, 16, 24))
    first, second = feed("first.npz", image), feed("second.npz", (image * 6e4).astype(np.float16))
    assert "range" not in {node.rule for node in run(path, feeds=[first]).nodes}
    assert "range" in {node.rule for node in run(path, "both.onnx", feeds=[first, second]).nodes}


def test_feeds_that_do_not_fit_are_refused(refused, here):
    refused(tiny(), feeds=["absent.npz"], code="not-found")
    overflow = np.full((1, 3, 16, 24), 1e300)
    refused(tiny(), feeds=[feed("feed.npz", overflow)], code="not-finite")
    body = f"{WEIGHTS} a = {CONV} (x, w) s = {SAMPLE} (a, g) y = {CONV} (s, v)"
    with np.errstate(all="ignore"):
        refused(model_of(body), feeds=[feed("feed.npz", np.zeros((3, 16, 24)))], code="wrong-shape")


def test_inputs_of_fewer_dimensions_get_noise(run):
    """Tokens that are all alike would hide everything; a number of each picture in a batch stays a timestep."""
    body = "h = MatMul (tokens, w) y = Add (h, time)"
    inputs = "float[1,64,3] tokens, float[1] time"
    made = run(model_of(body, inputs, "float[1,64,3] y", w=np.eye(3, dtype=np.float32)), without_warp=True)
    assert made.fed["time"] == (0.5, 0.5)
    assert made.fed["tokens"][0] < 0.1 < 0.9 < made.fed["tokens"][1]


@pytest.mark.parametrize("channels", [7, 8, 11])
def test_frames_in_one_input_with_what_follows_them(channels):
    """RIFE 4 for VapourSynth: two frames and a timestep; in older files also x, y and the steps of both."""
    info = TensorInfo(name="input", dtype="float32", shape=(1, channels, 64, 96))
    source = source_from_options(FramesOptions(), SceneOptions(height=64, width=96))
    [(_, arrays)] = feeds_for_inputs([info], source, None)
    planes = arrays["input"][0]
    assert np.array_equal(planes[:3], source.pair.img0[0])
    assert np.array_equal(planes[3:6], source.pair.img1[0])
    assert (planes[6] == 0.5).all()
    if channels == 11:
        assert planes[7, 0, [0, -1]].tolist() == planes[8, [0, -1], 0].tolist() == [-1, 1]
        assert np.allclose([planes[9, 0, 0], planes[10, 0, 0]], [2 / 95, 2 / 63])


@pytest.mark.parametrize(
    "first",
    ["a = Div (x, k)", "a = Mul (k, x)", "t = Transpose <perm = [0,2,3,1]> (x) u = Sub (t, k) a = Reshape (u, s)"],
)
def test_a_graph_for_bytes_is_noted(run, first):
    """What is divided by 255 or loses a mean above 1 was not meant for values to 1; fed to 255 it is."""
    k = np.float32([1 / 255 if "Mul" in first else 255])
    model = model_of(
        f"{WEIGHTS} {first} y = {CONV} (a, w)", PICTURE, "float[1,3,64,96] y", k=k, s=np.int64([1, 3, 64, 96])
    )
    made = run(model, without_warp=True)
    assert made.fed["x"][1] <= 1
    assert made.notes[-1].startswith("input x was fed")
    np.savez("bytes.npz", x=np.full((1, 3, 64, 96), 200, np.float32))
    noted = run(model, "bytes.onnx", feeds=["bytes.npz"], without_warp=True).notes
    assert not [note for note in noted if note.startswith("input")]


def test_black_pictures_are_measured(run):
    """A quotient whose divisor is zero but for a constant: textured pictures alone do not show it."""
    quotient = "n = ReduceL2 (c, one) e = Add (n, k) i = Reciprocal (e) d = Mul (c, i)"
    body = f"{WEIGHTS} c = {CONV} (x, w) {quotient} y = {CONV} (d, v)"
    model = model_of(body, PICTURE, "float[1,3,64,96] y", k=np.float32([1e-6]), one=np.int64([1]))
    assert run(model, without_warp=True).psnr_db > 50


def test_fp32_that_fails_on_black_is_noted(run):
    """0 / 0 is the graph's own fault: its other feeds still calibrate it."""
    body = f"{WEIGHTS} c = {CONV} (x, w) d = Div (c, c) y = {CONV} (d, v)"
    made = run(model_of(body, PICTURE, "float[1,3,64,96] y"), without_warp=True)
    assert len(made.notes) == 1


def test_random_numbers_stay_fp32(run):
    """FP16 and FP32 draw the same ones in the comparison, and the file gets no seed."""
    for draw in ("n = RandomNormalLike (c)", "n = RandomUniformLike (c)", "n = Dropout (c, ratio, yes)"):
        body = f"{WEIGHTS} c = {CONV} (x, w) {draw} y = {CONV} (n, v)"
        constants = {"ratio": np.array(0.5, np.float32), "yes": np.array(True)}
        model = model_of(body, PICTURE, "float[1,3,64,96] y", **constants)
        made = run(model, without_warp=True, force=True)
        [node] = [node for node in made.nodes if node.node == "n" or draw.split()[2] == node.operator]
        assert (node.type, made.types["float16"]) == ("float32", 2)
        assert made.psnr_db > 60, draw


def test_ranges_of_large_frames_are_measured_on_a_part(monkeypatch):
    monkeypatch.setattr(calibration_feeds, "LARGEST_CALIBRATION", 100)
    source = source_from_options(FramesOptions(sample="scene"), SceneOptions(height=80, width=300))
    image = TensorInfo(name="img0", dtype="float32", shape=("N", 3, "H", "W"))

    def size(**given):
        calibration = Calibration(source=lambda: source, checkpoint=lambda: None, **given)
        return calibration_feeds._batch_and_size(image, calibration, 32)

    assert size() == (1, (96, 96))
    assert size(size=(96, 320)) == (1, (96, 320))
