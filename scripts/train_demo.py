"""Train the demo weights: IFNet_m on drawn sequences, on a CPU, for a given time.

python scripts/train_demo.py --output runs/demo --minutes 75
python scripts/train_demo.py --output runs/demo --minutes 75      (again: continues where it stopped)

Two stages: first the two finer blocks of the flow network, trained on the exact flows and the blended frame; then the
whole network, with the coarsest block and the refinement, trained mainly on the frame. The learning rate follows the
share of the time that has passed.
OUTPUT receives `state.pt` (to continue from), `demo.safetensors` (averaged weights in FP16), `curve.csv` and
`curve.png`.
"""

import argparse
import csv
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from demo_training import OUTERMOST, Muon, loss_of, prepared_network
from flow_truth import DrawnClip
from random_layers import SequenceOptions, canvases_from_families, draw_sequences
from textures import HELD_OUT, TRAINING, texture
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from refine_export.support.files import atomic_path
from rife.ifnet import IFNet_m

STAGE_1, ONLY_MIDDLE = 1 / 3, 0.15  # parts of the time
SHARE_OF_HALF = 0.6  # of the clips, after that, have t = 0.5; the others any t
PEAK_RATE, LAST_RATE, WARM_UP = 3e-3, 2e-5, 0.02
AVERAGED = 0.995  # of the moving average of the weights, per step
SIZES = ((64, 16), (128, 6), (96, 10), (192, 3))  # height and width, clips in a batch, in turn
VALIDATED_EVERY_S = 600.0
REACH = 1 / 9  # of a clip's side: the most that a point moves
VALIDATION = ((64, 64, 12), (256, 448, 3))  # height, width, clips
COLUMNS = ("minutes", "step", "samples", "loss", "px_64", "db_64", "average_64", "px_256", "db_256", "average_256")


def validation_clips(seed: int) -> list[tuple[DrawnClip, Tensor]]:
    """Draw the validation clips: the same at every call, from textures and seeds that training does not use."""
    canvases = canvases_from_families(HELD_OUT, count=6, seed=seed + 1_000_003)
    clips = []
    for height, width, count in VALIDATION:
        generator = torch.Generator().manual_seed(seed + 7)
        motion_px, timestep = torch.rand(count, generator=generator) * 3 + 1, torch.full((count,), 0.5)
        options = SequenceOptions(height=height, width=width)
        clips.append((draw_sequences(canvases, options, motion_px, timestep, generator), timestep))
    return clips


@torch.no_grad()
def validated(net: IFNet_m, clips: list[tuple[DrawnClip, Tensor]]) -> list[float]:
    """Return for each size the mean error of the flow in pixels, and the mean PSNR of the frame and of the average."""
    row = []
    for clip, timestep in clips:
        off, ours, average = [], [], []
        for i in range(len(timestep)):
            img0, img1, frame = (image[i : i + 1] for image in (clip.img0, clip.img1, clip.frame))
            motion = net.motion(img0, img1, timestep=0.5)
            result = net.refine(img0, img1, motion).frame
            off.append((motion.flow - clip.flow[i : i + 1]).unflatten(1, (2, 2)).norm(dim=2).mean().item())
            ours.append(psnr_db(result, frame))
            average.append(psnr_db((img0 + img1) / 2, frame))
        row += [sum(values) / len(values) for values in (off, ours, average)]
    return row


def psnr_db(a: Tensor, b: Tensor) -> float:
    """Return the PSNR of two images of peak 1."""
    return -10 * math.log10(max((a - b).square().mean().item(), 1e-12))


class Batches(IterableDataset[tuple[DrawnClip, Tensor]]):
    """Endless batches; a share of the clips has t = 0.5, and one canvas is redrawn every ten batches."""

    def __init__(self, seed: int, step: int, share_of_half: torch.Tensor) -> None:
        self.seed, self.step, self.share_of_half = seed, step, share_of_half

    def __iter__(self) -> Iterator[tuple[DrawnClip, Tensor]]:
        torch.set_num_threads(1)
        canvases = canvases_from_families(TRAINING, count=8, seed=self.seed + self.step)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        for index in itertools.count(self.step):
            if index % 10 == 9:
                slot = index // 10 % len(canvases)
                drawn = texture(TRAINING[slot % len(TRAINING)], np.random.default_rng([self.seed, 10_000 + index]))
                canvases[slot] = torch.from_numpy(drawn)
            side, count = SIZES[index % len(SIZES)]
            anywhere = torch.rand(count, generator=generator) * 0.8 + 0.1
            timestep = torch.where(torch.rand(count, generator=generator) < self.share_of_half, 0.5, anywhere)
            motion_px = 0.3 + (REACH * side - 0.3) * torch.rand(count, generator=generator) ** 1.5
            options = SequenceOptions(height=side, width=side, layers=2)
            yield draw_sequences(canvases, options, motion_px, timestep, generator), timestep


