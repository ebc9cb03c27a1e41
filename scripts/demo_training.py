"""Parts of `train_demo.py`: how the network starts, what it is taught by, and the steps that it takes."""

import re
from typing import Any

import torch
from flow_truth import DrawnClip
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.overrides import TorchFunctionMode

from rife.ifnet import SCALES, IFNet_m, Motion
from rife.warplayer import warp

OUTERMOST = re.compile(r"lastconv|unet\.conv\.|conv0\.0\.")  # not for `Muon`
MOMENTUM = 0.95  # of `Muon`


class SamplingInFloat(TorchFunctionMode):
    """Under autocast: flows, their resizing and the warp stay FP32, as in the files that this project makes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is warp or func is interpolate:
            args = tuple(arg.float() if isinstance(arg, Tensor) else arg for arg in args)
        return func(*args, **(kwargs or {}))


def prepared_network(seed: int) -> IFNet_m:
    """A network that starts as the average of the two frames, with activations of an even scale."""
    torch.manual_seed(seed)
    net = IFNet_m()
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, a=0.25, mode="fan_in")
            nn.init.zeros_(module.bias)
            if isinstance(module, nn.ConvTranspose2d):  # a quarter of the taps meet in one output; fan_in is fan_out
                module.weight.data *= 2 * (module.weight.shape[1] / module.weight.shape[0]) ** 0.5
            if "lastconv" in name or name == "unet.conv":
                module.weight.data *= 0.01
            if name == "block0.lastconv":
                module.weight.data.zero_()  # it joins in the second stage
            if "convblock.7" in name:
                module.weight.data *= 0.3  # the block begins near its shortcut
    prepare_first(net.block0.conv0[0][0].weight.data, 0)
    for block in (net.block1, net.block2):
        prepare_first(block.conv0[0][0].weight.data, 7)
    return net


def prepare_first(weight: Tensor, at: int) -> None:
    """Let a block begin with derivatives in time and space, which random filters drown in the brightness.

    Args:
        weight: [out, in, 3, 3] of a block's first convolution, changed.
        at: the plane where two images of three planes each begin.
    """
    count = len(weight)
    weight *= 0.2
    weight[:, :7] -= weight[:, :7].mean((2, 3), keepdim=True)
    kernel, colour = torch.randn(count, 1, 3, 3), 0.33 + 0.2 * torch.randn(count, 3, 1, 1)
    in_time = torch.arange(count)[:, None, None, None] < count // 2
    kernel = torch.where(in_time, 5.0 * kernel, 2.5 * (kernel - kernel.mean((2, 3), keepdim=True)))
    weight[:, at : at + 3] += kernel * colour
    weight[:, at + 3 : at + 6] += torch.where(in_time, -1.0, 1.0) * kernel * colour


def laplacian(a: Tensor, b: Tensor) -> Tensor:
    """The difference of two images, band by band (the paper's loss), L1."""
    difference, total = a - b, torch.zeros(())
    for level in range(4):
        smaller = avg_pool2d(difference, 2)
        up = interpolate(smaller, scale_factor=2.0, mode="bilinear", align_corners=False)
        total = total + 2**level * (difference - up).abs().mean()
        difference = smaller
    return total + 2**4 * difference.abs().mean()


class Muon(torch.optim.Optimizer):
    """Steps whose matrices are orthogonal: few steps do much (Jordan et al., 2024; scaled as AdamW, Liu et al., 2025).

    For weights of hidden convolutions, taken as matrices [out, in * kernel].
    """

    def __init__(self, weights: list[Tensor], lr: float) -> None:
        super().__init__(weights, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the weights that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                past = state["past"] if state else state.setdefault("past", torch.zeros_like(weight))
                past.mul_(MOMENTUM).add_(weight.grad)
                matrix = (weight.grad + MOMENTUM * past).flatten(1)
                size = 0.2 * max(matrix.shape) ** 0.5
                weight.add_(orthogonal(matrix).view_as(weight), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, roughly: Newton and Schulz, five steps in BF16."""
    x = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()


def motion_of(net: IFNet_m, img0: Tensor, img1: Tensor, plane: Tensor, coarsest: bool) -> tuple[Motion, list[Tensor]]:
    """`IFNet.motion`, with the flow after each block; without the coarsest block, flow and mask start at 0."""
    flow, mask = torch.zeros(len(img0), 4, *img0.shape[2:]), torch.zeros_like(plane)
    warped_img0, warped_img1, flows = img0, img1, []
    if coarsest:
        flow, mask = net.block0(torch.cat((img0, img1, plane), 1), None, SCALES[0])
        warped_img0, warped_img1, flows = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:4]), [flow]
    for block, scale in zip((net.block1, net.block2), SCALES[1:], strict=True):
        flow_change, mask_change = block(torch.cat((img0, img1, plane, warped_img0, warped_img1, mask), 1), flow, scale)
        flow, mask = flow + flow_change, mask + mask_change
        warped_img0, warped_img1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:4])
        flows.append(flow)
    return Motion(flow, mask, warped_img0, warped_img1), flows


def loss_of(net: IFNet_m, clip: DrawnClip, timestep: Tensor, flow_weight: float, complete: bool) -> Tensor:
    """Compute the loss of one batch; `complete`: with the coarsest block and the refinement."""
    with torch.autocast("cpu", torch.bfloat16), SamplingInFloat():
        plane = timestep.view(-1, 1, 1, 1).expand(-1, 1, *clip.frame.shape[-2:])
        motion, flows = motion_of(net, clip.img0, clip.img1, plane, complete)
        frame = net.refine(clip.img0, clip.img1, motion).frame.float() if complete else None
    loss = torch.zeros(())
    for flow, share in zip(reversed(flows), (1.0, 0.7, 0.5), strict=False):
        off = (flow.float() - clip.flow).unflatten(1, (2, 2))
        loss = loss + flow_weight * share * (off.square().sum(2) + 1e-6).sqrt().mean()
    weight = torch.sigmoid(motion.mask.float())
    merged = motion.warped_img0.float() * weight + motion.warped_img1.float() * (1 - weight)
    loss = loss + (0.3 if complete else 1.0) * laplacian(merged, clip.frame)
    if frame is not None:
        loss = loss + laplacian(frame, clip.frame) + (frame - clip.frame).abs().mean()
    return loss
