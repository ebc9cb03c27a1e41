"""Frames in memory: their kind, their order, how many are held."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import refine_export as rx
from refine_export.errors import FrameError, RequestError
from tests.support.deploy_files import write_average
from tests.support.refusals import refused


@pytest.fixture
def network(tmp_path):
    write_average(tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def flat(level, shape=(32, 40, 3), dtype=np.uint8):
    return np.full(shape, level, dtype)


def test_24_become_60_in_order_and_the_last_is_held(network):
    frames = [flat(20 * number) for number in range(8)]
    made = list(rx.interpolate_frames(frames, 24, 60, file=network, scene_cut=None))
    assert [int(frame[0, 0, 0]) for frame in made] == [min(8 * k, 140) for k in range(20)]
    assert made[0] is frames[0]
    assert made[5] is frames[2]


def test_a_wrong_similarity_is_refused(network):
    with refused("wrong-option", RequestError):
        rx.interpolate_frames([flat(0), flat(8)], 24, 48, file=network, scene_cut=2)


def test_pairs_are_computed_one_at_a_time(network):
    with refused("options-do-not-fit", RequestError):
        rx.interpolate_frames([flat(0), flat(8)], 24, 48, file=network, concurrency=2)


@pytest.mark.parametrize(
    "frame",
    [
        lambda level: flat(level),
        lambda level: flat(level / 256, (3, 32, 40), np.float32),
        lambda level: flat(level / 256, (32, 40, 3), np.float64),
        lambda level: torch.full((3, 32, 40), level / 256),
        lambda level: torch.full((3, 32, 40), level, dtype=torch.uint8),
        lambda level: torch.full((3, 32, 40), level / 256, dtype=torch.float16),
        lambda level: torch.full((3, 32, 40), level / 256, dtype=torch.bfloat16),
    ],
)
def test_frames_between_are_of_the_same_kind(network, frame):
    a, b = frame(64), frame(96)
    _, between, *_ = rx.interpolate_frames([a, b], 8, 16, file=network)
    assert (type(between), between.dtype, between.shape) == (type(a), a.dtype, a.shape)
    assert float(between[0, 0, 0]) == pytest.approx((float(a[0, 0, 0]) + float(b[0, 0, 0])) / 2, abs=1e-3)


def test_no_more_than_two_frames_are_read_ahead(network):
    read = []

    def frames():
        for number in range(100):
            read.append(number)
            yield flat(number)

    made = rx.interpolate_frames(frames(), Fraction(24000, 1001), 59.94, file=network, scene_cut=None)
    assert read == []
    for _ in range(10):
        next(made)
    assert len(read) <= 6
    assert len(list(made)) == 240


def test_nothing_and_one_frame(network):
    assert list(rx.interpolate_frames([], 24, 48, file=network)) == []
    assert len(list(rx.interpolate_frames([flat(1)], 24, 48, file=network))) == 2


@pytest.mark.parametrize(
    ("fps", "frames", "code"),
    [
        ((24, 23), [], "fps-below-source"),
        ((0, 23), [], "wrong-option"),
        ((1e-9, 23), [], "wrong-option"),
        ((float("nan"), 23), [], "wrong-option"),
        ((24, float("inf")), [], "wrong-option"),
        ((24, 10**400), [], "wrong-option"),
        ((24, 48), [flat(1, (32, 40))], "not-a-frame"),
        ((24, 48), [flat(1, (32, 40, 3), np.int32)], "not-a-frame"),
        ((24, 48), [flat(np.nan, dtype=np.float32)], "not-a-frame"),
        ((24, 48), [flat(255, dtype=np.float32)], "not-a-frame"),
        ((24, 48), [flat(1, (0, 40, 3))], "not-a-frame"),
        ((24, 48), [[[1], [1, 2]]], "not-a-frame"),
        ((24, 48), [flat(1), flat(1, (32, 32, 3))], "frame-sizes-differ"),
    ],
)
def test_wrong_rates_and_frames_are_refused(network, fps, frames, code):
    with refused(code, FrameError if frames else RequestError):
        list(rx.interpolate_frames(frames, *fps, file=network, scene_cut=None))
