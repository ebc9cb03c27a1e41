"""Sample frames by formula: a beach seen from above, with the exact flow and visibility between two times.

    scene = Scene(SceneOptions(height=256, width=448, motion_px=12.0))
    frame0, middle, frame1 = scene.frame(0.0), scene.frame(0.5), scene.frame(1.0)

Legend: N = 1, C = 3 (RGB), H, W in pixels. A point of the plane is a complex number, x + iy with y downwards.
World points are measured from the middle of the frame in units of its shorter side, layer points from the
layer's centre in units of the layer's size. A layer moves by a similarity: world = centre + factor * layer.

1. A colour is a function of the layer point, evaluated at the inverse warp of each frame's own pixels: every
   t is exact and equally sharp.
2. Shading and drop shadows are painted on the layer that shows them, as they lie at t = 0.5: a point keeps
   its colour while it moves, so that warping by the true flow gives the true frame.
3. No pattern holds detail finer than the pixels can show: octaves fade out, edges are a few pixels wide.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from refine_export.scene_layers import CAST, EDGE_PX, LATTICE, SUN, Brush, Layer, mix, rise
from refine_export.signature import LARGEST_SIDE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from refine_export.scene_layers import Field, Points

SMALLEST_SIDE_PX = 16
LARGEST_MOTION_PX = 64.0
LARGEST_TURN = 0.8  # radians between t=0 and t=1, and the same for the logarithm of the scale


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """What `Scene` draws."""

    height: int = 256
    """H, pixels; at least 16."""
    width: int = 448
    """W, pixels; at least 16."""
    motion_px: float = 12.0
    """Largest displacement of any layer between t=0 and t=1, pixels; 0 to 64. Above a quarter of the shorter
    side, the layer that moves so far may be outside the frame."""
    seed: int = 0
    """Chooses the textures and varies the directions of motion; 0 or more."""

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            _check_int(name, getattr(self, name), SMALLEST_SIDE_PX)
            if getattr(self, name) > LARGEST_SIDE:
                raise ValueError(f"{name} is {getattr(self, name)}: give at most {LARGEST_SIDE}")
        _check_int("seed", self.seed, 0)
        if not 0.0 <= self.motion_px <= LARGEST_MOTION_PX:
            raise ValueError(f"motion_px is {self.motion_px!r}: give 0 to {LARGEST_MOTION_PX:g} pixels")


@dataclass(frozen=True)
class Scene:
    """A picture that moves, with its truth.

    Raises:
        ValueError: from each method, for a time outside [0, 1].
    """

    options: SceneOptions = field(default_factory=SceneOptions)

    def frame(self, t: float) -> NDArray[np.float32]:
        """The picture at time t: [1, 3, H, W], RGB in [0, 1]."""
        import numpy as np

        _check_time(t)
        world = self._world
        picture = np.empty((3, *world.shape), np.float32)
        for index, layer in enumerate(self._layers):
            box = self._box(layer, t)
            points = layer.inverse(world[box], t)
            brush = self._brush(layer)
            colour = layer.paint(brush, points) * self._light(index, layer.forward(points, 0.5))
            alpha = brush.coverage(layer.distance(points))
            picture[:, *box] = mix(picture[:, *box], colour, alpha) if index else colour
        return picture.clip(0.0, 1.0)[None]

    def flow(self, t: float, to: float) -> NDArray[np.float32]:
        """Displacement (x, y), pixels, from time t to time `to` of the point seen at t: [1, 2, H, W].

        Backward-warping `frame(to)` by it gives `frame(t)` where `visible(t, to)`. A pixel on an edge, which
        mixes two layers, moves with the upper one where that covers half of it or more.
        """
        import numpy as np

        shift = self._shift(t, to) * self._unit_px
        return np.stack((shift.real, shift.imag))[None]

    def visible(self, t: float, to: float) -> NDArray[np.bool_]:
        """Where the point seen at time t is in the frame and not covered at time `to`: [1, 1, H, W]."""
        moved, owner = self._world + self._shift(t, to), self._owner(t)
        corner = self._world[-1, -1] + 1e-5 * (1 + 1j)  # rounding is not motion
        seen: NDArray[np.bool_] = (abs(moved.real) <= corner.real) & (abs(moved.imag) <= corner.imag)
        for index, layer in enumerate(self._layers[1:], 1):
            seen &= (owner >= index) | (layer.distance(layer.inverse(moved, to)) > 0)
        return seen[None, None]

    @property
    def _unit_px(self) -> int:
        return min(self.options.height, self.options.width)

    @cached_property
    def _world(self) -> Points:
        import numpy as np

        height, width = self.options.height, self.options.width
        x = np.arange(width) - (width - 1) / 2
        y = np.arange(height) - (height - 1) / 2
        world: Points = ((x + 1j * y[:, None]) / self._unit_px).astype(np.complex64)
        return world

    @cached_property
    def _gradients(self) -> Points:
        import numpy as np

        angles = np.random.default_rng(self.options.seed).uniform(0, 2 * np.pi, (LATTICE, LATTICE))
        gradients: Points = np.exp(1j * angles).astype(np.complex64)
        return gradients

    @cached_property
    def _layers(self) -> tuple[Layer, ...]:
        """From the bottom to the top; the first is the background."""
        import numpy as np

        options, unit = self.options, self._unit_px
        right, bottom = options.width / unit / 2, options.height / unit / 2
        veers = np.random.default_rng([options.seed, 1]).uniform(-0.5, 0.5, len(CAST)).tolist()
        layers: list[Layer] = []
        for row, veer in zip(CAST, veers, strict=True):
            shape, paint, at, size, heading, share, turn, twist, tilt, lift = row
            centre = complex(at.real * right, at.imag * bottom)
            travel = cmath.rect(share * options.motion_px / unit, heading + veer)
            reach = size if layers else math.hypot(right, bottom)
            rate = twist * min(turn * abs(travel) / reach, LARGEST_TURN)
            # A point moves by c(1) - c(0) + (f(1) - f(0)) * point: on the rim of the shape, |travel| at most.
            rim = abs(2 * cmath.sinh(rate / 2)) * reach
            drift = travel * max(0.0, 1 - rim / abs(travel)) if travel else 0j
            layers.append(Layer(shape, paint, centre, size, drift, rate, tilt, lift))
        return tuple(layers)

    def _brush(self, layer: Layer) -> Brush:
        return Brush(1 / (self._unit_px * layer.size), self._gradients)

    def _box(self, layer: Layer, t: float) -> tuple[slice, slice]:
        """The rows and columns that the layer can touch at time t."""
        if layer is self._layers[0]:
            return slice(None), slice(None)
        middle, reach = layer.forward(0, t), abs(layer.factor(t)) + 2 * EDGE_PX / self._unit_px
        sides = zip((middle.imag, middle.real), (self.options.height, self.options.width), strict=True)
        ends = [[(side + sign * reach) * self._unit_px + n / 2 for sign in (-1, 1)] + [n] for side, n in sides]
        rows, columns = (slice(max(0, math.floor(a)), min(n, max(0, math.ceil(b)))) for a, b, n in ends)
        return rows, columns

    def _light(self, below: int, middle: Points) -> Field | float:
        """What the shadows of the layers above leave of the light, at world points of t = 0.5."""
        light: Field | float = 1.0
        for layer in self._layers[below + 1 :]:
            distance = layer.distance(layer.inverse(middle + layer.lift * SUN, 0.5)) * layer.size
            light = light * (1 - 0.42 * rise(-distance, 0.2 * layer.lift + 0.008))
        return light

    def _owner(self, t: float) -> NDArray[np.int8]:
        """The index of the layer that each pixel shows at time t: [H, W]."""
        import numpy as np

        owner = np.zeros(self._world.shape, np.int8)
        for index, layer in enumerate(self._layers[1:], 1):
            box = self._box(layer, t)
            owner[box][layer.distance(layer.inverse(self._world[box], t)) <= 0] = index
        return owner

    def _shift(self, t: float, to: float) -> Points:
        """The displacement from time t to time `to` of what each pixel shows at time t, world units."""
        import numpy as np

        _check_time(t)
        _check_time(to)
        shift, owner = np.empty_like(self._world), self._owner(t)
        for index, layer in enumerate(self._layers):
            mine = owner == index
            shift[mine] = layer.shift(self._world[mine], t, to)
        return shift


def _check_int(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}: give a whole number of at least {least}")


def _check_time(t: float) -> None:
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"the time is {t!r}: give 0 to 1")
