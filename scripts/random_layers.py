"""Random layers for clips by the batch: what the demo weights are trained on, and measured on.

    canvases = canvases_from_families(TRAINING, count=16, seed=0)
    clip = draw_sequences(canvases, SequenceOptions(height=64, width=64), motion_px, timestep, generator)

Legend: N batch, L layers, P canvases, H and W in pixels, S the canvas's side; t in (0, 1). By the rules of
`moving_layers.py`; points are named by their pixel at time t.

1. The velocity is a shift, a linear map (rotation, scaling, shear) and a slow wave.
2. Colour and cover are a bilinear sample of a canvas at an affine function of the point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from flow_truth import DrawnClip, clip_from_rendered
from textures import SIDE, texture
from torch import Generator, Tensor

from refine_export.data.moving_layers import pixel_places, render

Uniform: TypeAlias = Callable[..., Tensor]  # lowest, highest, the shape after N

WAVES = 1
STEEPEST_LINEAR = 0.15  # the norm of the linear map's matrix, at most
STEEPEST_WAVE = 0.12  # gradient of a wave, at most


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """Size and disturbances of the clips of `draw_sequences`."""

    height: int = 64
    """H, pixels."""
    width: int = 64
    """W, pixels."""
    layers: int = 3
    """L, the background included; each of the others is there in three of four clips."""
    brightness: float = 0.04
    """Largest change of the light from frame 0 to frame 1, as a part of it."""
    noise: float = 0.01
    """Largest deviation of the noise on frames 0 and 1; the frame between has none."""

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 2 or self.layers < 1:
            raise ValueError(
                f"{self.layers} layers of {self.height} x {self.width} pixels were asked for; give at least one "
                "layer and 2 x 2 pixels"
            )
        if not (0 <= self.brightness < 1 and 0 <= self.noise < 1):
            raise ValueError(f"brightness {self.brightness} and noise {self.noise} have to be in [0, 1)")


def canvases_from_families(families: Sequence[str], *, count: int, seed: int) -> Tensor:
    """Canvases in turn from each family: [P, S, S, 4]."""
    drawn = [texture(families[i % len(families)], np.random.default_rng([seed, i])) for i in range(count)]
    return torch.from_numpy(np.stack(drawn))


def draw_sequences(
    canvases: Tensor, options: SequenceOptions, motion_px: Tensor, timestep: Tensor, generator: Generator
) -> DrawnClip:
    """Draw N clips.

    Args:
        canvases: [P, S, S, 4] of `canvases_from_families`.
        options: size and disturbances.
        motion_px: [N], the largest displacement of a point of frame t from frame 0 to frame 1, pixels; most are less.
        timestep: [N], t.
        generator: of the random choices; the same state gives the same clips.
    """
    count = len(timestep)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        """[N, *shape]"""
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    layers = _RandomLayers(uniform, options, motion_px, canvases, generator)
    pixels = pixel_places(count, options.height, options.width)
    times = (torch.zeros(count), timestep, torch.ones(count))
    rendered = [render(layers, pixels, time - timestep) for time in times]
    change = uniform(-options.brightness, options.brightness, 1, 1, 1)
    lit = [
        one.picture * (1 + change * (time.view(-1, 1, 1, 1) - 0.5)) for one, time in zip(rendered, times, strict=True)
    ]
    grain = uniform(0, options.noise, 1, 1, 1) if options.noise else 0.0
    for frame in (0, 2):
        if options.noise:
            lit[frame] = lit[frame] + grain * torch.randn(lit[frame].shape, generator=generator)
    return clip_from_rendered([replace(one, picture=shown) for one, shown in zip(rendered, lit, strict=True)], timestep)


class _RandomLayers:
    """The layers of `draw_sequences`: both rules, chosen for each clip."""

    def __init__(
        self, uniform: Uniform, options: SequenceOptions, motion_px: Tensor, canvases: Tensor, generator: Generator
    ) -> None:
        self.count = options.layers
        self.motion = _Motion(uniform, self.count, motion_px, math.hypot(options.height, options.width) / 2)
        self.look = _Look(uniform, self.count, canvases, generator)

    def velocity(self, layer: int, points: Tensor) -> Tensor:
        return self.motion.velocity(layer, points)

    def colour(self, layer: int, points: Tensor) -> Tensor:
        return self.look.colour(layer, points)


class _Motion:
    """Rule 1: the velocity of the layers' points, pixels from frame 0 to frame 1."""

    def __init__(self, uniform: Uniform, layers: int, motion_px: Tensor, reach: float) -> None:
        speed = motion_px.view(-1, 1, 1) * uniform(0.05, 1.0, layers, 1).sqrt()
        turn, wave = uniform(0, 0.35, layers, 1), uniform(0, 0.1, layers, 1)
        heading = uniform(0, 2 * math.pi, layers, 1)
        self.shift = (speed * (1 - turn - wave)) * torch.cat((heading.cos(), heading.sin()), -1)  # [N, L, 2]
        matrix = uniform(-1, 1, layers, 2, 2)
        norm = matrix.square().sum((-2, -1), keepdim=True).sqrt()
        self.matrix = matrix / norm * (speed * turn / reach).clamp(max=STEEPEST_LINEAR)[..., None]  # [N, L, 2, 2]
        length = uniform(40, 160, layers, WAVES)
        angle, self.phase = uniform(0, 2 * math.pi, layers, WAVES), uniform(0, 2 * math.pi, layers, WAVES)
        self.wave = torch.stack((angle.cos(), angle.sin()), -1) * (2 * math.pi / length)[..., None]  # [N, L, K, 2]
        aside = uniform(0, 2 * math.pi, layers, WAVES)
        height = torch.minimum(speed * wave / WAVES, STEEPEST_WAVE * length / (2 * math.pi))
        self.height = torch.stack((aside.cos(), aside.sin()), -1) * height[..., None]  # [N, L, K, 2]

    def velocity(self, layer: int, points: Tensor) -> Tensor:
        """[N, 2, H, W] at points of that shape."""
        x, y = points[:, 0], points[:, 1]  # [N, H, W]
        x_moved, y_moved = (
            self.shift[:, layer, i, None, None]
            + self.matrix[:, layer, i, 0, None, None] * x
            + self.matrix[:, layer, i, 1, None, None] * y
            for i in (0, 1)
        )
        for k in range(WAVES):
            across, down = self.wave[:, layer, k, 0, None, None], self.wave[:, layer, k, 1, None, None]
            swing = torch.sin(across * x + down * y + self.phase[:, layer, k, None, None])
            x_moved = x_moved + self.height[:, layer, k, 0, None, None] * swing
            y_moved = y_moved + self.height[:, layer, k, 1, None, None] * swing
        return torch.stack((x_moved, y_moved), 1)


