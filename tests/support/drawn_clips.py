"""Checks that drawn frames agree with their own flow and visibility."""

import math

import torch
from torch import Tensor

from refine_export.data.sample_scene import Scene
from rife.warplayer import warp
from tests.support.flow_truth import DrawnClip, clip_from_rendered

WARPED_DB = 40.0  # what bilinear sampling leaves


def clip_of(scene: Scene, t: float) -> DrawnClip:
    """Draw the scene at 0, t and 1."""
    return clip_from_rendered([scene.rendered(time) for time in (0.0, t, 1.0)], torch.tensor([t]))


def psnr_db(a: Tensor, b: Tensor, where: Tensor) -> float:
    """Of images [N, C, H, W] with peak 1, at pixels [N, H, W]."""
    return -10 * math.log10(max((a - b).square().mean(1)[where].mean().item(), 1e-12))


def warped_psnr_db(clip: DrawnClip, side: int, factor: float = 1.0, *, where: Tensor | None = None) -> float:
    """PSNR of frame 0 (1), warped by `factor` times the flow, against frame t; where that is visible, or `where`."""
    seen = clip.visible()[:, side] if where is None else where
    image, flow = (clip.img0, clip.img1)[side], clip.flow[:, 2 * side : 2 * side + 2]
    return psnr_db(warp(image, factor * flow), clip.frame, seen)


def check_warped(clip: DrawnClip, *, least_seen: float, least_psnr_db: float = WARPED_DB) -> None:
    """Both frames, warped, are frame t, on a part of the frame at least."""
    for side in (0, 1):
        assert clip.visible()[:, side].float().mean() > least_seen
        assert warped_psnr_db(clip, side) >= least_psnr_db
