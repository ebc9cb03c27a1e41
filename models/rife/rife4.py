"""RIFE 4.0 to 4.26 with their lite and heavy variants: one network, whose shape is read from the state dict.

Upstream publishes one file per version (`IFNet_HDv3.py` of each release). They differ in widths, activation, residual
blocks, encoder and in how the mask is carried, all of which the keys and shapes of a state dict show;
`Rife4Config.from_shapes` reads them, so that no version number is needed. The arithmetic follows the code of each
release; golden tests hold it.

Shape legend: N batch, C channels, H and W height and width of the frame, multiples of `Rife4.multiple_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from rife.ifnet import Interpolation, Motion, blended, padding, refined, resize, resize_flow
from rife.refine import Contextnet, Unet
from rife.refine import conv as conv_prelu
from rife.warplayer import warp

SLOPE = 0.2
LITE_LAST_WIDTH = 24
"""Width of block4 that marks 4.25.lite, the only five-block network with other scales."""


@dataclass(frozen=True, kw_only=True)
class Rife4Config:
    """The differences between the networks of the family."""

    widths: tuple[int, ...]
    """Channels of each block, coarsest first."""
    prelu: bool
    """PReLU after each convolution, and `convblock(x) + x` (4.0, 4.1); LeakyReLU(0.2) and no sum otherwise."""
    residual: bool
    """Blocks are made of `ResConv` (4.5 and later)."""
    groups: int
    """Groups of the convolution in `ResConv` (2 in some lite variants)."""
    shuffled: int
    """Channels behind the PixelShuffle of `lastconv`: 5 or 6 for flow and mask, 13 with features; 0 without one."""
    encoder: Literal["none", "two layers", "sequential", "head"]
    """How features of the frames are made (4.7 and later)."""
    encoder_width: int
    encoder_features: int
    """Channels of the features of each frame; 0 without an encoder."""
    refined: bool
    """A refinement (`contextnet`, `unet`) belongs to it (released 4.0)."""

    @property
    def carried(self) -> int:
        """Feature channels that a block hands to the next one (4.21 and later)."""
        return 8 if self.shuffled == 13 else 0

    @property
    def replaces_mask(self) -> bool:
        """Each block answers with the mask itself, not with a change of it (4.7 and later)."""
        return self.encoder != "none"

    @property
    def scales(self) -> tuple[int, ...]:
        """How many times smaller than the frame each block works."""
        if len(self.widths) == 5:
            return (32, 16, 8, 4, 1) if self.widths[-1] == LITE_LAST_WIDTH else (16, 8, 4, 2, 1)
        return (8, 4, 2, 1)

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Sequence[int]]) -> Rife4Config:
        """Read the configuration from the keys and shapes of a state dict.

        Raises:
            KeyError: a key that every network of the family has is missing.
        """
        blocks = sorted({key.partition(".")[0] for key in shapes if key.startswith("block") and key[5:6].isdigit()})
        widths = tuple(shapes[f"{block}.conv0.1.0.weight"][0] for block in blocks)
        residual = "block0.convblock.0.beta" in shapes
        shuffled = shapes["block0.lastconv.0.weight"][1] // 4 if "block0.lastconv.0.weight" in shapes else 0
        inner = shapes["block0.convblock.0.conv.weight"] if residual else ()
        # The last layer of an encoder tells its kind, and how many features it makes.
        encoder: Literal["none", "two layers", "sequential", "head"] = "none"
        first = last = ""
        if "encode.cnn0.weight" in shapes:
            encoder, first, last = "head", "encode.cnn0.weight", "encode.cnn3.weight"
        elif "encode.2.weight" in shapes:
            encoder, first, last = "sequential", "encode.0.weight", "encode.6.weight"
        elif "encode.0.weight" in shapes:
            encoder, first, last = "two layers", "encode.0.weight", "encode.1.weight"
        return cls(
            widths=widths,
            prelu="block0.conv0.0.1.weight" in shapes,
            residual=residual,
            groups=inner[0] // inner[1] if residual else 1,
            shuffled=shuffled,
            encoder=encoder,
            encoder_width=shapes[first][0] if first else 0,
            encoder_features=shapes[last][1] if first else 0,
            refined="contextnet.conv1.conv1.0.weight" in shapes,
        )


def conv(in_planes: int, out_planes: int, kernel_size: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    """Convolution with bias, then LeakyReLU(0.2): the `conv` of 4.2 and later."""
    return nn.Sequential(nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding), nn.LeakyReLU(SLOPE))


class ResConv(nn.Module):
    """`leaky(conv(x) * beta + x)`: [N, C, H, W] to the same."""

    def __init__(self, c: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.conv(x) * self.beta + x, SLOPE)


class Head(nn.Module):
    """Features of a frame at full size: [N, 3, H, W] in [0, 1] to [N, features, H, W] (4.13 and later)."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.cnn0 = nn.Conv2d(3, width, 3, 2, 1)
        self.cnn1 = nn.Conv2d(width, width, 3, 1, 1)
        self.cnn2 = nn.Conv2d(width, width, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(width, features, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.cnn0, self.cnn1, self.cnn2):
            x = leaky_relu(layer(x), SLOPE)
        features: Tensor = self.cnn3(x)
        return features


class Block(nn.Module):
    """One step of the coarse-to-fine flow (upstream: `IFBlock`).

    Args:
        in_planes: channels of the input, the flow's four included where a flow is given.
        c: width.
        config: of the network.
    """

    def __init__(self, in_planes: int, c: int, config: Rife4Config) -> None:
        super().__init__()
        layer = conv_prelu if config.prelu else conv
        self.conv0 = nn.Sequential(layer(in_planes, c // 2, 3, 2, 1), layer(c // 2, c, 3, 2, 1))
        self.convblock = nn.Sequential(
            *(ResConv(c, config.groups) if config.residual else layer(c, c) for _ in range(8))
        )
        self.adds_input = config.prelu
        self.lastconv: nn.Module = nn.ConvTranspose2d(c, 5, 4, 2, 1)
        # Without the PixelShuffle the answer has half the size of the input, so its pixels are twice as large.
        self.growth = 2
        if config.shuffled:
            self.lastconv = nn.Sequential(nn.ConvTranspose2d(c, 4 * config.shuffled, 4, 2, 1), nn.PixelShuffle(2))
            self.growth = 1

    def forward(self, x: Tensor, flow: Tensor | None, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Estimate the change of the flow, the mask and the features for the next block.

        Args:
            x: [N, in_planes (less 4 with a flow), H, W].
            flow: [N, 4, H, W] in pixels of the full-size frame, or None in the first block.
            scale: how many times smaller than the frame the block works; H and W are multiples of 4 * scale.

        Returns:
            flow [N, 4, H, W] in pixels, mask logit [N, 1, H, W], and features [N, 8, H, W] (or none: [N, 0, H, W]).
        """
        x = resize(x, 1 / scale)
        if flow is not None:
            x = torch.cat((x, resize_flow(flow, 1 / scale)), 1)
        x = self.conv0(x)
        x = self.convblock(x) + x if self.adds_input else self.convblock(x)
        growth = scale * self.growth
        x = resize(self.lastconv(x), growth)
        flow = x[:, :4] if growth == 1 else x[:, :4] * growth
        return flow, x[:, 4:5], x[:, 5:]


class Rife4(nn.Module):
    """Interpolates the frame at any time between two: RIFE 4.0 to 4.26.

    Args:
        config: of the network; `Rife4Config.from_shapes` reads it from a state dict.
        scale: 0.25, 0.5, 1 or 2: all scales of the blocks are divided by it. Upstream recommends 0.5 for 4K.
    """

    takes_timestep = True

    def __init__(self, config: Rife4Config, scale: float = 1.0) -> None:
        super().__init__()
        self.config = config
        self.scale = scale
        self.scales = tuple(whole / scale for whole in config.scales)
        self.multiple_of = padding(4 * max(config.scales), scale)  # the coarsest block halves its input twice
        features = 2 * config.encoder_features
        if config.encoder == "head":
            self.encode: nn.Module = Head(config.encoder_width, config.encoder_features)
        elif config.encoder != "none":
            self.encode = _sequential_encoder(config)
        for index, width in enumerate(config.widths):
            # images and timestep; behind the first block also mask, flow and the features of the block before
            planes = 7 + features if index == 0 else 12 + features + config.carried
            self.add_module(f"block{index}", Block(planes, width, config))
        if config.refined:
            self.contextnet = Contextnet()
            self.unet = Unet()

    def motion(self, img0: Tensor, img1: Tensor, timestep: float | Tensor = 0.5) -> Motion:
        """Estimate flow and mask, and warp the images: everything before the refinement.

        Args:
            img0: [N, 3, H, W] in [0, 1].
            img1: the same for the other frame.
            timestep: in (0, 1), a number or [N, 1, 1, 1].
        """
        img0, img1 = img0.clamp(0, 1), img1.clamp(0, 1)
        plane = (img0[:, :1] * 0 + 1) * timestep  # [N, 1, H, W]; no size is read, so none is traced
        features = [self.encode(img0), self.encode(img1)] if self.config.encoder != "none" else []
        flow: Tensor | None = None
        for index, scale in enumerate(self.scales):
            block = self.get_submodule(f"block{index}")
            if flow is None:
                flow, mask, carried = block(torch.cat((img0, img1, *features, plane), 1), None, scale)
            else:
                warped = [warp(one, flow[:, :2]) for one in (img0, *features[:1])]
                warped += [warp(one, flow[:, 2:4]) for one in (img1, *features[1:])]
                # images first, then their features, each in the order of the frames
                images = (*warped[:: len(warped) // 2], *warped[1::2]) if features else tuple(warped)
                x = torch.cat((*images, plane, mask, *([carried] if self.config.carried else [])), 1)
                change, answer, carried = block(x, flow, scale)
                flow = flow + change
                mask = answer if self.config.replaces_mask else mask + answer
        assert flow is not None
        return Motion(flow, mask, warp(img0, flow[:, :2]), warp(img1, flow[:, 2:4]))

    def refine(self, img0: Tensor, img1: Tensor, motion: Motion) -> Interpolation:
        """Blend the warped images, and add the residual of the refinement where there is one."""
        if not self.config.refined:
            return blended(motion)
        return refined(self.contextnet, self.unet, img0, img1, motion)

    def interpolate(self, img0: Tensor, img1: Tensor, timestep: float | Tensor = 0.5) -> Interpolation:
        """Interpolate the frame at `timestep`; arguments as in `motion`."""
        return self.refine(img0, img1, self.motion(img0, img1, timestep))

    forward = interpolate


def _sequential_encoder(config: Rife4Config) -> nn.Sequential:
    """The encoders of 4.7 to 4.12, whose keys are positions in a Sequential."""
    width, features = config.encoder_width, config.encoder_features
    last = nn.ConvTranspose2d(width, features, 4, 2, 1)
    if config.encoder == "two layers":
        return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), last)  # upstream has no activation between the two
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1), nn.LeakyReLU(SLOPE)]
    for _ in range(2):
        layers += [nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, last)