def learning_rate(part: float) -> float:
    """Return the learning rate: half a cosine with a warm-up in each stage; `part` is the share of time that passed."""
    along = min(1.0, max(0.0, (part - WARM_UP) / (1 - WARM_UP)))
    rate = LAST_RATE + (PEAK_RATE - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * along))
    return rate * min(1.0, 0.02 + (part if part < STAGE_1 else part - STAGE_1) / WARM_UP)


def save_weights(path: Path, averaged: dict[str, Tensor], about: dict[str, str]) -> None:
    """Write FP16 safetensors with upstream's keys; the teacher, which is not trained, is zeros."""
    from safetensors.torch import save_file

    weights = {key: (value * (not key.startswith("block_tea"))).half().contiguous() for key, value in averaged.items()}
    with atomic_path(path) as partial:
        save_file(weights, partial, metadata=about)


def plot(path: Path, rows: list[dict[str, float]]) -> None:
    """Draw the PSNR above that of the average of the frames over the minutes: 64 px in blue, 256 px in red."""
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
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    net = prepared_network(options.seed).to(memory_format=torch.channels_last)
    trained = {name: value for name, value in net.named_parameters() if not name.startswith("block_tea")}
    coarsest = [value for name, value in trained.items() if name.startswith("block0")]
    rest = {name: value for name, value in trained.items() if not name.startswith("block0")}
    hidden = [value for name, value in rest.items() if value.ndim == 4 and not OUTERMOST.search(name)]
    others = [value for name, value in rest.items() if value.ndim != 4 or OUTERMOST.search(name)]
    # The coarsest block's flow counts eightfold, and meets blocks that are trained: its steps are short.
    optimisers: list[tuple[torch.optim.Optimizer, float]] = [
        (Muon(hidden, PEAK_RATE), 1.0),
        (torch.optim.AdamW(others, weight_decay=0, fused=True), 0.5),
        (torch.optim.AdamW(coarsest, weight_decay=0, fused=True), 0.15),
    ]
    averaged = {key: value.clone() for key, value in net.state_dict().items()}
    step, samples, spent_s, rows = 0, 0, 0.0, []
    state_file = options.output / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        net.load_state_dict(state["net"])
        for (optimiser, _), saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        averaged, step, samples = state["averaged"], state["step"], state["samples"]
        spent_s, rows = state["spent_s"], state["rows"]
        print(f"going on from step {step}, {spent_s / 60:.1f} minutes", flush=True)
    clips = validation_clips(options.seed)
    stopwatch = time.monotonic() - spent_s
    validated_at, saved_at, recent = spent_s - VALIDATED_EVERY_S, spent_s, []

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
        state = {"net": net.state_dict(), "optimisers": [optimiser.state_dict() for optimiser, _ in optimisers]}
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
        share_of_half.fill_(1.0 if part < ONLY_MIDDLE else SHARE_OF_HALF)
        if spent_s - validated_at > VALIDATED_EVERY_S or part >= 1:
            record()
            recent, validated_at = [], spent_s
        if spent_s - saved_at > 180 or part >= 1:
            save()
            saved_at = spent_s
        if part >= 1:
            break
        flow_weight = 0.02 + 0.13 * (1 - part) ** 2
        loss = loss_of(net, clip, timestep, flow_weight, complete)
        for optimiser, factor in optimisers:
            optimiser.zero_grad()
            optimiser.param_groups[0]["lr"] = factor * learning_rate(part)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for optimiser, _ in optimisers:
            optimiser.step()
        recent.append(loss.item())
        if step % 100 == 99:
            print(f"step {step + 1}, {spent_s / 60:.1f} minutes, loss {np.mean(recent[-100:]):.4f}", flush=True)
        step, samples = step + 1, samples + len(timestep)
        kept = min(AVERAGED, (step + 1) / (step + 10))
        moved = [name for name, value in trained.items() if value.grad is not None]
        torch._foreach_lerp_([averaged[name] for name in moved], [trained[name].detach() for name in moved], 1 - kept)


if __name__ == "__main__":
    main()
