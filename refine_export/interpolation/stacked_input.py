"""ONNX files that take both frames in one input, as those of vs-mlrt (AmusementClub/vs-mlrt, scripts/vsmlrt.py).

7 channels    frame 0, frame 1, timestep
11 channels   and the horizontal and vertical coordinates in [-1, 1], 2 / (W - 1), 2 / (H - 1)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refine_export.data.colour import Picture
from refine_export.data.images import uint8_from_frame
from refine_export.errors import RequestError
from refine_export.graph.model_file import model_from_file
from refine_export.interpolation.interpolator import Interpolator
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.signature import padded_size

CHANNELS = (7, 11)
MULTIPLE_OF = 64
"""Frames are padded for the coarsest of the networks, RIFE 4.25 and later."""


def is_stacked(path: Path) -> bool:
    """Return whether an ONNX file has one input with the channels of a stack.

    Raises:
        GraphError: not an ONNX file, or one that is damaged.
    """
    inputs = model_from_file(path).graph.input
    shape = [one.dim_value for one in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    return len(shape) == 4 and shape[1] in CHANNELS


class StackedInterpolator(Interpolator):
    """Computes frames with such a file, in ONNX Runtime."""

    takes_timestep = True

    def __init__(self, path: Path) -> None:
        self._runner = OrtRunner(path)
        self._path = path
        [self._input] = self._runner.inputs
        self.provider = f"{self._runner.backend} {self._runner.version}, {self._runner.provider}"

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()

    def _interpolate(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        height, width = frame0.shape[:2]
        stack = stacked(frame0, frame1, timestep, int(self._input.shape[1]))[None].astype(self._input.dtype)
        expected = [size for size in self._input.shape[2:] if isinstance(size, int)]
        if expected and expected != list(stack.shape[2:]):
            raise RequestError(
                f"frames are fed as {list(stack.shape)}, and {self._path} takes {list(self._input.shape)}; make a "
                "dynamic file, or one for this size",
                code="size-not-taken",
                file=str(self._path),
                size=stack.shape[2:],
            )
        frame = next(iter(self._runner.run({self._input.name: stack}).values()))[:, :, :height, :width]
        if frame.shape != (1, 3, height, width) or not np.isfinite(frame).all():
            raise RequestError(f"{self._path} returns {list(frame.shape)} or NaN for a frame", code="not-a-frame")
        if frame0.dtype != np.uint8:
            return np.asarray(np.moveaxis(frame[0], 0, -1), np.float32).clip(0, 1)
        return uint8_from_frame(frame)


def stacked(frame0: Picture, frame1: Picture, timestep: float, channels: int) -> NDArray[np.float32]:
    """Put two frames [H, W, 3] and what else the channels are into [C, H, W], padded."""
    height, width = padded_size(frame0.shape[0], frame0.shape[1], MULTIPLE_OF)
    padding = ((0, height - frame0.shape[0]), (0, width - frame0.shape[1]), (0, 0))
    stack = np.empty((channels, height, width), np.float32)
    for start, picture in ((0, frame0), (3, frame1)):
        image = np.pad(picture, padding, mode="edge").astype(np.float32)
        stack[start : start + 3] = np.moveaxis(image, -1, 0) / (255 if picture.dtype == np.uint8 else 1)
    stack[6] = timestep
    if channels == 11:
        stack[7] = np.linspace(-1, 1, width, dtype=np.float32)
        stack[8] = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        stack[9], stack[10] = 2 / (width - 1), 2 / (height - 1)
    return stack
