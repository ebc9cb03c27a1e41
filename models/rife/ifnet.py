"""IFNet and IFNet_m: intermediate flow, blending and refinement (upstream: `model/IFNet.py`, `IFNet_m.py`)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from rife.refine import Contextnet, Unet, conv
from rife.warplayer import warp

SCALES = (4, 2, 1)


def padding(multiple_of: int, scale: float) -> int:
    """Return the multiple of the sides of frames at which a network's scales are divided by `scale`."""
    return round(multiple_of / min(scale, 1))


class IFBlock(nn.Module):
    """One step of the coarse-to-fine flow: computes at 1/scale, returns full size.

    Args:
        in_planes: channels of the input, the flow's four included where a flow is given.
        c: width of the block.
    """

    FIRST_STRIDE = 2
    """Stride of the first convolution in `conv0`; 1 in `IFNet_2R`, whose blocks work at twice the resolution."""

    def __init__(self, in_planes: int, c: int = 64) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(conv(in_planes, c // 2, 3, self.FIRST_STRIDE, 1), conv(c // 2, c, 3, 2, 1))
        self.convblock = nn.Sequential(*(conv(c, c) for _ in range(8)))
        self.lastconv = nn.ConvTranspose2d(c, 5, 4, 2, 1)

    def forward(self, x: Tensor, flow: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
        """Estimate the change of the flow and of the mask.

        Args:
            x: [N, in_planes (minus 4 with a flow), H, W]; H and W multiples of 4 * scale.
            flow: [N, 4, H, W] in pixels of the full-size frame, or None in the first block.
            scale: how many times smaller than the frame the block works.

        Returns:
            flow [N, 4, H, W] in pixels and mask logit [N, 1, H, W], both to be added to those of the step before.
        """
        x = resize(x, 1.0 / scale)
        if flow is not None:
            x = torch.cat((x, resize_flow(flow, 1.0 / scale)), 1)
        x = self.conv0(x)
        x = self.convblock(x) + x
        growth = scale * self.FIRST_STRIDE  # lastconv undoes one of the two strides; the rest is resized
        x = resize(self.lastconv(x), growth)
        return x[:, :4] * growth, x[:, 4:5]


class Interpolation(NamedTuple):
    """Output of a network for the frame between two."""

    flow: Tensor
    """[N, 4, H, W] in pixels: (x, y) towards frame 0, then (x, y) towards frame 1."""
    mask: Tensor
    """[N, 1, H, W] in (0, 1): weight of the warped frame 0."""
    frame: Tensor
    """[N, 3, H, W] in [0, 1]."""


class Motion(NamedTuple):
    """Output of the flow stage, input of the refinement."""

    flow: Tensor
    """[N, 4, H, W] in pixels."""
    mask: Tensor
    """[N, 1, H, W], logit."""
    warped_img0: Tensor
    """[N, 3, H, W]"""
    warped_img1: Tensor
    """[N, 3, H, W]"""


class IFNet(nn.Module):
    """The network for the middle frame.

    Args:
        scale: 0.25, 0.5, 1 or 2: all scales of the blocks are divided by it. Upstream recommends 0.5 for 4K.
    """

    takes_timestep = False
    BLOCK, CONTEXTNET, UNET = IFBlock, Contextnet, Unet
    EXTRA_PLANES = 0
    """Input planes of every block beside the images and what is estimated from them."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.scales = tuple(whole / scale for whole in SCALES)
        self.multiple_of = padding(32, scale)  # block0 halves its input twice at a quarter of the size, Unet at 1/16
        self.block0 = self.BLOCK(6 + self.EXTRA_PLANES, c=240)
        self.block1 = self.BLOCK(13 + 4 + self.EXTRA_PLANES, c=150)
        self.block2 = self.BLOCK(13 + 4 + self.EXTRA_PLANES, c=90)
        self.block_tea = self.BLOCK(16 + 4 + self.EXTRA_PLANES, c=90)
        self.contextnet = self.CONTEXTNET()
        self.unet = self.UNET()

    def motion(self, img0: Tensor, img1: Tensor, *, scale: Sequence[float] | None = None) -> Motion:
        """Estimate flow and mask, and warp the images: everything before the refinement.

        Args:
            img0: [N, 3, H, W] in [0, 1]; H and W multiples of 4 * max(scale).
            img1: the same for the other frame.
            scale: of block0, block1 and block2; default: `scales`.
        """
        return self._motion((img0, img1), scale)

    def _motion(self, images: tuple[Tensor, ...], scale: Sequence[float] | None) -> Motion:
        """Estimate motion from the two images, and the planes behind them that every block gets too."""
        scale = scale or self.scales
        img0, img1 = images[:2]
        flow, mask = self.block0(torch.cat(images, 1), None, scale[0])
        warped_img0, warped_img1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:4])
        for block, block_scale in zip((self.block1, self.block2), scale[1:], strict=True):
            x = torch.cat((*images, warped_img0, warped_img1, mask), 1)
            flow_change, mask_change = block(x, flow, block_scale)
            flow = flow + flow_change
            mask = mask + mask_change
            warped_img0, warped_img1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:4])
        return Motion(flow, mask, warped_img0, warped_img1)

    def refine(self, img0: Tensor, img1: Tensor, motion: Motion) -> Interpolation:
        """Blend the warped images and add the residual of the refinement."""
        return refined(self.contextnet, self.unet, img0, img1, motion)

    def interpolate(self, img0: Tensor, img1: Tensor) -> Interpolation:
        """Interpolate the middle frame of two images [N, 3, H, W]."""
        return self.refine(img0, img1, self.motion(img0, img1))

    def forward(self, x: Tensor, scale: Sequence[float] | None = None) -> Interpolation:
        """Interpolate the middle of two frames, given as one tensor [N, 6, H, W] (upstream's calling convention)."""
        img0, img1 = x[:, :3], x[:, 3:6]
        return self.refine(img0, img1, self.motion(img0, img1, scale=scale))


class IFNet_m(IFNet):  # noqa: N801 (upstream's name)
    """The network for a frame at any time between two; one more input plane than `IFNet`, the timestep."""

    takes_timestep = True
    EXTRA_PLANES = 1

    def motion(
        self, img0: Tensor, img1: Tensor, timestep: float | Tensor = 0.5, *, scale: Sequence[float] | None = None
    ) -> Motion:
        """Estimate motion as in `IFNet.motion`, at a timestep: a number, or a tensor [N, 1, 1, 1]."""
        plane = (img0[:, :1] * 0 + 1) * timestep  # [N, 1, H, W]; no size is read, so none is traced
        return self._motion((img0, img1, plane), scale)

    def interpolate(self, img0: Tensor, img1: Tensor, timestep: float | Tensor = 0.5) -> Interpolation:
        """Interpolate the frame at `timestep` (a number, or a tensor [N, 1, 1, 1]) of two images [N, 3, H, W]."""
        return self.refine(img0, img1, self.motion(img0, img1, timestep))

    def forward(self, x: Tensor, scale: Sequence[float] | None = None, timestep: float | Tensor = 0.5) -> Interpolation:
        """Interpolate the frame at `timestep` (a number, or a tensor [N, 1, 1, 1]) in (0, 1); x as in `IFNet`."""
        img0, img1 = x[:, :3], x[:, 3:6]
        return self.refine(img0, img1, self.motion(img0, img1, timestep, scale=scale))


def blended(motion: Motion) -> Interpolation:
    """Blend the warped images."""
    weight = torch.sigmoid(motion.mask)
    return Interpolation(motion.flow, weight, motion.warped_img0 * weight + motion.warped_img1 * (1 - weight))


def refined(contextnet: nn.Module, unet: nn.Module, img0: Tensor, img1: Tensor, motion: Motion) -> Interpolation:
    """Blend the warped images and add the residual of a refinement."""
    flow, weight, merged = blended(motion)
    c0, c1 = contextnet(img0, flow[:, :2]), contextnet(img1, flow[:, 2:4])
    residual = unet(img0, img1, motion.warped_img0, motion.warped_img1, motion.mask, flow, c0, c1)
    return Interpolation(flow, weight, torch.clamp(merged + (residual * 2 - 1), 0, 1))


def resize(x: Tensor, factor: float) -> Tensor:
    """Resize height and width by a factor, bilinear with `align_corners=False`; 1 leaves the tensor as it is."""
    if factor == 1:
        return x
    return interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False, recompute_scale_factor=False)


def resize_flow(flow: Tensor, factor: float) -> Tensor:
    """Resize a flow as `resize` does; its values are in pixels, so they grow by the same factor."""
    return flow if factor == 1 else resize(flow, factor) * factor
