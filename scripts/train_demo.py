"""Train the demo weights: IFNet_m on drawn sequences, on a CPU, for a given time.

python scripts/train_demo.py --output runs/demo --minutes 75
python scripts/train_demo.py --output runs/demo --minutes 75      (again: goes on where it was stopped)

Two stages: first the flow network alone, taught by the exact flows of all three blocks and by the blended frame; then
all of it, with the refinement, taught by the frame. The learning rate follows the part of the time that has passed.
OUTPUT gets `state.pt` (to go on from), `demo.safetensors` (the averaged weights in FP16), `curve.csv` and `curve.png`.
"""

import argparse
import csv
import itertools
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from refine_export.atomic import atomic_path
from refine_export.sequences import Clip, SequenceOptions, canvases_from_families, draw_sequences
from refine_export.textures import HELD_OUT, TRAINING, texture
from rife.ifnet import IFNet_m
from rife.warplayer import warp
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.overrides import TorchFunctionMode

STAGE_1 = 0.62  # part of the time
PEAK_RATE, LAST_RATE, WARM_UP = 6e-4, 1e-5, 0.01
AVERAGED = 0.998  # of the moving average of the weights, per step
SIZES = ((64, 64, 16), (64, 64, 16), (96, 96, 8), (128, 128, 4))  # height, width, clips in a batch, in turn
VALIDATION = ((64, 64, 32), (256, 448, 6))  # height, width, clips
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
            if "convblock.7" in name:
                module.weight.data *= 0.3  # the block begins near its shortcut
    for block in (net.block0, net.block1, net.block2):
        first = block.conv0[0][0]
        images = slice(0, 7) if block is net.block0 else slice(0, 13)
        first.bias.data = -0.45 * first.weight.data[:, images].sum((1, 2, 3))  # inputs of mean 0
    return net


def laplacian(a: Tensor, b: Tensor) -> Tensor:
    """The difference of two images, band by band (the paper's loss), L1."""
    difference, total = a - b, torch.zeros(())
    for level in range(4):
        smaller = avg_pool2d(difference, 2)
        up = interpolate(smaller, scale_factor=2.0, mode="bilinear", align_corners=False)
        total = total + 2**level * (difference - up).abs().mean()
        difference = smaller
    return total + 2**4 * difference.abs().mean()


class Trainee:
    """A network with taps on its blocks' flows."""

    def __init__(self, net: IFNet_m) -> None:
        self.net = net
        self.changes: list[Tensor] = []
        for block in (net.block0, net.block1, net.block2):
            block.register_forward_hook(lambda _module, _args, out: self.changes.append(out[0]))

    def loss(self, clip: Clip, timestep: Tensor, flow_weight: float, refined: bool) -> Tensor:
        """Of one batch."""
        self.changes.clear()
        with torch.autocast("cpu", torch.bfloat16), SamplingInFloat():
            plane = timestep.view(-1, 1, 1, 1).expand(-1, 1, *clip.frame.shape[-2:])
            motion = self.net.motion(clip.img0, clip.img1, extra=(plane,))
            frame = self.net.refine(clip.img0, clip.img1, motion).frame.float() if refined else None
        flows = itertools.accumulate(change.float() for change in self.changes)
        off = [torch.linalg.vector_norm((flow - clip.flow).unflatten(1, (2, 2)), dim=2).mean() for flow in flows]
        weight = torch.sigmoid(motion.mask.float())
        merged = motion.warped_img0.float() * weight + motion.warped_img1.float() * (1 - weight)
        loss = flow_weight * (0.5 * off[0] + 0.7 * off[1] + off[2])
        loss = loss + (0.3 if refined else 1.0) * laplacian(merged, clip.frame)
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
def validated(net: IFNet_m, clips: list[tuple[Clip, Tensor]], refined: bool) -> list[float]:
    """Per size: mean error of the flow in pixels, mean PSNR of the frame, and of the average of the frames."""
    row = []
    for clip, timestep in clips:
        off, ours, average = [], [], []
        for i in range(len(timestep)):
            img0, img1, frame = (image[i : i + 1] for image in (clip.img0, clip.img1, clip.frame))
            motion = net.motion(img0, img1, extra=(torch.full_like(img0[:, :1], 0.5),))
            if refined:
                result = net.refine(img0, img1, motion).frame
            else:
                result = torch.lerp(motion.warped_img1, motion.warped_img0, torch.sigmoid(motion.mask))
            off.append((motion.flow - clip.flow[i : i + 1]).unflatten(1, (2, 2)).norm(dim=2).mean().item())
            ours.append(psnr_db(result, frame))
            average.append(psnr_db((img0 + img1) / 2, frame))
        row += [sum(values) / len(values) for values in (off, ours, average)]
    return row