class _Look:
    """Rule 2: which canvas a layer is cut from, and how."""

    def __init__(self, uniform: Uniform, layers: int, canvases: Tensor, generator: Generator) -> None:
        angle, size = uniform(0, 2 * math.pi, layers), uniform(0.7, 1.5, layers)
        self.cos, self.sin = (angle.cos() * size)[..., None, None], (angle.sin() * size)[..., None, None]
        self.at = uniform(0, SIDE, layers, 2)
        self.canvas = torch.randint(len(canvases), (len(angle), layers), generator=generator)
        self.there = (uniform(0, 1, layers) < 0.75).float()
        self.flat = canvases.reshape(-1, 4)

    def colour(self, layer: int, points: Tensor) -> Tensor:
        """RGB and cover at points [N, 2, H, W]: [N, H, W, 4]."""
        x, y, cos, sin = points[:, 0], points[:, 1], self.cos[:, layer], self.sin[:, layer]
        u = cos * x - sin * y + self.at[:, layer, 0, None, None]
        v = sin * x + cos * y + self.at[:, layer, 1, None, None]
        left, top = u.floor(), v.floor()
        across, down = (u - left)[..., None], (v - top)[..., None]
        first = (self.canvas[:, layer] * SIDE * SIDE)[:, None, None]
        column, row = left.long() % SIDE, top.long() % SIDE
        next_column, next_row = (column + 1) % SIDE, (row + 1) % SIDE

        def corner(row: Tensor, column: Tensor) -> Tensor:
            return self.flat[first + row * SIDE + column]

        upper = torch.lerp(corner(row, column), corner(row, next_column), across)
        lower = torch.lerp(corner(next_row, column), corner(next_row, next_column), across)
        sample = torch.lerp(upper, lower, down)
        sample[..., 3] *= self.there[:, layer, None, None]
        return sample
