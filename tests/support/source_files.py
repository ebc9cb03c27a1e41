"""Folders and videos of random pictures, and the sources that read them, for tests."""

import numpy as np
from PIL import Image

from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import sources_from_options
from tests.support.interpolation_clips import write_clip

SCENE = SceneOptions(height=64, width=96, motion_px=6.0)


def sources_of(*inputs, scene=SCENE, **options):
    return sources_from_options(FramesOptions(inputs=tuple(map(str, inputs)), **options), scene)


def pixels(number, size=(40, 60)):
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


def folder_of(folder, names, size=(40, 60)):
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(pixels(number, size)).save(folder / name)
    return folder


def video_of(path, frames, codec="ffv1", layout="bgr0", **options):
    """A video of [H, W, 3] pictures; FFV1 of bgr0 keeps every bit."""
    return write_clip(path, frames, codec=codec, layout=layout, **options)


def shown(frame):
    return np.rint(np.moveaxis(frame[0], 0, -1) * 255).astype(np.uint8)
