"""The sample frames agree with their own flow and visibility.

Legend: N = 1, C channels, H, W in pixels; flow is (x, y) in pixels.
"""

import numpy as np
import pytest
import torch

from refine_export.data.frame_options import SceneOptions
from refine_export.data.moving_layers import pixel_places, points_at
from refine_export.data.sample_scene import Scene
from rife.warplayer import warp
from tests.support.drawn_clips import WARPED_DB, check_warped, clip_of, warped_psnr_db


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SceneOptions())


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_flow_warps_frames_0_and_1_onto_the_frame_between(scene, t):
    """warp(img_k, flow_k) = frame to 40 dB where the point is visible in both, most of the frame."""
    check_warped(clip_of(scene, t), least_seen=0.8)


@pytest.mark.parametrize(("height", "width", "motion_px", "seed"), [(256, 448, 48.0, 1), (160, 128, 10.0, 2)])
def test_flow_is_true_for_other_options(height, width, motion_px, seed):
    """Large motion hides more, so 60 % of the frame."""
    options = SceneOptions(height=height, width=width, motion_px=motion_px, seed=seed)
    check_warped(clip_of(Scene(options), 0.5), least_seen=0.6)


@pytest.mark.parametrize("wrong", [-1.0, 0.0, 0.8])
def test_a_wrong_flow_fails(scene, wrong):
    """The 40 dB gate refuses the flow negated, left out, and a fifth too short."""
    assert warped_psnr_db(clip_of(scene, 0.0), 1, wrong) < WARPED_DB


def test_visibility_is_needed(scene):
    """Where a pixel of frame 0 is hidden in frame 1, the warped frame is not frame 0: below 25 dB."""
    clip = clip_of(scene, 0.0)
    hidden = ~clip.visible()[:, 1]
    assert 0.01 < hidden.float().mean() < 0.2
    assert warped_psnr_db(clip, 1, where=hidden) < 25.0


def test_flow_there_and_back(scene):
    """flow(0, 1)(p) + flow(1, 0)(p + flow(0, 1)(p)) = 0 to 0.05 pixel where the point is visible in both."""
    start, end = clip_of(scene, 0.0), clip_of(scene, 1.0)
    there, back = start.flow[:, 2:], end.flow[:, :2]
    loop = (there + warp(back, there)).abs().amax(1)
    assert loop[start.visible()[:, 1]].max() < 0.05
    assert not start.flow[:, :2].any()


def test_points_are_found_where_they_are():
    """P + (s - r) * v(p) = x to 0.02 pixel at the largest motion: the gradient of v lets the iteration converge."""
    beach = Scene(SceneOptions(height=128, width=128, motion_px=64.0))._beach
    pixels = pixel_places(1, 128, 128)
    for layer in range(beach.count):
        for ahead in (-0.5, 0.5):
            points = points_at(beach, layer, pixels, torch.tensor([ahead]))
            assert (points + ahead * beach.velocity(layer, points) - pixels).abs().max() < 0.02


def test_without_motion_all_frames_are_one():
    still = Scene(SceneOptions(height=64, width=112, motion_px=0.0))
    assert not clip_of(still, 0.3).flow.any()
    np.testing.assert_array_equal(still.frame(0.0), still.frame(1.0))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("height", "width", "motion_px"), [(128, 224, 32.0), (128, 128, 32.0), (180, 100, 5.0)])
def test_largest_displacement(height, width, motion_px, seed):
    """The largest displacement from frame 0 to frame 1 = motion_px to 10 %."""
    flow = clip_of(Scene(SceneOptions(height=height, width=width, motion_px=motion_px, seed=seed)), 0.0).flow
    assert flow[:, 2:].norm(dim=1).max().item() == pytest.approx(motion_px, rel=0.10)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (90, 17)])
def test_types_and_shapes(height, width):
    """Any size from 16 pixels: FP32 frames in [0, 1] and flows, all finite."""
    scene = Scene(SceneOptions(height=height, width=width, motion_px=64.0))
    frame, clip = scene.frame(1.0), clip_of(scene, 0.5)
    assert (frame.dtype, clip.flow.dtype) == (np.float32, torch.float32)
    assert (frame.shape, clip.flow.shape) == ((1, 3, height, width), (1, 4, height, width))
    assert clip.owners.shape == (1, 3, height, width)
    assert (clip.visible().shape, clip.visible().dtype) == ((1, 2, height, width), torch.bool)
    assert 0 <= frame.min() <= frame.max() <= 1
    assert torch.isfinite(clip.flow).all()


def test_same_options_same_bits(scene):
    again = Scene(SceneOptions())
    np.testing.assert_array_equal(scene.frame(0.5), again.frame(0.5))
    assert torch.equal(clip_of(scene, 0.2).flow, clip_of(again, 0.2).flow)
    assert np.abs(scene.frame(0.5) - Scene(SceneOptions(seed=1)).frame(0.5)).mean() > 0.01


def test_full_colour_and_textured(scene):
    """The channels differ, the whole varies, and so do most blocks of 16 pixels."""
    frame = scene.frame(0.5)[0]
    for one, other in ((0, 1), (1, 2), (2, 0)):
        assert np.abs(frame[one] - frame[other]).mean() > 0.05
    assert frame.std(axis=(1, 2)).min() > 0.15
    blocks = frame.reshape(3, 16, 16, 28, 16).std(axis=(2, 4)).max(axis=0)
    assert np.quantile(blocks, 0.05) > 0.01


def test_equally_sharp_at_all_times(scene):
    """The mean gradient at t = 0, 0.5 and 1 is the same to 3 %: no frame is a resampled one."""
    sharpness = [np.abs(np.diff(scene.frame(t), axis=-1)).mean() for t in (0.0, 0.5, 1.0)]
    assert max(sharpness) < 1.03 * min(sharpness)


def test_same_picture_at_another_size(scene):
    """2 x 2 means of the picture at twice the size are the picture, to 33 dB (its finest detail is new)."""
    large = Scene(SceneOptions(height=512, width=896, motion_px=24.0)).frame(0.5)
    means = large.reshape(1, 3, 256, 2, 448, 2).mean(axis=(3, 5))
    assert -10 * np.log10(np.mean((means - scene.frame(0.5)) ** 2)) > 33.0


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
