"""Textures and sequences: what is drawn is exact, the same at every call, and moves as was asked."""

import numpy as np
import pytest
import torch

from refine_export.data.moving_layers import Clip
from refine_export.data.random_layers import SequenceOptions, canvases_from_families, draw_sequences
from refine_export.data.textures import FAMILIES, HELD_OUT, SIDE, TRAINING, texture
from tests.support.drawn_clips import WARPED_DB, check_warped, warped_psnr_db


@pytest.fixture(scope="module")
def canvases():
    """One of each family: [P, S, S, 4], and where each begins."""
    return canvases_from_families(tuple(FAMILIES), count=len(FAMILIES), seed=5)


def drawn(canvases, *, motion_px, t, seed=0, count=4, size=(96, 128), **options) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    still = {"brightness": 0.0, "noise": 0.0} | options
    return draw_sequences(
        canvases,
        SequenceOptions(height=size[0], width=size[1], **still),
        torch.full((count,), float(motion_px)),
        torch.full((count,), float(t)),
        generator,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_texture_is_a_picture_and_the_same_again(family):
    """[512, 512, 4] in [0, 1], with contrast; equal for equal seeds, other for others."""
    first, again, other = (texture(family, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.shape == (SIDE, SIDE, 4)
    assert first.dtype == np.float32
    assert 0 <= first.min() < first.max() <= 1
    assert first[..., :3].std() > 0.03
    assert 0.02 < first[..., 3].mean() < 0.98
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_texture_wraps_around(family):
    """The step over the seam is no larger than the largest inside: its mean along the seam."""
    canvas = texture(family, np.random.default_rng(1))
    for axis in (0, 1):
        inside = abs(np.diff(canvas, axis=axis)).mean((1 - axis, 2)).max()
        seam = abs(canvas.take(0, axis) - canvas.take(-1, axis)).mean()
        assert seam < 1.3 * inside


def test_an_unknown_texture_is_refused():
    with pytest.raises(ValueError, match="no family 'lava'; give one of clouds, leaves"):
        texture("lava", np.random.default_rng(0))


def test_families_are_trained_on_or_held_out():
    assert sorted(TRAINING + HELD_OUT) == sorted(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("motion_px", "t"), [(3, 0.5), (8, 0.2), (24, 0.7)])
def test_the_flow_warps_both_frames_onto_the_frame_between(canvases, family, motion_px, t):
    """warp(img_k, flow_k) = frame to 40 dB where the point is seen in both: most of the frame with one moving layer."""
    own = canvases[list(FAMILIES).index(family)][None]
    check_warped(drawn(own, motion_px=motion_px, t=t, layers=2), least_seen=0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_warp_leaves_is_resampling(canvases, family):
    """With smooth colours it is exact to 50 dB, two layers above the ground; the soft outlines of bands hide much."""
    own = canvases[list(FAMILIES).index(family)][None]
    colour = own[..., :3]
    for axis in (1, 2) * 4:
        colour = (colour.roll(1, axis) + 2 * colour + colour.roll(-1, axis)) / 4
    smooth = torch.cat((colour, own[..., 3:]), -1)
    check_warped(drawn(smooth, motion_px=24, t=0.7), least_seen=0.2, least_psnr_db=50)


def test_the_gate_refuses_wrong_flows(canvases):
    """Negated, left out, a fifth too short, or across occlusions: below 40 dB."""
    clip = drawn(canvases, motion_px=8, t=0.5)
    for wrong in (-1, 0, 0.8):
        assert warped_psnr_db(clip, 0, wrong) < WARPED_DB
    assert warped_psnr_db(clip, 0, where=~clip.visible()[:, 0]) < 30


@pytest.mark.parametrize("motion_px", [0, 2, 16])
def test_nothing_moves_further_than_asked(canvases, motion_px):
    """|flow_1 - flow_0| <= motion_px, and something comes near it."""
    clip = drawn(canvases, motion_px=motion_px, t=0.3, count=8)
    moved = (clip.flow[:, 2:] - clip.flow[:, :2]).norm(dim=1)
    assert moved.max() <= motion_px + 1e-4
    assert moved.max() >= 0.7 * motion_px


def test_without_motion_all_frames_are_one(canvases):
    clip = drawn(canvases, motion_px=0, t=0.4)
    assert torch.allclose(clip.img0, clip.frame, atol=1e-5)
    assert torch.allclose(clip.img1, clip.frame, atol=1e-5)


def test_flows_to_both_frames_are_one_velocity(canvases):
    """flow_0 / -t = flow_1 / (1 - t)."""
    clip = drawn(canvases, motion_px=6, t=0.2)
    assert torch.allclose(clip.flow[:, :2] / -0.2, clip.flow[:, 2:] / 0.8, atol=1e-5)


def test_a_seed_decides_the_clip(canvases):
    first, again, other = (drawn(canvases, motion_px=5, t=0.5, seed=seed, noise=0.01) for seed in (1, 1, 2))
    assert torch.equal(first.img0, again.img0)
    assert not torch.equal(first.img0, other.img0)


def test_brightness_and_noise_change_the_frames(canvases):
    """The light changes evenly; frames 0 and 1 are noisy, the frame between is not."""
    plain, lit, noisy = (drawn(canvases, motion_px=0, t=0.5, **o) for o in ({}, {"brightness": 0.3}, {"noise": 0.1}))
    assert torch.allclose(lit.frame, plain.frame, atol=1e-5)
    assert (lit.img0 - plain.img0).abs().mean() > 0.003
    assert torch.equal(noisy.frame, plain.frame)
    assert (noisy.img1 - plain.img1).abs().mean() > 0.003


@pytest.mark.parametrize("wrong", [{"height": 1}, {"layers": 0}, {"brightness": 1.0}, {"noise": -0.1}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match="give at least|have to be"):
        SequenceOptions(**wrong)
