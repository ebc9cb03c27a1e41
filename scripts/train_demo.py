"""Train the demo weights: IFNet_m on drawn sequences, on a CPU, for a given time.

python scripts/train_demo.py --output runs/demo --minutes 75
python scripts/train_demo.py --output runs/demo --minutes 75      (again: goes on where it was stopped)

Two stages: first the two finer blocks of the flow network, taught by the exact flows and by the blended frame; then
all of it, with the coarsest block and the refinement, taught by the frame first of all. The learning rate follows the
part of the time that has passed.
OUTPUT gets `state.pt` (to go on from), `demo.safetensors` (the averaged weights in FP16), `curve.csv` and `curve.png`.
"""

import argparse
import csv
import itertools
import json
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, IterableDataset

from refine_export.atomic import atomic_path
from refine_export.moving_layers import Clip, SequenceOptions, canvases_from_families, draw_sequences
from refine_export.textures import HELD_OUT, TRAINING, texture
from rife.ifnet import SCALES, IFNet_m, Motion
from rife.warplayer import warp

STAGE_1 = 0.6  # part of the time
PEAK_RATE, LAST_RATE, WARM_UP = 3e-3, 2e-5, 0.02
OUTERMOST = re.compile(r"lastconv|unet\.conv\.|conv0\.0\.")  # not for `Muon`
MOMENTUM = 0.95  # of `Muon`
AVERAGED = 0.99  # of the moving average of the weights, per step
SIZES = ((64, 64, 8), (96, 96, 4), (64, 64, 8), (128, 128, 2))  # height, width, clips in a batch, in turn
VALIDATION = ((64, 64, 12), (256, 448, 3))  # height, width, clips
COLUMNS = ("minutes", "step", "samples", "loss", "px_64", "db_64", "average_64", "px_256", "db_256", "average_256")


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


def loss_of(net: IFNet_m, clip: Clip, timestep: Tensor, flow_weight: float, complete: bool) -> Tensor:
    """Of one batch; `complete`: with the coarsest block and the refinement."""
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


def validation_clips(seed: int) -> list[tuple[Clip, Tensor]]:
    """The same at every call: other families of textures and other seeds than in training."""
    canvases = canvases_from_families(HELD_OUT, count=6, seed=seed + 1_000_003)
    clips = []
    for height, width, count in VALIDATION:
        generator = torch.Generator().manual_seed(seed + 7)
        motion_px, timestep = torch.rand(count, generator=generator) * 3 + 1, torch.full((count,), 0.5)
        options = SequenceOptions(height=height, width=width)
        clips.append((draw_sequences(canvases, options, motion_px, timestep, generator), timestep))
    return clips


@torch.no_grad()
def validated(net: IFNet_m, clips: list[tuple[Clip, Tensor]]) -> list[float]:
    """Per size: mean error of the flow in pixels, mean PSNR of the frame, and of the average of the frames."""
    row = []
    for clip, timestep in clips:
        off, ours, average = [], [], []
        for i in range(len(timestep)):
            img0, img1, frame = (image[i : i + 1] for image in (clip.img0, clip.img1, clip.frame))
            motion = net.motion(img0, img1, extra=(torch.full_like(img0[:, :1], 0.5),))
            result = net.refine(img0, img1, motion).frame
            off.append((motion.flow - clip.flow[i : i + 1]).unflatten(1, (2, 2)).norm(dim=2).mean().item())
            ours.append(psnr_db(result, frame))
            average.append(psnr_db((img0 + img1) / 2, frame))
        row += [sum(values) / len(values) for values in (off, ours, average)]
    return row


def psnr_db(a: Tensor, b: Tensor) -> float:
    """Peak 1."""
    return -10 * math.log10(max((a - b).square().mean().item(), 1e-12))


class Batches(IterableDataset[tuple[Clip, Tensor]]):
    """Endless, of one time in the middle for a share of the clips; one canvas in ten batches is drawn anew."""

    def __init__(self, seed: int, step: int, share_of_half: torch.Tensor) -> None:
        self.seed, self.step, self.share_of_half = seed, step, share_of_half

    def __iter__(self) -> Iterator[tuple[Clip, Tensor]]:
        torch.set_num_threads(1)
        canvases = canvases_from_families(TRAINING, count=8, seed=self.seed + self.step)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        for index in itertools.count(self.step):
            if index % 10 == 9:
                slot = index // 10 % len(canvases)
                drawn = texture(TRAINING[slot % len(TRAINING)], np.random.default_rng([self.seed, 10_000 + index]))
                canvases[slot] = torch.from_numpy(drawn)
            height, width, count = SIZES[index % len(SIZES)]
            anywhere = torch.rand(count, generator=generator) * 0.8 + 0.1
            timestep = torch.where(torch.rand(count, generator=generator) < self.share_of_half, 0.5, anywhere)
            motion_px = 0.3 + 5.7 * torch.rand(count, generator=generator)
            motion_px *= torch.where(torch.rand(count, generator=generator) < 0.08, 2.0, 1.0)
            options = SequenceOptions(height=height, width=width, layers=2)
            yield draw_sequences(canvases, options, motion_px, timestep, generator), timestep


