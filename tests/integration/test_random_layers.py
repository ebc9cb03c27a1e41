"""The clips that the demo weights are trained on: exact, the same at every call, moving as far as asked."""

import numpy as np
import pytest
import torch
from flow_truth import DrawnClip
from random_layers import SequenceOptions, canvases_from_families, draw_sequences
from textures import FAMILIES, HELD_OUT, SIDE, TRAINING, texture

from tests.support.drawn_clips import WARPED_DB, check_warped, warped_psnr_db

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def canvases():
    """One of each family: [P, S, S, 4]."""
    return canvases_from_families(tuple(FAMILIES), count=len(FAMILIES), seed=5)


def drawn(canvases, *, motion_px, t, seed=0, count=4, size=(96, 128), **options) -> DrawnClip:
    return draw_sequences(
        canvases,
        SequenceOptions(height=size[0], width=size[1], **({"brightness": 0.0, "noise": 0.0} | options)),
        torch.full((count,), float(motion_px)),
        torch.full((count,), float(t)),
        torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_texture_is_a_picture_that_wraps_around(family):
    """[512, 512, 4] in [0, 1], with contrast; the mean step over a seam is no larger than the largest inside."""
    canvas, again, other = (texture(family, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (canvas.shape, canvas.dtype) == ((SIDE, SIDE, 4), np.float32)
    assert 0 <= canvas.min() < canvas.max() <= 1
    assert canvas[..., :3].std() > 0.03
    assert 0.02 < canvas[..., 3].mean() < 0.98
    assert np.array_equal(canvas, again)
    assert not np.array_equal(canvas, other)
    for axis in (0, 1):
        inside = abs(np.diff(canvas, axis=axis)).mean((1 - axis, 2)).max()
        assert abs(canvas.take(0, axis) - canvas.take(-1, axis)).mean() < 1.3 * inside


def test_families_are_trained_on_or_held_out():
    assert sorted(TRAINING + HELD_OUT) == sorted(FAMILIES)
    with pytest.raises(ValueError, match="lava"):
        texture("lava", np.random.default_rng(0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("motion_px", "t"), [(3, 0.5), (24, 0.7)])
def test_the_flow_warps_both_frames_onto_the_frame_between(canvases, family, motion_px, t):
    """warp(img_k, flow_k) = frame to 40 dB where the point is visible in both."""
    own = canvases[list(FAMILIES).index(family)][None]
    check_warped(drawn(own, motion_px=motion_px, t=t, layers=2), least_seen=0.5)


def test_wrong_flows_are_refused(canvases):
    """Negated, left out, a fifth too short, or across occlusions: below 40 dB."""
    clip = drawn(canvases, motion_px=8, t=0.5)
    for wrong in (-1, 0, 0.8):
        assert warped_psnr_db(clip, 0, wrong) < WARPED_DB
    assert warped_psnr_db(clip, 0, where=~clip.visible()[:, 0]) < 30


@pytest.mark.parametrize("motion_px", [0, 16])
def test_the_largest_motion_is_the_one_asked_for(canvases, motion_px):
    clip = drawn(canvases, motion_px=motion_px, t=0.3, count=8)
    moved = (clip.flow[:, 2:] - clip.flow[:, :2]).norm(dim=1)
    assert 0.7 * motion_px <= moved.max() <= motion_px + 1e-4
    assert torch.allclose(clip.flow[:, :2] / -0.3, clip.flow[:, 2:] / 0.7, atol=1e-5)
    assert torch.allclose(clip.img0, clip.frame, atol=1e-5) == (motion_px == 0)


def test_brightness_and_noise_change_the_frames(canvases):
    """The light changes evenly; frames 0 and 1 are noisy, the frame between is not; the seed decides."""
    plain, lit, noisy = (drawn(canvases, motion_px=0, t=0.5, **o) for o in ({}, {"brightness": 0.3}, {"noise": 0.1}))
    assert torch.allclose(lit.frame, plain.frame, atol=1e-5)
    assert (lit.img0 - plain.img0).abs().mean() > 0.003
    assert torch.equal(noisy.frame, plain.frame)
    assert (noisy.img1 - plain.img1).abs().mean() > 0.003
    assert torch.equal(noisy.img0, drawn(canvases, motion_px=0, t=0.5, noise=0.1).img0)
