"""Measure the middle frame of a checkpoint against the average, the nearer frame and classical optical flow.

python scripts/evaluate_demo.py [weights.safetensors] --output out [--pair frame0.png frame1.png]...

The clips are of texture families and seeds that were not used in training (`textures.HELD_OUT`), and of the beach of
`refine-export run`. OUTPUT receives `figures.md`, `figures.json` and `pictures.png`, a contact sheet. Classical flow is
OpenCV's DIS (pip install '.[evaluate]'); where OpenCV is missing, its column reports that.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_layers import SequenceOptions, canvases_from_families, draw_sequences
from textures import HELD_OUT
from torch import Tensor

from refine_export.accuracy.metrics import compare
from refine_export.checkpoint.checkpoint import Checkpoint, checkpoint_from_file
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.data.images import cropped, padded, uint8_from_frame
from refine_export.data.sample_scene import Scene
from refine_export.export.reference_network import graph_network, reference_network
from refine_export.support.files import atomic_path, write_text
from refine_export.support.imports import import_if_installed
from rife.warplayer import warp

NETWORK, AVERAGE, NEARER, CLASSICAL = "network", "average", "nearer frame", "classical flow"
MOTIONS_PX = (2, 4, 8, 16)  # the largest displacement in a clip
PLAN = (((256, 448), MOTIONS_PX, 4), ((1088, 1920), (4, 16), 1))  # size, motions, clips of each family
SEED = 20_000_001  # far from the seeds of the training
BEACH = "beach"
FAMILIES_AT_PX = 4  # the motion whose families are shown one by one
PICTURES_PX = (4, 8)  # motions whose first clips are shown


@dataclass(frozen=True)
class Triplet:
    """A pair with its true middle frame, each [1, 3, H, W]."""

    family: str
    size: tuple[int, int]
    motion_px: int
    img0: Tensor
    img1: Tensor
    middle: Tensor


@dataclass(frozen=True)
class Score:
    """Score of one method on one triplet."""

    family: str
    size: tuple[int, int]
    motion_px: int
    method: str
    psnr_db: float
    ssim: float


def triplets(plan: tuple[Any, ...]) -> Iterator[Triplet]:
    """Draw the clips of the evaluation: the same at every call."""
    for size, motions, count in plan:
        for motion_px in motions:
            for family_index, family in enumerate((*HELD_OUT, BEACH)):
                for index in range(count):
                    yield triplet(family, family_index, size, motion_px, index)


def triplet(family: str, family_index: int, size: tuple[int, int], motion_px: int, index: int) -> Triplet:
    """Draw one clip from its own seed."""
    seed = SEED + 1000 * family_index + 100 * motion_px + index
    generator = torch.Generator().manual_seed(seed)
    if family == BEACH:
        scene = Scene(SceneOptions(height=size[0], width=size[1], motion_px=float(motion_px), seed=seed))
        frames = [torch.from_numpy(scene.frame(t)) for t in (0.0, 1.0, 0.5)]
    else:
        canvases = canvases_from_families((family,), count=2, seed=seed)
        options = SequenceOptions(height=size[0], width=size[1])
        drawn = draw_sequences(canvases, options, torch.tensor([float(motion_px)]), torch.tensor([0.5]), generator)
        frames = [drawn.img0, drawn.img1, drawn.frame]
    return Triplet(family, size, motion_px, *frames)


def methods(checkpoint: Checkpoint) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the methods that make a middle frame of two, by name."""
    network = graph_network(reference_network(checkpoint), "interpolator")
    extra = (torch.full((1, 1, 1, 1), 0.5),) if checkpoint.architecture == "IFNet_m" else ()
    by_name: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        NETWORK: lambda img0, img1: network(img0, img1, *extra),
        AVERAGE: lambda img0, img1: (img0 + img1) / 2,
        NEARER: lambda img0, _: img0,  # both are equally near; the first is taken
    }
    if import_if_installed("cv2") is not None:
        by_name[CLASSICAL] = classical
    return by_name


def classical(img0: Tensor, img1: Tensor) -> Tensor:
    """Make the middle frame by OpenCV's DIS flow in both directions, halved, with the warp of the networks."""
    import cv2

    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(uint8_from_frame(image.numpy()), cv2.COLOR_RGB2GRAY) for image in (img0, img1)]
    forward, backward = (dis.calc(*pair, None) for pair in (grey, grey[::-1]))
    # At the middle, half of the flow from 0 to 1 leads on to frame 1: the flow is taken to be smooth.
    to0, to1 = (torch.from_numpy(flow).permute(2, 0, 1)[None] / 2 for flow in (backward, forward))
    return (warp(img0, to0) + warp(img1, to1)) / 2


def scored(one: Triplet, by_name: dict[str, Callable[[Tensor, Tensor], Tensor]]) -> Iterator[Score]:
    """Yield the PSNR (peak 1) and SSIM of each method."""
    for name, method in by_name.items():
        metrics = compare(one.middle.numpy(), method(one.img0, one.img1).numpy(), "image", with_ssim=True)
        psnr_db = 99.0 if metrics.psnr_db is None else metrics.psnr_db
        yield Score(one.family, one.size, one.motion_px, name, psnr_db, metrics.ssim or 0.0)


