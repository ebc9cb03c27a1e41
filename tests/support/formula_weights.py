"""Weights that are a formula of the state-dict key: what the arrays in `golden/` were made with."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn


def formula_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """Return the weights that the arrays in `golden/` were made with, from the keys alone."""
    weights = {}
    for key, shape in shapes.items():
        generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
        if key.endswith(".bias"):
            values = generator.standard_normal(shape) * 0.02
        elif key.endswith(".beta"):
            values = generator.uniform(0.05, 0.25, shape)
        elif len(shape) == 4:
            fan_in = int(np.prod(shape[1:]))
            values = generator.standard_normal(shape) * np.sqrt(2 / (1 + 0.25**2) / fan_in)
            values = values * (0.5 if "lastconv" in key else 1)
        else:
            values = generator.uniform(0.1, 0.4, shape)
        weights[key] = torch.from_numpy(values.astype(np.float32))
    return weights


def filled(module: nn.Module) -> nn.Module:
    """A module with the formula's weights, in eval mode."""
    module.load_state_dict(formula_weights({key: tuple(value.shape) for key, value in module.state_dict().items()}))
    return module.eval().requires_grad_(False)


def smooth_image(name: str, size: int) -> torch.Tensor:
    """A smooth random image [1, 3, size, size] in [0, 1] that depends on its name: the input of `golden/networks`."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    values = generator.uniform(0, 1, (1, 3, size // 4, size // 4)).astype(np.float32)
    return nn.functional.interpolate(torch.from_numpy(values), size=(size, size), mode="bilinear", align_corners=False)
