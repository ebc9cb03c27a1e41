"""Pairs of frames with the frame between them and its flow, drawn by the batch: what the demo weights are trained on.

    canvases = canvases_from_families(TRAINING, count=16, seed=0)
    clip = draw_sequences(canvases, SequenceOptions(height=64, width=64), motion_px, timestep, generator)

Legend: N batch, L layers, P canvases, H and W in pixels, S the canvas's side; t in (0, 1).

1. A layer point p is named by the pixel that it has at time t. It moves evenly: at time s it is at p + (s - t) * v(p).
   So the flows from t are exact without a search: -t * v(p) to frame 0 and (1 - t) * v(p) to frame 1.
2. v is a shift, a linear map (rotation, scaling, shear) and slow waves. Its gradient stays below 0.3, so
   the point that a pixel of another frame shows is found by iterating p = x - (s - t) * v(p).
3. A layer's colour and cover are a bilinear sample of a canvas at an affine function of p.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from refine_export.textures import SIDE, texture

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Uniform: TypeAlias = Callable[..., Tensor]  # lowest, highest, the shape after N

ITERATIONS = 4  # rule 2; each shrinks the error to about a quarter at worst, a tenth as a rule
WAVES = 1
STEEPEST_LINEAR = 0.15  # the norm of the linear map's matrix, at most
STEEPEST_WAVE = 0.12  # gradient of a wave, at most
OPAQUE, CLEAR = 0.99, 0.01


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """What `draw_sequences` draws."""

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


@dataclass(frozen=True)
class Clip:
    """Frames at 0, t and 1, and where the points of frame t are in the others."""

    img0: Tensor
    """[N, 3, H, W], RGB in [0, 1]."""
    img1: Tensor
    """[N, 3, H, W]"""
    frame: Tensor
    """[N, 3, H, W], at time t."""
    flow: Tensor
    """[N, 4, H, W] in pixels: (x, y) from frame t to frame 0, then (x, y) to frame 1."""
    owners: Tensor
    """[N, 3, H, W]: which layer a pixel of frame 0, t and 1 shows; -1 where it mixes two."""

    def visible(self) -> Tensor:
        """[N, 2, H, W]: where a pixel of frame t shows one layer, and frame 0 (frame 1) shows the same point."""
        import torch

        from rife.warplayer import warp

        height, width = self.flow.shape[-2:]
        rows, columns = torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)
        seen = []
        for frame, flow in ((0, self.flow[:, :2]), (2, self.flow[:, 2:])):
            x, y = columns + flow[:, 0], rows + flow[:, 1]
            same = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1) & (self.owners[:, 1] >= 0)
            for layer in range(int(self.owners.max()) + 1):
                shown = warp((self.owners[:, frame : frame + 1] == layer).float(), flow)[:, 0]
                same &= (self.owners[:, 1] != layer) | (shown > 1 - 1e-4)
            seen.append(same)
        return torch.stack(seen, 1)


def canvases_from_families(families: Sequence[str], *, count: int, seed: int) -> Tensor:
    """Canvases in turn from each family: [P, S, S, 4]."""
    import numpy as np
    import torch

    drawn = [texture(families[i % len(families)], np.random.default_rng([seed, i])) for i in range(count)]
    return torch.from_numpy(np.stack(drawn))


def draw_sequences(
    canvases: Tensor, options: SequenceOptions, motion_px: Tensor, timestep: Tensor, generator: Generator
) -> Clip:
    """Draw N clips.

    Args:
        canvases: [P, S, S, 4] of `canvases_from_families`.
        options: size and disturbances.
        motion_px: [N], the largest displacement of a point of frame t from frame 0 to frame 1, pixels; most are less.
        timestep: [N], t.
        generator: of the random choices; the same state gives the same clips.
    """
    import torch

    count, layers, height, width = len(timestep), options.layers, options.height, options.width

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        """[N, *shape]"""
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    rows = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    pixels = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)))  # [2, H, W]
    pixels = pixels.expand(count, layers, 2, height, width)
    motion = _Motion(uniform, layers, motion_px, math.hypot(height, width) / 2)
    look = _Look(uniform, layers, len(canvases), generator)

    frames, owners, flow = [], [], []
    for time in (torch.zeros(count), timestep, torch.ones(count)):
        ahead = (time - timestep).view(-1, 1, 1, 1, 1)
        points = pixels
        if time is not timestep:
            for _ in range(ITERATIONS):
                points = pixels - ahead * motion.velocity(points)
        sample = look.sample(canvases, points)  # [N, L, H, W, 4]
        picture, owner = sample[:, 0, :, :, :3], torch.zeros(count, height, width)
        shown = owner.clone()
        for layer in range(1, layers):
            cover = sample[:, layer, :, :, 3]
            picture = torch.lerp(picture, sample[:, layer, :, :, :3], cover[..., None])
            owner = torch.where(cover >= 0.5, float(layer), owner)
            shown = torch.where(cover >= OPAQUE, float(layer), torch.where(cover > CLEAR, -1.0, shown))
        frames.append(picture.permute(0, 3, 1, 2))
        owners.append(shown)
        if time is timestep:
            index = owner.long()[:, None, None].expand(-1, 1, 2, -1, -1)
            moved = motion.velocity(pixels).gather(1, index)[:, 0]
            t = timestep.view(-1, 1, 1, 1)
            flow = [-t * moved, (1 - t) * moved]
    change = uniform(-options.brightness, options.brightness, 1, 1, 1)
    lit = [
        frame * (1 + change * (time.view(-1, 1, 1, 1) - 0.5))
        for frame, time in zip(frames, (torch.zeros(1), timestep, torch.ones(1)), strict=True)
    ]
    grain = uniform(0, options.noise, 1, 1, 1) if options.noise else 0.0
    for frame in (0, 2):
        if options.noise:
            lit[frame] = lit[frame] + grain * torch.randn(lit[frame].shape, generator=generator)
    img0, middle, img1 = (frame.clamp(0, 1).contiguous() for frame in lit)
    return Clip(img0, img1, middle, torch.cat(flow, 1), torch.stack(owners, 1))


class _Motion:
    """Rule 2: the velocity of the layers' points, pixels from frame 0 to frame 1."""

    def __init__(self, uniform: Uniform, layers: int, motion_px: Tensor, reach: float) -> None:
        import torch

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

    def velocity(self, points: Tensor) -> Tensor:
        """[N, L, 2, H, W] at points of that shape."""
        import torch

        x, y = points[:, :, 0], points[:, :, 1]  # [N, L, H, W]
        x_moved, y_moved = (
            self.shift[:, :, i, None, None]
            + self.matrix[:, :, i, 0, None, None] * x
            + self.matrix[:, :, i, 1, None, None] * y
            for i in (0, 1)
        )
        for k in range(WAVES):
            across, down = self.wave[:, :, k, 0, None, None], self.wave[:, :, k, 1, None, None]
            swing = torch.sin(across * x + down * y + self.phase[:, :, k, None, None])
            x_moved = x_moved + self.height[:, :, k, 0, None, None] * swing
            y_moved = y_moved + self.height[:, :, k, 1, None, None] * swing
        return torch.stack((x_moved, y_moved), 2)


