"""The ensemble's first and last model compute what `frames` does, for every size and every value."""

import functools

import numpy as np
import onnx
import onnxruntime
import pytest

from refine_export.data.images import FramePair, cropped, padded, uint8_from_frame
from refine_export.deploy.triton.frame_models import post_model, pre_model

TYPES = {"float": np.float32, "float16": np.float16}


@functools.cache
def session(content):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options)


def pre(frame0, frame1, timestep=0.25, image="float", time="float"):
    feeds = {"frame0": frame0, "frame1": frame1, "timestep": np.float32([timestep])}
    return session(pre_model(image, time, 32)).run(["img0", "img1", "time"], feeds)


def post(frame, frame0, image="float"):
    return session(post_model(image)).run(["picture"], {"frame": frame, "frame0": frame0})[0]


def pictures(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)]


def pair_of(frame0, frame1):
    """As a picture file is read."""
    arrays = [np.moveaxis(frame.astype(np.float32) / np.float32(255), -1, 0)[None] for frame in (frame0, frame1)]
    return FramePair("pair", *arrays)


@pytest.mark.parametrize("image", TYPES)
@pytest.mark.parametrize("size", [(1, 1), (32, 64), (33, 31), (90, 157)])
def test_pre_is_padded_bit_for_bit(size, image):
    frames = pictures(*size)
    expected = padded(pair_of(*frames), 32)
    img0, img1, time = pre(*frames, timestep=0.3, image=image, time=image)
    assert np.array_equal(img0, expected.img0.astype(TYPES[image]))
    assert np.array_equal(img1, expected.img1.astype(TYPES[image]))
    assert img0.dtype == img1.dtype == time.dtype == TYPES[image]
    assert time.shape == (1, 1, 1, 1)
    assert time.item() == TYPES[image](np.float32(0.3))


def test_a_timestep_has_a_type_of_its_own():
    """`lower --io fp16` leaves it FP32."""
    img0, _, time = pre(*pictures(3, 4), image="float16")
    assert (img0.dtype, time.dtype) == (np.float16, np.float32)


def test_without_a_timestep_there_is_none():
    model = onnx.load_from_string(pre_model("float", None, 64))
    assert [value.name for value in model.graph.input] == ["frame0", "frame1"]
    assert [value.name for value in model.graph.output] == ["img0", "img1"]


@pytest.mark.parametrize("other", [(4, 8, 3), (8, 4, 3)])
def test_pictures_of_two_sizes_are_refused(other):
    with pytest.raises(Exception, match="Concat"):
        pre(np.zeros((4, 4, 3), np.uint8), np.zeros(other, np.uint8))


@pytest.mark.parametrize("image", TYPES)
def test_post_is_cropped_and_rounded_to_one_level(image):
    size = (45, 77)
    frame = np.random.default_rng(1).uniform(-0.5, 1.5, (1, 3, 64, 96)).astype(TYPES[image])
    picture = post(frame, np.zeros((*size, 3), np.uint8), image)
    expected = uint8_from_frame(cropped(frame, size))
    assert picture.dtype == np.uint8
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).max() <= 1
    assert (picture != expected).mean() < 0.01  # halves alone


def test_every_level_comes_back():
    """post(pre(x)) = x."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    img0, _, _ = pre(levels, levels)
    assert np.array_equal(post(img0, levels), levels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_magenta_there_and_only_there(bad):
    frame = np.full((1, 3, 32, 32), 0.5, np.float32)
    frame[0, 1, 2, 3] = bad
    frame0 = np.zeros((5, 7, 3), np.uint8)
    picture = post(frame, frame0)
    assert np.array_equal(picture, uint8_from_frame(cropped(frame, (5, 7))))
    assert picture[2, 3].tolist() == [255, 0, 255]
    assert (picture == 128).all(axis=-1).sum() == 5 * 7 - 1


def test_old_servers_can_read_them_and_the_bytes_do_not_change():
    for make in (lambda: pre_model("float16", "float", 32), lambda: post_model("float16")):
        model = onnx.load_from_string(make())
        assert model.opset_import[0].version == 18
        assert model.ir_version == 9
        assert make() == make()
