"""The sample frames move as their layers do, at any size, and are the same on every call."""

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from refine_export.data.frame_options import SceneOptions
from refine_export.data.sample_scene import Scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SceneOptions())


def speed_px(scene, layer, points):
    """The displacement of points from t = 0 to 1, in pixels."""
    return (layer.drift + layer.rate * (points - layer.centre)) * scene.unit_px


@pytest.mark.parametrize("options", [SceneOptions(), SceneOptions(height=160, width=128, motion_px=32.0, seed=2)])
def test_points_keep_their_colour_while_they_move(options):
    """Of the ball, which nothing covers: within interpolation of each other in all frames, and not where they stand."""
    scene = Scene(options)
    ball = scene.layers[-1]
    points = ball.centre + ball.size * 0.6 * np.exp(1j * np.linspace(0, 6, 40)) * np.linspace(0.1, 1, 40)
    height, width = options.height, options.width

    def colours(t, ahead):
        place = points * scene.unit_px + ahead * speed_px(scene, ball, points)
        grid = np.stack((2 * place.real / (width - 1), 2 * place.imag / (height - 1)), axis=-1)[None, None]
        sampled = grid_sample(torch.from_numpy(scene.frame(t)), torch.from_numpy(grid).float(), align_corners=True)
        return sampled[0, :, 0].numpy()

    middle = colours(0.5, 0)
    for t in (0.0, 0.3, 1.0):
        assert 3 * np.abs(colours(t, t - 0.5) - middle).mean() < np.abs(colours(t, 0) - middle).mean()
        for layer in scene.layers:
            here = points + (t - 0.5) * speed_px(scene, layer, points) / scene.unit_px
            np.testing.assert_allclose(layer.before(here, t - 0.5), points, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("height", "width", "motion_px"), [(256, 448, 12.0), (128, 128, 64.0), (180, 100, 5.0)])
def test_the_largest_displacement_is_that_of_the_options(height, width, motion_px, seed):
    """On the rim of one of the shapes; the first layer fills the frame."""
    scene = Scene(SceneOptions(height=height, width=width, motion_px=motion_px, seed=seed))
    rim = np.exp(1j * np.linspace(0, 2 * np.pi, 100))
    reach = [np.hypot(height, width) / scene.unit_px / 2, *(layer.size for layer in scene.layers[1:])]
    speeds = [
        np.abs(speed_px(scene, layer, layer.centre + size * rim)).max()
        for layer, size in zip(scene.layers, reach, strict=True)
    ]
    assert max(speeds) == pytest.approx(motion_px, rel=0.01)


def test_without_motion_all_frames_are_one():
    still = Scene(SceneOptions(height=64, width=112, motion_px=0.0))
    np.testing.assert_array_equal(still.frame(0.0), still.frame(1.0))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (90, 17)])
def test_any_size_from_16_pixels(height, width):
    frame = Scene(SceneOptions(height=height, width=width, motion_px=64.0)).frame(1.0)
    assert (frame.dtype, frame.shape) == (np.float32, (1, 3, height, width))
    assert 0 <= frame.min() <= frame.max() <= 1


def test_same_options_same_bits(scene):
    np.testing.assert_array_equal(scene.frame(0.5), Scene(SceneOptions()).frame(0.5))
    assert np.abs(scene.frame(0.5) - Scene(SceneOptions(seed=1)).frame(0.5)).mean() > 0.01


def test_full_colour_and_textured(scene):
    """The channels differ, the whole varies, and so do most blocks of 16 pixels."""
    frame = scene.frame(0.5)[0]
    for one, other in ((0, 1), (1, 2), (2, 0)):
        assert np.abs(frame[one] - frame[other]).mean() > 0.05
    assert frame.std(axis=(1, 2)).min() > 0.15
    blocks = frame.reshape(3, 16, 16, 28, 16).std(axis=(2, 4)).max(axis=0)
    assert np.quantile(blocks, 0.05) > 0.01


@pytest.mark.parametrize(
    ("name", "value"),
    [("height", 15), ("width", 16385), ("motion_px", 64.5), ("motion_px", float("nan")), ("seed", -1)],
)
def test_options_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value!r}"):
        SceneOptions(**{name: value})


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_times_out_of_range(scene, t):
    with pytest.raises(ValueError, match="the time is"):
        scene.frame(t)
