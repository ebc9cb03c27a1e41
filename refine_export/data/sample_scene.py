"""Sample frames by formula: a beach seen from above, whose true frames at every time are known.

    scene = Scene(SceneOptions(height=256, width=448, motion_px=12.0))
    frame0, middle, frame1 = scene.frame(0.0), scene.frame(0.5), scene.frame(1.0)

Legend: C = 3 (RGB), H, W in pixels. A point of the plane is a complex number, x + iy with y downwards.
World points are measured from the middle of the frame in units of its shorter side, layer points from the
layer's centre in units of the layer's size: world = centre + size * exp(i * tilt) * layer, at t = 0.5. The layers move
evenly, each by a shift, a turn and growth, so that a point is found from its place at any time without a search.

1. Shading and drop shadows are painted on the layer that shows them, as they lie at t = 0.5: a point keeps
   its colour while it moves, so that warping by the true flow gives the true frame.
2. No pattern holds detail finer than the pixels can show: octaves fade out, edges are a few pixels wide.
3. Colour and cover are functions of the point, evaluated again for each frame: no frame is a resampled one.
"""

from __future__ import annotations

import cmath
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from refine_export.data.frame_options import SceneOptions
from refine_export.data.scene_layers import CAST, EDGE_PX, LATTICE, SUN, Brush, Colour, Field, Layer, Points, smoothstep

BAND = 64  # rows that are painted together
STEEPEST = 0.25  # times |twist|, at most 1.03, the gradient of the velocity: radians of a turn, parts of the size


class Scene:
    """A picture that moves."""

    def __init__(self, options: SceneOptions) -> None:
        self.options = options
        self.layers = _layers(self.options)
        self.unit_px = min(self.options.height, self.options.width)
        angles = np.random.default_rng(self.options.seed).uniform(0, 2 * np.pi, (LATTICE, LATTICE))
        self._gradients: Points = np.exp(1j * angles).astype(np.complex64)

    def frame(self, t: float) -> NDArray[np.float32]:
        """Draw the picture at time t: [1, 3, H, W], RGB in [0, 1].

        Raises:
            ValueError: a time outside [0, 1].
        """
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"the time is {t!r}: give 0 to 1")
        down, across = (np.arange(side) - (side - 1) / 2 for side in (self.options.height, self.options.width))
        picture = np.zeros((3, len(down), len(across)), np.float32)

        def paint(rows: slice) -> None:
            world: Points = ((across + 1j * down[rows, None]) / self.unit_px).astype(np.complex64)
            for number, layer in enumerate(self.layers):
                self._paint(number, layer.before(world, t - 0.5), picture[:, rows])

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # in bands that fit into the processor's cache
            list(pool.map(paint, [slice(row, row + BAND) for row in range(0, len(down), BAND)]))
        return picture.clip(0, 1)[None]

    def _paint(self, number: int, world: Points, picture: Colour) -> None:
        """Paint a layer over those below it, in place, in the light that the layers above leave."""
        layer = self.layers[number]
        box = self._box(layer, world)
        here = world[box]
        own = layer.of_world(here)
        brush = Brush(1 / (self.unit_px * layer.size), self._gradients)
        colour = layer.paint(brush, own) * self._light(number, here)
        below = picture[:, *box]
        below += (colour - below) * (brush.coverage(layer.distance(own)) if number else 1)  # the first covers the frame

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