def learning_rate(part: float) -> float:
    """A warm-up, then a half cosine; `part` of the time has passed."""
    if part < WARM_UP:
        return PEAK_RATE * max(part / WARM_UP, 0.02)
    along = (part - WARM_UP) / (1 - WARM_UP)
    return LAST_RATE + (PEAK_RATE - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def save_weights(path: Path, averaged: dict[str, Tensor], about: dict[str, str]) -> None:
    """FP16 safetensors with upstream's keys."""
    from safetensors.torch import save_file

    weights = {key: value.half().contiguous() for key, value in averaged.items()}
    with atomic_path(path) as partial:
        save_file(weights, partial, metadata=about)


def plot(path: Path, rows: list[dict[str, float]]) -> None:
    """PSNR above the average of the frames against the minutes: 64 px in blue, 256 px in red."""
    from PIL import Image, ImageDraw

    width, height, margin = 800, 420, 50
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    lines = {"64": "#2060c0", "256": "#c03020"}
    gains = {size: [row[f"db_{size}"] - row[f"average_{size}"] for row in rows] for size in lines}
    last = max(row["minutes"] for row in rows) or 1.0
    low, high = min(-1.0, *map(min, gains.values())), max(3.0, *map(max, gains.values()))

    def at(minutes: float, gain: float) -> tuple[float, float]:
        x = margin + (width - 2 * margin) * minutes / last
        return x, height - margin - (height - 2 * margin) * (gain - low) / (high - low)

    for level in range(math.ceil(low), math.floor(high) + 1):
        pen.line([at(0, level), at(last, level)], fill="#000000" if level == 0 else "#dddddd")
        pen.text((12, at(0, level)[1] - 6), f"{level:+d} dB", fill="black")
    for size, ink in lines.items():
        points = [at(row["minutes"], gain) for row, gain in zip(rows, gains[size], strict=True)]
        pen.line([*points, points[-1]], fill=ink, width=2)
    pen.text((margin, 12), "held-out families, motion 1 to 4 px: dB above the average of the frames", fill="black")
    pen.text((margin, 28), f"blue 64 x 64, red 256 x 448; {last:.0f} minutes", fill="black")
    image.save(path, format="PNG")


def main() -> None:
    """Train until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder; an earlier run in it is continued")
    parser.add_argument("--minutes", type=float, default=90.0, help="of training in all, earlier runs included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="fewer are used while the machine is busy")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    net = prepared_network(options.seed).to(memory_format=torch.channels_last)
    trained = {name: value for name, value in net.named_parameters() if not name.startswith("block_tea")}
    hidden = [name for name, value in trained.items() if value.ndim == 4 and not OUTERMOST.search(name)]
    optimisers: list[torch.optim.Optimizer] = [
        Muon([trained[name] for name in hidden], PEAK_RATE),
        torch.optim.AdamW(
            [trained[name] for name in trained if name not in hidden], lr=PEAK_RATE / 2, weight_decay=0, fused=True
        ),
    ]
    averaged = {key: value.clone() for key, value in net.state_dict().items()}
    step, samples, spent_s, rows = 0, 0, 0.0, []
    state_file = options.output / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        net.load_state_dict(state["net"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        averaged, step, samples = state["averaged"], state["step"], state["samples"]
        spent_s, rows = state["spent_s"], state["rows"]
        print(f"going on from step {step}, {spent_s / 60:.1f} minutes", flush=True)
    clips = validation_clips(options.seed)
    stopwatch = time.monotonic() - spent_s
    validated_at, saved_at, recent = spent_s - 900.0, spent_s, []

    def record() -> None:
        own = IFNet_m().eval()
        own.load_state_dict(averaged)
        values = [spent_s / 60, step, samples, sum(recent) / max(1, len(recent))]
        rows.append(dict(zip(COLUMNS, values + validated(own, clips), strict=True)))
        print(json.dumps({key: round(value, 4) for key, value in rows[-1].items()}), flush=True)
        with atomic_path(options.output / "curve.csv") as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        with atomic_path(options.output / "curve.png") as partial:
            plot(partial, rows)

    def save() -> None:
        state = {"net": net.state_dict(), "optimisers": [optimiser.state_dict() for optimiser in optimisers]}
        state |= {"averaged": averaged, "step": step, "samples": samples, "spent_s": spent_s, "rows": rows}
        with atomic_path(state_file) as partial:
            torch.save(state, partial)
        about = {"steps": str(step), "samples": str(samples), "minutes": f"{spent_s / 60:.0f}"}
        save_weights(options.output / "demo.safetensors", averaged, about)

    share_of_half = torch.ones(1).share_memory_()
    batches = Batches(options.seed, step, share_of_half)
    for clip, timestep in DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=6):
        spent_s = time.monotonic() - stopwatch
        part = spent_s / (60 * options.minutes)
        complete = part >= STAGE_1
        share_of_half.fill_(0.5 if complete else 1.0)
        if spent_s - validated_at > 900 or part >= 1:
            record()
            recent, validated_at = [], spent_s
        if spent_s - saved_at > 180 or part >= 1:
            save()
            saved_at = spent_s
        if part >= 1:
            break
        if step % 10 == 0:
            torch.set_num_threads(1 if os.getloadavg()[0] > options.threads + 1.5 else options.threads)
        flow_weight = 0.02 if complete else 0.15 * (1 - part / STAGE_1) + 0.05
        loss = loss_of(net, clip, timestep, flow_weight, complete)
        for optimiser in optimisers:
            optimiser.zero_grad()
            optimiser.param_groups[0]["lr"] = learning_rate(part) * (1.0 if isinstance(optimiser, Muon) else 0.5)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        recent.append(loss.item())
        if step % 100 == 99:
            print(f"step {step + 1}, {spent_s / 60:.1f} minutes, loss {sum(recent[-100:]) / 100:.4f}", flush=True)
        step, samples = step + 1, samples + len(timestep)
        kept = min(AVERAGED, (step + 1) / (step + 10))
        moved = [name for name, value in trained.items() if value.grad is not None]
        torch._foreach_lerp_([averaged[name] for name in moved], [trained[name].detach() for name in moved], 1 - kept)


if __name__ == "__main__":
    main()