class _Look:
    """Rule 3: which canvas a layer is cut from, and how."""

    def __init__(self, uniform: Uniform, layers: int, canvases: int, generator: Generator) -> None:
        import torch

        angle, size = uniform(0, 2 * math.pi, layers), uniform(0.7, 1.5, layers)
        count = len(angle)
        self.cos, self.sin = (angle.cos() * size)[..., None, None], (angle.sin() * size)[..., None, None]
        self.at = uniform(0, SIDE, layers, 2)
        self.canvas = torch.randint(canvases, (count, layers), generator=generator)
        self.there = (uniform(0, 1, layers) < 0.75).float()

    def sample(self, canvases: Tensor, points: Tensor) -> Tensor:
        """RGB and cover at points [N, L, 2, H, W]: [N, L, H, W, 4]."""
        import torch

        x, y = points[:, :, 0], points[:, :, 1]
        u = self.cos * x - self.sin * y + self.at[:, :, 0, None, None]
        v = self.sin * x + self.cos * y + self.at[:, :, 1, None, None]
        left, top = u.floor(), v.floor()
        across, down = (u - left)[..., None], (v - top)[..., None]
        flat, first = canvases.reshape(-1, 4), (self.canvas * SIDE * SIDE)[..., None, None]
        column, row = left.long() % SIDE, top.long() % SIDE
        next_column, next_row = (column + 1) % SIDE, (row + 1) % SIDE

        def corner(row: Tensor, column: Tensor) -> Tensor:
            return flat[first + row * SIDE + column]

        upper = torch.lerp(corner(row, column), corner(row, next_column), across)
        lower = torch.lerp(corner(next_row, column), corner(next_row, next_column), across)
        sample = torch.lerp(upper, lower, down)
        sample[..., 3] *= self.there[..., None, None]
        return sample
