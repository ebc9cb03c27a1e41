"""IFNet_HDv3, the network of RIFE 3.8 and 3.9 (upstream: `train_log/IFNet_HDv3.py`; CogVideo's demo loads it)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rife.ifnet import SCALES, Interpolation, Motion, blended, padding, resize, resize_flow
from rife.refine import conv
from rife.warplayer import warp

WIDTH = 90


class HDv3Block(nn.Module):
    """One step of the coarse-to-fine flow, with one head for the flow and one for the mask (upstream: `IFBlock`).

    Args:
        in_planes: channels of the input, the flow's four included.
        c: width.
    """

    def __init__(self, in_planes: int, c: int = WIDTH) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(conv(in_planes, c // 2, 3, 2, 1), conv(c // 2, c, 3, 2, 1))
        self.convblock0 = nn.Sequential(conv(c, c), conv(c, c))
        self.convblock1 = nn.Sequential(conv(c, c), conv(c, c))
        self.convblock2 = nn.Sequential(conv(c, c), conv(c, c))
        self.convblock3 = nn.Sequential(conv(c, c), conv(c, c))
        self.conv1 = _head(c, 4)
        self.conv2 = _head(c, 1)

    def forward(self, x: Tensor, flow: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Estimate the change of the flow and of the mask.

        Args:
            x: [N, in_planes - 4, H, W]; H and W multiples of 4 * scale.
            flow: [N, 4, H, W] in pixels of the full-size frame.
            scale: how many times smaller than the frame the block works.

        Returns:
            flow [N, 4, H, W] in pixels and mask logit [N, 1, H, W], both to be added to what there was.
        """
        x = torch.cat((resize(x, 1 / scale), resize_flow(flow, 1 / scale)), 1)
        x = self.conv0(x)
        for layer in (self.convblock0, self.convblock1, self.convblock2, self.convblock3):
            x = layer(x) + x
        return resize_flow(self.conv1(x), scale), resize(self.conv2(x), scale)


class HDv3(nn.Module):
    """Interpolates the middle frame; it takes no timestep.

    Args:
        scale: 0.25, 0.5, 1 or 2: all scales of the blocks are divided by it.
    """

    takes_timestep = False

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.scales = tuple(whole / scale for whole in SCALES)
        self.multiple_of = padding(32, scale)
        self.block0 = HDv3Block(7 + 4)
        self.block1 = HDv3Block(7 + 4)
        self.block2 = HDv3Block(7 + 4)
        self.block_tea = HDv3Block(10 + 4)  # the teacher of the training: checkpoints have it, it is not run

    def motion(self, img0: Tensor, img1: Tensor, *, scale: Sequence[float] | None = None) -> Motion:
        """Estimate flow and mask, and warp the images.

        Each block is run twice, the second time from frame 1 to frame 0, and the two answers are averaged.

        Args:
            img0: [N, 3, H, W] in [0, 1]; H and W multiples of `multiple_of`.
            img1: the same for the other frame.
            scale: of block0, block1 and block2; default: `scales`.
        """
        warped_img0, warped_img1 = img0, img1
        # Made from the images: a tensor of zeros would need their sizes, and a trace would keep them.
        flow = torch.cat((img0, img1[:, :1]), 1) * 0
        mask = img0[:, :1] * 0
        for block, block_scale in zip((self.block0, self.block1, self.block2), scale or self.scales, strict=True):
            flow0, mask0 = block(torch.cat((warped_img0, warped_img1, mask), 1), flow, block_scale)
            flow1, mask1 = block(torch.cat((warped_img1, warped_img0, -mask), 1), _swapped(flow), block_scale)
            flow = flow + (flow0 + _swapped(flow1)) / 2
            mask = mask + (mask0 - mask1) / 2
            warped_img0, warped_img1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:4])
        return Motion(flow, mask, warped_img0, warped_img1)

    def refine(self, img0: Tensor, img1: Tensor, motion: Motion) -> Interpolation:
        """Blend the warped images; HDv3 has no refinement."""
        return blended(motion)

    def interpolate(self, img0: Tensor, img1: Tensor) -> Interpolation:
        """Interpolate the middle frame."""
        return self.refine(img0, img1, self.motion(img0, img1))

    def forward(self, img0: Tensor, img1: Tensor, scale: Sequence[float] | None = None) -> Interpolation:
        """Interpolate the middle frame; arguments as in `motion`."""
        return self.refine(img0, img1, self.motion(img0, img1, scale=scale))


def _head(c: int, out_planes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(c, c // 2, 4, 2, 1), nn.PReLU(c // 2), nn.ConvTranspose2d(c // 2, out_planes, 4, 2, 1)
    )


def _swapped(flow: Tensor) -> Tensor:
    """Exchange the halves of a flow [N, 4, H, W]: the same motion with the frames in the other order."""
    return torch.cat((flow[:, 2:4], flow[:, :2]), 1)
