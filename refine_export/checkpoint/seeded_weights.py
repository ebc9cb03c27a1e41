"""Random weights for tests and benchmarks: the same on every machine, with activations of an even scale."""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

PRELU_SLOPE = 0.25
"""Slope of torch's `PReLU` before training."""

# A flow of up to about 10 pixels, and a residual that is a detail on the blended frame.
_LAST_GAINS = {"lastconv": 0.25, "unet.conv.weight": 0.15}


def seeded_values(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Draw the values of one parameter, which depend only on its key and the seed.

    Weights are He-initialised for a PReLU (He et al., 2015), so that activations keep their scale from layer to layer.

    Args:
        key: name in the state dict.
        shape: `[out, in, h, w]` of a convolution, `[in, out, h, w]` of a transposed one, or `[channels]`.
        seed: 0 to 2**32 - 1.
    """
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(key.encode())]))
    if key.endswith(".bias"):
        values = generator.standard_normal(shape) * 0.02
    elif len(shape) == 4:
        # ConvTranspose2d 4x4 with stride 2: a quarter of the taps of shape[0] channels meet in one output.
        transposed = "lastconv" in key or ".up" in key
        fan_in = shape[0] * shape[2] * shape[3] / 4 if transposed else math.prod(shape[1:])
        gain = next((gain for part, gain in _LAST_GAINS.items() if part in key), 1.0)
        values = generator.standard_normal(shape) * gain * (2 / (1 + PRELU_SLOPE**2) / fan_in) ** 0.5
    else:
        values = generator.uniform(0.1, 0.4, shape)  # slopes of the PReLUs
    return values.astype(np.float32)
