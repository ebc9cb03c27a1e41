"""The sample frames agree with their own flow and visibility.

Legend: N = 1, C channels, H, W in pixels; flow is (x, y) in pixels.
"""

from typing import Any

import numpy as np
import pytest
import torch

from refine_export.data.frame_options import SceneOptions
from refine_export.data.moving_layers import pixel_places, points_at
from refine_export.data.sample_scene import Scene
from rife.warplayer import warp
from tests.support.drawn_clips import WARPED_DB, check_warped, warped_psnr_db


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SceneOptions())


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_flow_warps_frames_0_and_1_onto_the_frame_between(scene: Scene, t: float) -> None:
    """warp(img_k, flow_k) = frame to 40 dB where the point is seen in both, most of the frame."""
    check_warped(scene.clip(t), least_seen=0.8)


@pytest.mark.parametrize(
    "options",
    [
        SceneOptions(height=256, width=448, motion_px=48.0, seed=1),
        SceneOptions(height=320, width=256, motion_px=20.0, seed=2),
        SceneOptions(height=270, width=480, motion_px=6.0, seed=3),
    ],
)
def test_flow_is_true_for_other_options(options: SceneOptions) -> None:
    """The same to 40 dB for other sizes, motions and seeds; large motion hides more, so 60 % of the frame."""
    check_warped(Scene(options).clip(0.5), least_seen=0.6)


@pytest.mark.parametrize("wrong", [-1.0, 0.0, 0.8])
def test_a_wrong_flow_fails(scene: Scene, wrong: float) -> None:
    """The 40 dB gate refuses the flow negated, left out, and a fifth too short."""
    assert warped_psnr_db(scene.clip(0.0), 1, wrong) < WARPED_DB


def test_visibility_is_needed(scene: Scene) -> None:
    """Where a pixel of frame 0 is not seen in frame 1, the warped frame is not frame 0: below 25 dB."""
    clip = scene.clip(0.0)
    hidden = ~clip.visible()[:, 1]
    assert 0.01 < hidden.float().mean() < 0.2
    assert warped_psnr_db(clip, 1, where=hidden) < 25.0


def test_flow_there_and_back(scene: Scene) -> None:
    """flow(0, 1)(p) + flow(1, 0)(p + flow(0, 1)(p)) = 0 to 0.05 pixel where the point is seen in both."""
    start, end = scene.clip(0.0), scene.clip(1.0)
    there, back = start.flow[:, 2:], end.flow[:, :2]
    loop = (there + warp(back, there)).abs().amax(1)
    assert loop[start.visible()[:, 1]].max() < 0.05


def test_no_time_no_motion(scene: Scene) -> None:
    """From t = 0 to 0 the flow is 0, and all that is not mixed is seen."""
    clip = scene.clip(0.0)
    assert not clip.flow[:, :2].any()
    assert torch.equal(clip.visible()[:, 0], clip.owners[:, 1] >= 0)


def test_points_are_found_where_they_are() -> None:
    """P + (s - r) * v(p) = x to 0.02 pixel at the largest motion: the gradient of v lets the iteration converge."""
    scene = Scene(SceneOptions(height=128, width=128, motion_px=64.0))
    pixels = pixel_places(1, 128, 128)
    for layer in range(scene._beach.count):
        for ahead in (-0.5, 0.5):
            points = points_at(scene._beach, layer, pixels, torch.tensor([ahead]))
            there = points + ahead * scene._beach.velocity(layer, points)
            assert (there - pixels).abs().max() < 0.02


