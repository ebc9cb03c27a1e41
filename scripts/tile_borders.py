"""The table of docs/interpolation.md: frames computed in tiles beside whole ones, with RIFE 4.0 on real pictures.

python scripts/tile_borders.py [--size HxW]... [--tile N]... [--frames A.png B.png]

The pictures are mirrored to each size, which keeps their motion, or enlarged to it, which makes it longer. A step is
what tiles add to the difference of two pixels that are neighbours; it is averaged along each line between two rows or
columns. Levels are of 255.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
from measuring import head, row
from numpy.typing import NDArray
from PIL import Image

from refine_export.accuracy.metrics import psnr_from_mse
from refine_export.data.street_frames import street_frames
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolation_options import ComputeOptions
from refine_export.interpolation.tiles import TiledInterpolator
from refine_export.signature import parse_size

Frame = NDArray[np.float32]
"""RGB, [H, W, 3], in [0, 1]."""


def worst_steps(made: Frame, whole: Frame, tiled: TiledInterpolator) -> tuple[float, float]:
    """Return the largest step, in levels, of the lines where tiles meet and of all others."""
    added = (made.astype(np.float64) - whole) * 255
    at_borders, elsewhere = [0.0], [0.0]
    for axis in (0, 1):
        steps = np.abs(np.diff(added, axis=axis)).mean((1 - axis, 2))
        starts = tiled.starts(made.shape[axis])
        middles = [(before + tiled.side + after) / 2 for before, after in itertools.pairwise(starts)]
        for line, step in enumerate(steps, 1):
            meet = any(abs(line - middle) <= tiled.fade / 2 for middle in middles)
            (at_borders if meet else elsewhere).append(float(step))
    return max(at_borders), max(elsewhere)


def pictures(paths: tuple[Path, Path], size: tuple[int, int], how: str) -> list[Frame]:
    """Read two pictures, and mirror or enlarge them."""
    height, width = size
    frames = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        if how == "enlarged":
            image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.BICUBIC)
        levels = np.asarray(image)[:height, :width]
        padding = ((0, height - levels.shape[0]), (0, width - levels.shape[1]), (0, 0))
        frames.append(np.pad(levels, padding, "symmetric").astype(np.float32) / np.float32(255))
    return frames


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, action="append")
    parser.add_argument("--tile", type=int, action="append")
    parser.add_argument("--frames", type=Path, nargs=2)
    options = parser.parse_args()
    paths = options.frames or street_frames()
    head("Frame", "Tile", "Pixels", "Processor time", "PSNR", "Step where tiles meet, elsewhere")
    with Backend(ComputeOptions()).open() as interpolator:
        for size, how in itertools.product(options.size or [(1088, 1920)], ("mirrored", "enlarged")):
            frames = pictures(paths, size, how)
            started = time.process_time()
            whole = interpolator.interpolate(*frames, 0.5)
            alone = time.process_time() - started
            for tile in options.tile or [512, 768, 1024]:
                tiled = TiledInterpolator(interpolator, tile)
                started = time.process_time()
                made = tiled.interpolate(*frames, 0.5)
                seconds = time.process_time() - started
                count = len(tiled.starts(size[0])) * len(tiled.starts(size[1]))
                row(
                    f"{size[0]}x{size[1]}, {how}",
                    f"{tile}",
                    f"{count * tiled.side**2 / (size[0] * size[1]):.2f}",
                    f"{seconds / alone:.2f}",
                    f"{psnr_from_mse(float(np.mean((made.astype(np.float64) - whole) ** 2))):.1f} dB",
                    ", ".join(f"{step:.3f}" for step in worst_steps(made, whole, tiled)),
                )


if __name__ == "__main__":
    main()
