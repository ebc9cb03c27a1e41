"""Sample frames by formula: a beach seen from above, with exact flow and visibility.

    scene = Scene(SceneOptions(height=256, width=448, motion_px=12.0))
    frame0, middle, frame1 = scene.frame(0.0), scene.frame(0.5), scene.frame(1.0)

Legend: N = 1, C = 3 (RGB), H, W in pixels. A point of the plane is a complex number, x + iy with y downwards.
World points are measured from the middle of the frame in units of its shorter side, layer points from the
layer's centre in units of the layer's size: world = centre + size * exp(i * tilt) * layer, at t = 0.5. The layers move
by the rules of `moving_layers.py`, each by a shift, a turn and growth.

1. Shading and drop shadows are painted on the layer that shows them, as they lie at t = 0.5: a point keeps
   its colour while it moves, so that warping by the true flow gives the true frame.
2. No pattern holds detail finer than the pixels can show: octaves fade out, edges are a few pixels wide.
"""

from __future__ import annotations

import cmath
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refine_export.data.frame_options import SceneOptions
from refine_export.data.moving_layers import Rendered, pixel_places, render
from refine_export.data.scene_layers import CAST, EDGE_PX, LATTICE, SUN, Brush, Field, Layer, Points, smoothstep

BAND = 64  # rows that are painted together
STEEPEST = 0.25  # times |twist|, at most 1.03, the gradient of the velocity: radians of a turn, parts of the size


@dataclass(frozen=True)
class Scene:
    """A picture that moves, with its true flow.

    Raises:
        ValueError: from each method, for a time outside [0, 1].
    """

    options: SceneOptions = field(default_factory=SceneOptions)

    def frame(self, t: float) -> NDArray[np.float32]:
        """Draw the picture at time t: [1, 3, H, W], RGB in [0, 1]."""
        return self.rendered(t).picture.clamp(0, 1).contiguous().numpy()

    def rendered(self, t: float) -> Rendered:
        """Draw the view at time t, with the motion of its pixels; N = 1."""
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"the time is {t!r}: give 0 to 1")
        pixels = pixel_places(1, self.options.height, self.options.width)
        return render(self._beach, pixels, torch.tensor([t - 0.5]))

    @cached_property
    def _beach(self) -> _Beach:
        return _Beach(self.options)


class _Beach:
    """The layers of the scene; points are named by their pixels at t = 0.5."""

    def __init__(self, options: SceneOptions) -> None:
        self.unit_px = min(options.height, options.width)
        self.layers = _layers(options)
        self.count = len(self.layers)
        angles = np.random.default_rng(options.seed).uniform(0, 2 * np.pi, (LATTICE, LATTICE))
        self.gradients: Points = np.exp(1j * angles).astype(np.complex64)

    def velocity(self, layer: int, points: Tensor) -> Tensor:
        """Implement `moving_layers.Layers`: drift + rate * (point - centre)."""
        moving = self.layers[layer]
        rate, start = moving.rate, (moving.drift - moving.rate * moving.centre) * self.unit_px
        x, y = points[:, 0], points[:, 1]
        return torch.stack((start.real + rate.real * x - rate.imag * y, start.imag + rate.imag * x + rate.real * y), 1)

    def colour(self, layer: int, points: Tensor) -> Tensor:
        """Implement `moving_layers.Layers`: the paint in the light that the layers above leave; N = 1."""
        painted = self.layers[layer]
        world: Points = (points[0, 0].numpy() + np.complex64(1j) * points[0, 1].numpy()) / np.float32(self.unit_px)
        box = self._box(painted, world)
        sample = np.zeros((*world.shape, 4), np.float32)
        brush = Brush(1 / (self.unit_px * painted.size), self.gradients)

        def paint(rows: slice) -> None:
            here = world[box][rows]
            own = painted.of_world(here)
            colour = painted.paint(brush, own) * self._light(layer, here)
            sample[box][rows, :, :3] = np.moveaxis(colour, 0, -1)
            sample[box][rows, :, 3] = brush.coverage(painted.distance(own))

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # in bands that fit into the processor's cache
            list(pool.map(paint, [slice(row, row + BAND) for row in range(0, len(sample[box]), BAND)]))
        return torch.from_numpy(sample[None])

    def _box(self, layer: Layer, world: Points) -> tuple[slice, slice]:
        """Return the rows and columns with the points that the layer can cover."""
        if layer is self.layers[0]:
            return slice(None), slice(None)
        near = abs(world - layer.centre) <= layer.size + 2 * EDGE_PX / self.unit_px
        rows, columns = (np.flatnonzero(near.any(axis=axis)).tolist() or [0, -1] for axis in (1, 0))
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def _light(self, below: int, world: Points) -> Field | float:
        """Return the share of light that the shadows of the layers above leave."""
        light: Field | float = 1.0
        for layer in self.layers[below + 1 :]:
            distance = layer.distance(layer.of_world(world + layer.lift * SUN)) * layer.size
            light = light * (1 - 0.42 * smoothstep(-distance, 0.2 * layer.lift + 0.008))
        return light


def _layers(options: SceneOptions) -> tuple[Layer, ...]:
    """Place the cast, from the bottom to the top; the first is the background."""
    unit = min(options.height, options.width)
    right, bottom = options.width / unit / 2, options.height / unit / 2
    veers = np.random.default_rng([options.seed, 1]).uniform(-0.5, 0.5, len(CAST)).tolist()
    layers: list[Layer] = []
    for row, veer in zip(CAST, veers, strict=True):
        shape, paint, at, size, heading, share, turn, twist, tilt, lift = row
        centre = complex(at.real * right, at.imag * bottom)
        travel = cmath.rect(share * options.motion_px / unit, heading + veer)
        reach = size if layers else math.hypot(right, bottom)
        rate = twist * min(turn * abs(travel) / reach, STEEPEST)
        # A point moves by drift + rate * (point - centre): on the rim of the shape, |travel| at most.
        drift = travel * max(0.0, 1 - abs(rate) * reach / abs(travel)) if travel else 0j
        layers.append(Layer(shape, paint, centre, size, drift, rate, tilt, lift))
    return tuple(layers)