def table(scores: list[Score]) -> str:
    """Return the means of PSNR and SSIM as a Markdown table."""
    names = (NETWORK, AVERAGE, NEARER, CLASSICAL)
    lines = [f"| Clips | {' | '.join(names)} | gain on the average |", "|---" * (len(names) + 2) + "|"]
    for label, chosen in groups(scores):
        cells = []
        for name in names:
            own = [score for score in chosen if score.method == name]
            mean = (
                [statistics.mean(getattr(score, field) for score in own) for field in ("psnr_db", "ssim")]
                if own
                else []
            )
            cells.append(f"{mean[0]:.2f} dB, {mean[1]:.4f}" if mean else "OpenCV is missing")
        lines.append(f"| {label} | {' | '.join(cells)} | {gain_db(chosen):+.2f} dB |")
    return "\n".join(lines) + "\n"


def groups(scores: list[Score]) -> Iterator[tuple[str, list[Score]]]:
    """Yield the scores by size and motion; those to 4 px by family too."""
    for size in dict.fromkeys(score.size for score in scores):
        name = f"{size[0]}x{size[1]}"
        own = [score for score in scores if score.size == size]
        for motion_px in dict.fromkeys(score.motion_px for score in own):
            chosen = [score for score in own if score.motion_px == motion_px]
            yield f"{name}, to {motion_px} px", chosen
            for family in dict.fromkeys(score.family for score in chosen) if motion_px == FAMILIES_AT_PX else ():
                yield f"{name}, to {motion_px} px, {family}", [score for score in chosen if score.family == family]


def gain_db(scores: list[Score]) -> float:
    """Return the mean PSNR of the network minus that of the average of the frames."""
    ours, average = (
        statistics.mean(score.psnr_db for score in scores if score.method == name) for name in (NETWORK, AVERAGE)
    )
    return ours - average


def contact_sheet(
    path: Path,
    shown: list[Triplet],
    pairs: list[tuple[Path, Path]],
    by_name: dict[str, Callable[[Tensor, Tensor], Tensor]],
) -> None:
    """Write a row for each clip and pair: frame 0, each method but the nearer frame, the truth if known, frame 1."""
    from PIL import Image, ImageDraw

    names = [name for name in by_name if name != NEARER]
    rows = []
    for one in shown:
        made = [by_name[name](one.img0, one.img1).numpy() for name in names]
        rows.append([one.img0.numpy(), *made, one.middle.numpy(), one.img1.numpy()])
    for first, second in pairs:
        pair = source_from_options(FramesOptions(pair=(str(first), str(second))), SceneOptions()).pair
        whole = padded(pair)
        img0, img1 = torch.from_numpy(whole.img0), torch.from_numpy(whole.img1)
        made = [cropped(by_name[name](img0, img1).numpy(), pair.size) for name in names]
        rows.append([pair.img0, *made, np.ones_like(pair.img0), pair.img1])
    width, height, line = 300, 172, 18
    labels = ["frame 0", *names, "truth, where known", "frame 1"]
    sheet = Image.new("RGB", (width * len(labels), line + height * len(rows)), "white")
    for column, label in enumerate(labels):
        ImageDraw.Draw(sheet).text((column * width + 4, 3), label, fill="black")
        for row, pictures in enumerate(rows):
            picture = Image.fromarray(uint8_from_frame(pictures[column]))
            sheet.paste(picture.resize((width - 2, height - 2)), (column * width, line + row * height))
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG")


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a .safetensors, .pkl or .pth of IFNet or IFNet_m")
    parser.add_argument("--output", type=Path, default=Path("evaluation"))
    parser.add_argument("--pair", type=Path, nargs=2, action="append", default=[], help="frames to look at")
    parser.add_argument("--small-only", action="store_true", help="leave out 1088x1920")
    options = parser.parse_args()
    checkpoint = checkpoint_from_file(options.checkpoint)
    if checkpoint.architecture == "refinement":
        parser.error(f"{options.checkpoint} holds the refinement alone, which makes no frame; give IFNet or IFNet_m")
    by_name = methods(checkpoint)
    if CLASSICAL not in by_name:
        print("OpenCV is missing, so classical flow is not compared: pip install '.[evaluate]'", flush=True)
    scores, shown = [], []
    for one in triplets(PLAN[:1] if options.small_only else PLAN):
        scores += scored(one, by_name)
        known = {(other.family, other.motion_px) for other in shown}
        if one.size == PLAN[0][0] and one.motion_px in PICTURES_PX and (one.family, one.motion_px) not in known:
            shown.append(one)
    text = f"`{checkpoint.source}`, {checkpoint.architecture}, sha256 `{checkpoint.sha256}`\n\n{table(scores)}"
    write_text(options.output / "figures.md", text)
    about = {
        "checkpoint": checkpoint.source,
        "sha256": checkpoint.sha256,
        "scores": [asdict(score) for score in scores],
    }
    write_text(options.output / "figures.json", json.dumps(about, indent=1) + "\n")
    contact_sheet(options.output / "pictures.png", shown, options.pair, by_name)
    print(text)


if __name__ == "__main__":
    main()
