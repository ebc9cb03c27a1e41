"""Folders and videos of random pictures, and the sources that read them, for tests."""

import av
import numpy as np
from PIL import Image

from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import sources_from_options

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


def video_of(path, frames, codec="ffv1", layout="bgr0", rotation=None, matrix=None, full_range=None):
    """A video of [H, W, 3] pictures; FFV1 of bgr0 keeps every bit."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = layout
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for pixel in frames:
            ranges = {} if full_range is None else {"dst_color_range": 2 if full_range else 1}
            spaces = {} if matrix is None else {"dst_colorspace": matrix}
            frame = av.VideoFrame.from_ndarray(pixel, format="rgb24").reformat(format=layout, **ranges, **spaces)
            if full_range is not None:
                stream.codec_context.color_range = frame.color_range = 2 if full_range else 1
            if matrix is not None:
                stream.codec_context.colorspace = frame.colorspace = matrix
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown(frame):
    return np.rint(np.moveaxis(frame[0], 0, -1) * 255).astype(np.uint8)