def test_without_motion_all_frames_are_one() -> None:
    still = Scene(SceneOptions(height=64, width=112, motion_px=0.0))
    assert not still.clip(0.3).flow.any()
    np.testing.assert_array_equal(still.frame(0.0), still.frame(1.0))


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("height", "width", "motion_px"), [(256, 448, 12.0), (256, 448, 64.0), (128, 128, 32.0), (360, 200, 5.0)]
)
def test_largest_displacement(height: int, width: int, motion_px: float, seed: int) -> None:
    """The largest displacement from frame 0 to frame 1 = motion_px to 10 %."""
    flow = Scene(SceneOptions(height=height, width=width, motion_px=motion_px, seed=seed)).clip(0.0).flow
    assert flow[:, 2:].norm(dim=1).max().item() == pytest.approx(motion_px, rel=0.10)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 90), (90, 17), (65, 113)])
def test_types_and_shapes(height: int, width: int) -> None:
    """Any size from 16 pixels: FP32 frames in [0, 1] and flows, all finite."""
    scene = Scene(SceneOptions(height=height, width=width, motion_px=64.0))
    frame, clip = scene.frame(1.0), scene.clip(0.5)
    assert (frame.dtype, clip.flow.dtype) == (np.float32, torch.float32)
    assert (frame.shape, clip.flow.shape) == ((1, 3, height, width), (1, 4, height, width))
    assert clip.owners.shape == (1, 3, height, width)
    assert clip.visible().shape == (1, 2, height, width)
    assert clip.visible().dtype == torch.bool
    assert frame.min() >= 0.0
    assert frame.max() <= 1.0
    assert torch.isfinite(clip.flow).all()


def test_same_options_same_bits(scene: Scene) -> None:
    """Two scenes of equal options are bit-identical; another seed is another picture."""
    again = Scene(SceneOptions())
    for t in (0.0, 0.5, 1.0):
        np.testing.assert_array_equal(scene.frame(t), again.frame(t))
    assert torch.equal(scene.clip(0.2).flow, again.clip(0.2).flow)
    assert np.abs(scene.frame(0.5) - Scene(SceneOptions(seed=1)).frame(0.5)).mean() > 0.01


def test_full_colour_and_textured(scene: Scene) -> None:
    """The channels differ, the whole varies, and so do most blocks of 16 pixels."""
    frame = scene.frame(0.5)[0]
    for one, other in ((0, 1), (1, 2), (2, 0)):
        assert np.abs(frame[one] - frame[other]).mean() > 0.05
    assert frame.std(axis=(1, 2)).min() > 0.15
    blocks = frame.reshape(3, 16, 16, 28, 16).std(axis=(2, 4)).max(axis=0)
    assert np.quantile(blocks, 0.05) > 0.01


def test_equally_sharp_at_all_times(scene: Scene) -> None:
    """The mean gradient at t = 0, 0.5 and 1 is the same to 3 %: no frame is a resampled one."""
    sharpness = [np.abs(np.diff(scene.frame(t), axis=-1)).mean() for t in (0.0, 0.5, 1.0)]
    assert max(sharpness) < 1.03 * min(sharpness)


def test_same_picture_at_another_size(scene: Scene) -> None:
    """2 x 2 means of the picture at twice the size are the picture, to 33 dB (its finest detail is new)."""
    large = Scene(SceneOptions(height=512, width=896, motion_px=24.0)).frame(0.5)
    means = large.reshape(1, 3, 256, 2, 448, 2).mean(axis=(3, 5))
    assert -10 * np.log10(np.mean((means - scene.frame(0.5)) ** 2)) > 33.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("height", 15),
        ("width", 8),
        ("width", 64.0),
        ("height", True),
        ("motion_px", -1.0),
        ("motion_px", 64.5),
        ("motion_px", float("nan")),
        ("seed", -1),
        ("seed", 0.5),
    ],
)
def test_wrong_options_are_refused(name: str, value: Any) -> None:
    """The message names the field and what was given."""
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        SceneOptions(**{name: value})


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_wrong_times_are_refused(scene: Scene, t: float) -> None:
    for call in (lambda: scene.frame(t), lambda: scene.clip(t)):
        with pytest.raises(ValueError, match="the time is"):
            call()
