"""The sample frames agree with their own flow and visibility.

Legend: N = 1, C channels, H, W in pixels; flow is (x, y) in pixels.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from refine_export.scenes import Scene, SceneOptions
from rife.warplayer import warp

Array = NDArray[Any]
BORDER_PX = 3  # an anti-aliased edge is 2.4 pixels wide, and bilinear sampling reaches one pixel further
PSNR_DB = 40.0


def grown(mask: Array, by_px: int) -> Array:
    """A boolean [H, W], grown by a square."""
    pooled = torch.nn.functional.max_pool2d(torch.from_numpy(mask[None].astype(np.float32)), 2 * by_px + 1, 1, by_px)
    return pooled[0].numpy() > 0


def kept_pixels(scene: Scene, t: float, to: float) -> Array:
    """visible(t, to), less BORDER_PX around what is not visible and around the borders of the layers, where a
    pixel mixes two layers that move apart: [H, W].
    """
    owner = scene._owner(t)
    border = np.zeros(owner.shape, bool)
    border[:-1] |= owner[:-1] != owner[1:]
    border[:, :-1] |= owner[:, :-1] != owner[:, 1:]
    return ~grown(border | ~scene.visible(t, to)[0, 0], BORDER_PX)


def warped_psnr_db(scene: Scene, t: float, to: float, flow: Array, where: Array) -> float:
    """PSNR of warp(frame(to), flow) against frame(t)."""
    warped = warp(torch.from_numpy(scene.frame(to)), torch.from_numpy(flow)).numpy()
    error = (warped - scene.frame(t))[0][:, where]
    return float(-10 * np.log10(np.mean(error**2)))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SceneOptions())


@pytest.mark.parametrize(("t", "to"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.0), (0.5, 1.0)])
def test_flow_warps_one_frame_onto_the_other(scene: Scene, t: float, to: float) -> None:
    """warp(frame(to), flow(t, to)) = frame(t) to 40 dB, on at least 70 % of the frame.

    Left out are the pixels that are not visible at `to`, and 3 pixels around them and around layer borders.
    """
    where = kept_pixels(scene, t, to)
    assert where.mean() >= 0.70
    assert warped_psnr_db(scene, t, to, scene.flow(t, to), where) >= PSNR_DB


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
    scene = Scene(options)
    where = kept_pixels(scene, 0.5, 1.0)
    assert where.mean() >= 0.60
    assert warped_psnr_db(scene, 0.5, 1.0, scene.flow(0.5, 1.0), where) >= PSNR_DB


@pytest.mark.parametrize("wrong", [-1.0, 0.0, 0.8])
def test_a_wrong_flow_fails(scene: Scene, wrong: float) -> None:
    """The 40 dB gate refuses the flow negated, left out, and a fifth too short."""
    where = kept_pixels(scene, 0.0, 1.0)
    flow = scene.flow(0.0, 1.0) * np.float32(wrong)
    assert warped_psnr_db(scene, 0.0, 1.0, flow, where) < PSNR_DB


def test_visibility_is_needed(scene: Scene) -> None:
    """Where visible(0, 1) is False, the warped frame is not frame(0): below 25 dB."""
    hidden = ~scene.visible(0.0, 1.0)[0, 0]
    assert 0.01 < hidden.mean() < 0.2
    assert warped_psnr_db(scene, 0.0, 1.0, scene.flow(0.0, 1.0), hidden) < 25.0


def test_flow_there_and_back(scene: Scene) -> None:
    """flow(0, 1)(p) + flow(1, 0)(p + flow(0, 1)(p)) = 0 to 0.05 pixel on the kept pixels."""
    there, back = scene.flow(0.0, 1.0), scene.flow(1.0, 0.0)
    loop = there + warp(torch.from_numpy(back), torch.from_numpy(there)).numpy()
    assert np.abs(loop[0][:, kept_pixels(scene, 0.0, 1.0)]).max() < 0.05


def test_no_time_no_motion(scene: Scene) -> None:
    """flow(t, t) = 0, visible(t, t) = True, and motion_px = 0 gives one frame for all times."""
    assert not scene.flow(0.3, 0.3).any()
    assert scene.visible(0.3, 0.3).all()
    still = Scene(SceneOptions(height=64, width=112, motion_px=0.0))
    assert not still.flow(0.0, 1.0).any()
    np.testing.assert_array_equal(still.frame(0.0), still.frame(1.0))


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("height", "width", "motion_px"), [(256, 448, 12.0), (256, 448, 64.0), (128, 128, 32.0), (360, 200, 5.0)]
)
def test_largest_displacement(height: int, width: int, motion_px: float, seed: int) -> None:
    """The largest |flow(0, 1)| = motion_px to 10 %."""
    flow = Scene(SceneOptions(height=height, width=width, motion_px=motion_px, seed=seed)).flow(0.0, 1.0)
    assert np.hypot(flow[0, 0], flow[0, 1]).max() == pytest.approx(motion_px, rel=0.10)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 90), (90, 17), (65, 113)])
def test_types_and_shapes(height: int, width: int) -> None:
    """Any size from 16 pixels: float32 frames in [0, 1] and flows, bool visibility, all finite."""
    scene = Scene(SceneOptions(height=height, width=width, motion_px=64.0))
    frame, flow, visible = scene.frame(1.0), scene.flow(0.0, 1.0), scene.visible(0.0, 1.0)
    assert (frame.dtype, flow.dtype, visible.dtype) == (np.float32, np.float32, np.bool_)
    assert (frame.shape, flow.shape) == ((1, 3, height, width), (1, 2, height, width))
    assert visible.shape == (1, 1, height, width)
    assert frame.min() >= 0.0
    assert frame.max() <= 1.0
    assert np.isfinite(flow).all()


def test_same_options_same_bits(scene: Scene) -> None:
    """Two scenes of equal options are bit-identical; another seed is another picture."""
    again = Scene(SceneOptions())
    for t in (0.0, 0.5, 1.0):
        np.testing.assert_array_equal(scene.frame(t), again.frame(t))
    np.testing.assert_array_equal(scene.flow(0.0, 1.0), again.flow(0.0, 1.0))
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
    for call in (lambda: scene.frame(t), lambda: scene.flow(t, 0.0), lambda: scene.visible(0.0, t)):
        with pytest.raises(ValueError, match="the time is"):
            call()
