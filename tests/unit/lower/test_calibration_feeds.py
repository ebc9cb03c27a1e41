"""Feeds of a size, feeds made for inputs, and feeds of the user."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.foreign import CONV, SAMPLE, foreign_model, grid_input_model, kernel, model_of
from tests.support.lower_files import here_fixture, refused_fixture, run_fixture, saved, tiny  # noqa: F401 (fixtures)

STILL = "float[1,3,64,96] x, float[1,64,96,2] g"
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
