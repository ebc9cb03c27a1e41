"""Small data sets in every layout, drawn from the procedural scene, whose true middle frames are known."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from refine_export.data.frame_options import SceneOptions
from refine_export.data.images import uint8_from_frame
from refine_export.data.sample_scene import Scene

SIZE = (48, 80)
"""Not a multiple of the networks' padding."""


@functools.cache
def drawn_triplet(seed: int = 0, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, ...]:
    """Draw the frames at the times 0, 0.5 and 1, uint8 [H, W, 3]."""
    scene = Scene(SceneOptions(height=size[0], width=size[1], motion_px=4.0, seed=seed))
    return tuple(uint8_from_frame(scene.frame(t)) for t in (0.0, 0.5, 1.0))


def write_triplet(*paths: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    """Write the three frames of a seed."""
    for path, picture in zip(paths, drawn_triplet(seed, size), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def draw_data_set(folder: Path, layout: str, count: int = 2) -> Path:
    """Write a data set of `count` triplets a split."""
    for seed in range(count):
        name = f"0000{seed + 1}/0001"
        match layout:
            case "vimeo-triplet":
                frames = [folder / "sequences" / name / f"im{k}.png" for k in (1, 2, 3)]
                _append(folder / "tri_testlist.txt", f"{name}\n\n")
            case "vimeo-septuplet":
                frames = [folder / "sequences" / name / f"im{k}.png" for k in (3, 4, 5)]
                _append(folder / "sep_testlist.txt", f"{name}\n")
            case "ucf101":
                inner = folder / "ucf101_interp_ours" / str(10 * seed + 1)
                frames = [inner / name for name in ("frame_00.png", "frame_01_gt.png", "frame_02.png")]
                write_triplet(*(inner / f"{k}.png" for k in ("frame_01_ours", "a", "b")), seed=9)
            case "middlebury":
                data, truths = (folder / top / f"Name{seed}" for top in ("other-data", "other-gt-interp"))
                frames = [data / "frame10.png", truths / "frame10i11.png", data / "frame11.png"]
            case "snu-film":
                inner = folder / "test" / "GOPRO_test" / f"clip{seed}"
                frames = [inner / f"{k:05}.png" for k in (1, 3, 5)]
                line = " ".join(f"data/SNU-FILM/{path.relative_to(folder)}" for path in frames)
                for split in ("easy", "medium", "hard", "extreme"):
                    _append(folder / f"test-{split}.txt", f"{line}\n")
            case _:
                frames = [folder / f"clip{seed}" / f"frame{k}.png" for k in (9, 10, 11)]
        write_triplet(*frames, seed=seed)
    return folder


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + text)
