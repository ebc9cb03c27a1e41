"""The refinement stage: context features and the fusion network (upstream file: `model/refine.py`)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from rife.warplayer import warp

BASE_WIDTH = 16


def conv(
    in_planes: int,
    out_planes: int,
    kernel_size: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """Build a convolution with bias, then a PReLU with one slope per channel."""
    return nn.Sequential(
        nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding, dilation),
        nn.PReLU(out_planes),
    )


def deconv(in_planes: int, out_planes: int, kernel_size: int = 4, stride: int = 2, padding: int = 1) -> nn.Sequential:
    """Build a transposed convolution with bias, then a PReLU; the defaults double height and width."""
    return nn.Sequential(
        nn.ConvTranspose2d(in_planes, out_planes, kernel_size, stride, padding),
        nn.PReLU(out_planes),
    )


class Conv2(nn.Module):
    """Two 3x3 convolutions, the first with the stride: [N, in, H, W] to [N, out, H/stride, W/stride]."""

    def __init__(self, in_planes: int, out_planes: int, stride: int = 2) -> None:
        super().__init__()
        self.conv1 = conv(in_planes, out_planes, 3, stride, 1)
        self.conv2 = conv(out_planes, out_planes, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.conv2(x)
        return x


class Contextnet(nn.Module):
    """A pyramid of features of one image, each level warped by the flow of its size."""

    FIRST_STRIDE = 2
    """Stride of `conv1`; 1 in `IFNet_2R`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2(3, BASE_WIDTH, self.FIRST_STRIDE)
        self.conv2 = Conv2(BASE_WIDTH, 2 * BASE_WIDTH)
        self.conv3 = Conv2(2 * BASE_WIDTH, 4 * BASE_WIDTH)
        self.conv4 = Conv2(4 * BASE_WIDTH, 8 * BASE_WIDTH)

    def forward(self, x: Tensor, flow: Tensor) -> list[Tensor]:
        """Compute the warped features of an image.

        Args:
            x: image [N, 3, H, W]; H and W multiples of 16.
            flow: [N, 2, H, W] in pixels of the full-size frame.

        Returns:
            Four maps, [N, 16, H/2, W/2] to [N, 128, H/16, W/16].
        """
        features = []
        for level in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = level(x)
            if level is not self.conv1 or self.FIRST_STRIDE == 2:
                # Half the size and half the value: pixels are twice as large on the next level.
                flow = 0.5 * interpolate(
                    flow, scale_factor=0.5, mode="bilinear", align_corners=False, recompute_scale_factor=False
                )
            features.append(warp(x, flow))
        return features


class Unet(nn.Module):
    """Fuses both images, both warped images, the mask, the flows and both contexts into a residual."""

    FIRST_STRIDE = 2
    """Stride of `down0`; 1 in `IFNet_2R`, where the last convolution has the stride instead."""

    def __init__(self) -> None:
        super().__init__()
        c = BASE_WIDTH
        self.down0 = Conv2(17, 2 * c, self.FIRST_STRIDE)
        self.down1 = Conv2(4 * c, 4 * c)
        self.down2 = Conv2(8 * c, 8 * c)
        self.down3 = Conv2(16 * c, 16 * c)
        self.up0 = deconv(32 * c, 8 * c)
        self.up1 = deconv(16 * c, 4 * c)
        self.up2 = deconv(8 * c, 2 * c)
        self.up3 = deconv(4 * c, c)
        self.conv = nn.Conv2d(c, 3, 3, 2 // self.FIRST_STRIDE, 1)

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        warped_img0: Tensor,
        warped_img1: Tensor,
        mask: Tensor,
        flow: Tensor,
        c0: Sequence[Tensor],
        c1: Sequence[Tensor],
    ) -> Tensor:
        """Compute the residual of the blended frame.

        Args:
            img0: [N, 3, H, W] in [0, 1]; H and W multiples of 16.
            img1: the same for the other frame.
            warped_img0: frame 0 warped to the time between.
            warped_img1: frame 1 warped to it.
            mask: [N, 1, H, W], logit of the weight of `warped_img0`.
            flow: [N, 4, H, W] in pixels, (x, y) towards frame 0, then (x, y) towards frame 1.
            c0: the four maps of `Contextnet` for frame 0.
            c1: the same for frame 1.

        Returns:
            [N, 3, H, W] in (0, 1); the frame is `clamp(merged + 2 * residual - 1, 0, 1)`.
        """
        s0 = self.down0(torch.cat((img0, img1, warped_img0, warped_img1, mask, flow), 1))
        s1 = self.down1(torch.cat((s0, c0[0], c1[0]), 1))
        s2 = self.down2(torch.cat((s1, c0[1], c1[1]), 1))
        s3 = self.down3(torch.cat((s2, c0[2], c1[2]), 1))
        x = self.up0(torch.cat((s3, c0[3], c1[3]), 1))
        x = self.up1(torch.cat((x, s2), 1))
        x = self.up2(torch.cat((x, s1), 1))
        x = self.up3(torch.cat((x, s0), 1))
        return torch.sigmoid(self.conv(x))