def psnr_db(a: Tensor, b: Tensor) -> float:
    """Peak 1."""
    return -10 * math.log10(max((a - b).square().mean().item(), 1e-12))


def batches(seed: int, step: int) -> Iterator[tuple[Clip, Tensor]]:
    """Endless; one canvas in forty batches is drawn anew."""
    canvases = canvases_from_families(TRAINING, count=24, seed=seed + step)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    for index in itertools.count(step):
        if index % 40 == 39:
            slot = index // 40 % len(canvases)
            drawn = texture(TRAINING[slot % len(TRAINING)], np.random.default_rng([seed, 10_000 + index]))
            canvases[slot] = torch.from_numpy(drawn)
        height, width, count = SIZES[index % len(SIZES)]
        anywhere = torch.rand(count, generator=generator) * 0.8 + 0.1
        timestep = torch.where(torch.rand(count, generator=generator) < 0.5, 0.5, anywhere)
        motion_px = 0.3 + 6.2 * torch.rand(count, generator=generator)
        motion_px *= torch.where(torch.rand(count, generator=generator) < 0.12, 2.0, 1.0)
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
    net = prepared_network(options.seed)
    trained = [parameter for name, parameter in net.named_parameters() if not name.startswith("block_tea")]
    optimiser = torch.optim.AdamW(trained, lr=PEAK_RATE, weight_decay=1e-4, fused=True)
    averaged = {key: value.clone() for key, value in net.state_dict().items()}
    step, samples, spent_s, rows = 0, 0, 0.0, []
    state_file = options.output / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        averaged, step, samples = state["averaged"], state["step"], state["samples"]
        spent_s, rows = state["spent_s"], state["rows"]
        print(f"going on from step {step}, {spent_s / 60:.1f} minutes", flush=True)
    trainee, clips = Trainee(net), validation_clips(options.seed)
    stopwatch = time.monotonic() - spent_s
    validated_at, saved_at, recent = -1e9, spent_s, []
    second_stage_at = None

    def record() -> None:
        own = IFNet_m().eval()
        own.load_state_dict(averaged)
        values = [spent_s / 60, step, samples, sum(recent) / max(1, len(recent))]
        rows.append(dict(zip(COLUMNS, values + validated(own, clips, refined), strict=True)))
        print(json.dumps({key: round(value, 4) for key, value in rows[-1].items()}), flush=True)
        with atomic_path(options.output / "curve.csv") as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        with atomic_path(options.output / "curve.png") as partial:
            plot(partial, rows)

    def save() -> None:
        state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "averaged": averaged, "step": step}
        state |= {"samples": samples, "spent_s": spent_s, "rows": rows}
        with atomic_path(state_file) as partial:
            torch.save(state, partial)
        about = {"steps": str(step), "samples": str(samples), "minutes": f"{spent_s / 60:.0f}", "trained": "demo"}
        save_weights(options.output / "demo.safetensors", averaged, about)

    for clip, timestep in batches(options.seed, step):
        spent_s = time.monotonic() - stopwatch
        part = spent_s / (60 * options.minutes)
        refined = part >= STAGE_1
        if spent_s - validated_at > 300 or part >= 1:
            record()
            recent, validated_at = [], spent_s
        if spent_s - saved_at > 120 or part >= 1:
            save()
            saved_at = spent_s
        if part >= 1:
            break
        if step % 10 == 0:
            torch.set_num_threads(1 if os.getloadavg()[0] > options.threads + 0.7 else options.threads)
        if refined and second_stage_at is None:
            second_stage_at = step
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(part)
        flow_weight = 0.01 if refined else 0.15 * (1 - part / STAGE_1) + 0.03
        loss = trainee.loss(clip, timestep, flow_weight, refined)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        recent.append(loss.item())
        step, samples = step + 1, samples + len(timestep)
        kept = min(AVERAGED, (step + 1) / (step + 10))
        with torch.no_grad():
            for key, value in net.state_dict().items():
                averaged[key].lerp_(value, 1 - kept)


if __name__ == "__main__":
    main()
