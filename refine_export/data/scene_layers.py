"""The layers of the sample scene: how they move, their shapes, their textures.

A texture is a function of the layer point and holds no detail finer than the pixels can show: octaves fade out, edges
are a few pixels wide. Points are complex numbers, x + iy with y downwards, in units of the layer's size.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.complexfloating[Any, Any]]  # [H, W]
Field: TypeAlias = NDArray[np.floating[Any]]  # [H, W]
Colour: TypeAlias = NDArray[np.floating[Any]]  # [3, H, W] or [3, 1, 1]
Shape: TypeAlias = Callable[[Points], Field]
Paint: TypeAlias = Callable[["Brush", Points], Colour]

EDGE_PX = 1.2  # half the width of an anti-aliased edge
LATTICE = 256  # period of the noise, in cells: a power of two
SUN = cmath.rect(1.0, math.radians(-125))  # where the light comes from: the upper left


@dataclass(frozen=True)
class Layer:
    """A flat shape that moves evenly; at t = 0.5 it is at `centre`. Positions and lengths are in world units."""

    distance: Shape
    paint: Paint
    centre: complex
    size: float
    """World units to one layer unit; the shape lies in the unit disc."""
    drift: complex
    """Displacement of the centre from t = 0 to 1."""
    rate: complex
    """Growth + i times the turn in radians from t = 0 to 1: a point moves by rate * (point - centre) more."""
    tilt: float
    """Rotation at t = 0.5, radians."""
    lift: float
    """Length of its shadow."""

    def before(self, world: Points, ahead: float) -> Points:
        """Return where the points that are at `world` at t = 0.5 + `ahead` are at t = 0.5."""
        return (world - ahead * (self.drift - self.rate * self.centre)) / (1 + ahead * self.rate)

    def of_world(self, world: Points) -> Points:
        """Convert world points to layer points at t = 0.5."""
        return (world - self.centre) / (self.size * cmath.exp(1j * self.tilt))


@dataclass(frozen=True)
class Brush:
    """Patterns without detail that the pixels cannot show (rule 2 of `sample_scene.py`)."""

    pixel: float
    """Layer units to one pixel."""
    gradients: Points

    def coverage(self, distance: Field) -> Field:
        """Return the share of a pixel that lies inside a shape, from the signed distance of its centre."""
        return smoothstep(-distance, EDGE_PX * self.pixel)

    def line(self, distance: Field, half_width: float) -> Field:
        """Draw a soft line where the distance is 0."""
        finest = max(half_width, EDGE_PX * self.pixel)
        line: Field = (half_width / finest) * np.exp(-((distance / finest) ** 2))
        return line

    def square(self, wave: Field, run: Field | float) -> Field:
        """Turn a sine into a square wave, 0 to 1, with soft edges; `run`: wavelength / 2 pi, layer units."""
        return 0.5 + 0.5 * np.tanh(wave * (run / (0.8 * EDGE_PX * self.pixel)))

    def noise(self, points: Points, frequency: float, octaves: int = 1) -> Field:
        """Draw gradient noise (Perlin, 2002), about -1 to 1; `frequency`: cells per layer unit, first octave."""
        total = np.zeros(points.shape, np.float32)
        for octave in range(octaves):
            cell_px = 1 / (frequency * 2**octave * self.pixel)
            weight = 0.5**octave * min(1.0, max(0.0, (cell_px - 2) / 1.5))
            if weight:
                turned = points * cmath.rect(frequency * 2**octave, 0.6 + octave)
                total += weight * self._lattice(turned + (17 + 31j) * (octave + 1))
        return total

    def _lattice(self, points: Points) -> Field:
        x, y = points.real, points.imag
        column, row = np.floor(x), np.floor(y)
        x, y = x - column, y - row
        i, j = row.astype(np.int32), column.astype(np.int32)

        def corner(down: int, across: int) -> Field:
            gradient = self.gradients[(i + down) & (LATTICE - 1), (j + across) & (LATTICE - 1)]
            slope: Field = gradient.real * (x - across) + gradient.imag * (y - down)
            return slope

        x_weight, y_weight = (s * s * s * (s * (s * 6 - 15) + 10) for s in (x, y))
        upper = _mix(corner(0, 0), corner(0, 1), x_weight)
        return 1.4 * _mix(upper, _mix(corner(1, 0), corner(1, 1), x_weight), y_weight)


# Shapes: the signed distance of layer points, negative inside.


def _everywhere(points: Points) -> Field:
    return -abs(points) - 1


def _lobes(points: Points, count: int, depth: float) -> Field:
    """A circle whose radius goes between 1 - 2 depth and 1, `count` times around."""
    radius, angle = abs(points), count * np.angle(points)
    inner = 1 - 2 * depth
    slope = count * depth * np.sin(angle) * radius / np.maximum(radius, inner) ** 2
    distance: Field = (radius - (1 - depth + depth * np.cos(angle))) / np.hypot(1, slope)
    return distance


_disc = partial(_lobes, count=1, depth=0.0)
_star = partial(_lobes, count=5, depth=0.28)
_scallop = partial(_lobes, count=12, depth=0.02)


def _blade(points: Points) -> Field:
    """Two arcs that meet at (0, -1) and (0, 1)."""
    half_width = 0.26
    offset = (1 - half_width**2) / (2 * half_width)
    distance: Field = np.hypot(abs(points.real) + offset, points.imag) - (offset + half_width)
    return distance


def _slab(points: Points) -> Field:
    """A rectangle with rounded corners."""
    corner = 0.06
    x, y = abs(points.real) - (0.84 - corner), abs(points.imag) - (0.54 - corner)
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0))
    distance: Field = outside + np.minimum(np.maximum(x, y), 0) - corner
    return distance


# Paints: the colour of layer points.


def _beach(brush: Brush, points: Points) -> Colour:
    swell = brush.noise(points, 2.0, 3)
    depth = -0.17 - (points * cmath.rect(1, -0.4)).real + 0.07 * swell  # of the water; negative on land
    fine = brush.noise(points, 40, 5)
    sand = _mix(_rgb("d9b680"), _rgb("f2dcb0"), 0.5 + 0.4 * brush.noise(points, 3.1, 3))
    ripple = np.sin(2 * np.pi * 17 * ((points * cmath.rect(1, -0.9)).real + 0.06 * swell))
    sand = sand * (1 + 0.035 * ripple + 0.11 * fine)
    sand = _mix(sand, sand * _rgb("c2a98f"), smoothstep(depth + 0.075 + 0.01 * fine, 0.03))
    web = brush.noise(points + 0.03 * swell, 9, 2)
    glint = np.exp(-12 * np.sqrt(web**2 + (11 * brush.pixel) ** 2))  # bright along the zeros of the noise
    water = _mix(_rgb("8fdccb"), _rgb("1a8fae"), smoothstep(depth - 0.20, 0.24))
    water = _mix(water, _rgb("0d5f8c"), smoothstep(depth - 0.62, 0.35))
    water = water * (1 + 0.06 * web) + 0.32 * glint * smoothstep(depth - 0.1, 0.12)
    lace = smoothstep(web + 0.25, 0.3)
    foam = brush.line(depth, 0.016) + 0.7 * lace * brush.line(depth - 0.055, 0.022)
    return _mix(_mix(sand, water, brush.coverage(0.004 - depth)), _rgb("fbfdf8"), foam.clip(0, 0.95))


def _surfboard(brush: Brush, points: Points) -> Colour:
    x, y = points.real, points.imag
    colour = _mix(_rgb("fff3dc"), _rgb("f59a2f"), brush.coverage(abs(y - 0.35) - 0.22))
    colour = _mix(colour, _rgb("e4572e"), brush.coverage(abs(y - 0.35) - 0.10))
    colour = _mix(colour, _rgb("f59a2f"), brush.coverage(abs(y + 0.62) - 0.05))
    colour = _mix(colour, _rgb("7a4a2b"), 0.8 * brush.line(x, 0.012))
    grain = brush.noise((3 * x + 0.6j * y).astype(np.complex64), 6, 3)
    return colour * (1.0 + 0.05 * grain - 0.35 * (x + 0.14) ** 2 / 0.16)


def _blanket(brush: Brush, points: Points) -> Colour:
    """Gingham with a plain border."""
    cell = 0.12
    across, down = (brush.square(np.sin(np.pi * side / cell), cell / np.pi) for side in (points.real, points.imag))
    colour = _mix(_rgb("fdf4ea"), _rgb("d1384a"), 0.06 + 0.45 * (across + down))
    inset = _slab(points)
    colour = _mix(colour, _rgb("fdf4ea"), brush.coverage(-inset - 0.10))
    colour = _mix(colour, _rgb("b92c40"), brush.coverage(abs(inset + 0.055) - 0.018))
    return colour * (0.97 + 0.05 * brush.noise(points, 3, 3) + 0.05 * brush.noise(points, 26))


def _starfish(brush: Brush, points: Points) -> Colour:
    height = (-_star(points) / 0.3).clip(0, 1)  # above the sand
    bumps = smoothstep(brush.noise(points, 7.5) - 0.25, 0.3)
    ridge = brush.line(abs(points) * np.sin(2.5 * np.angle(points)), 0.07)
    colour = _mix(_rgb("c9472b"), _rgb("f58a4b"), height**0.7)
    colour = _mix(colour, _rgb("ffd9a8"), 0.75 * bumps * smoothstep(height - 0.15, 0.15))
    return colour * (1 + 0.12 * ridge * smoothstep(abs(points) - 0.12, 0.1) + 0.1 * brush.noise(points, 4, 3))


def _parasol(brush: Brush, points: Points) -> Colour:
    radius, angle = abs(points), np.angle(points)
    panel = brush.square(np.sin(6 * angle), radius / 6)
    rib = brush.line(radius * np.sin(6 * angle) / 6, 0.014)
    colour = _mix(_rgb("fbf6e9"), _rgb("12858c"), panel)
    colour = _mix(colour, _rgb("f6c445"), brush.coverage(abs(radius - 0.86) - 0.035))
    colour = colour * (1 - 0.08 * rib) * (1 + 0.05 * brush.noise(points, 5, 3))
    # A cone: the side towards the sun is brighter.
    shade = 0.92 + 0.17 * (points / SUN).real * smoothstep(radius - 0.1, 0.2)
    return _mix(colour * shade, _rgb("f6c445"), brush.coverage(radius - 0.06))


def _ball(brush: Brush, points: Points) -> Colour:
    """A sphere in six panels, its pole towards the viewer and to one side."""
    x, y = points.real, points.imag
    z = np.sqrt((1 - 0.96 * abs(points) ** 2).clip(0.01, 1))
    up = y * 0.80 + z * 0.60  # the sphere is turned about x
    angle, run = np.arctan2(up, x), np.hypot(x, up)
    panel = brush.square(np.sin(3 * angle), run / 3 * z)
    red, yellow, blue = _rgb("e5383b"), _rgb("ffc93c"), _rgb("2274d1")
    sector = np.floor((angle / np.pi + 1 / 6) * 1.5).astype(int) % 3  # changes in the middle of a white panel
    dye = np.concatenate((red, yellow, blue), axis=2)[:, 0, :][:, sector]
    colour = _mix(_rgb("fdfaf3"), dye, panel * brush.coverage((0.22 - run) * z))
    shade = 0.84 + 0.26 * (points / SUN).real + 0.12 * z
    gleam = np.exp(-(abs(points - 0.42 * SUN) ** 2) / 0.03)
    return _mix(colour * shade.clip(0.4, 1.0), _rgb("ffffff"), 0.6 * gleam)


def _rgb(code: str) -> Colour:
    return np.frombuffer(bytes.fromhex(code), np.uint8).reshape(3, 1, 1) / np.float32(255)


def _mix(below: Field, above: Field, weight: Field | float) -> Field:
    """`below` at weight 0, `above` at weight 1."""
    return below + (above - below) * weight


def smoothstep(x: Field, half_width: float) -> Field:
    """A smooth step, 0 below -half_width and 1 above half_width."""
    s: Field = (x / (2 * half_width) + 0.5).clip(0, 1)
    return s * s * (3 - 2 * s)


# shape, paint; centre in half frames, size; heading of the motion, its part of motion_px, the part of
# that which is turn and growth; twist, tilt; length of the shadow
CAST: tuple[tuple[Shape, Paint, complex, float, float, float, float, complex, float, float], ...] = (
    (_everywhere, _beach, 0, 1.0, 0.3, 0.3, 0.35, 0.6 + 0.8j, 0.0, 0.0),
    (_blade, _surfboard, -0.70 + 0.20j, 0.36, -1.2, 0.75, 0.3, 1j, 0.35, 0.035),
    (_slab, _blanket, 0.40 + 0.36j, 0.38, 2.9, 0.6, 0.5, -1j, -0.3, 0.035),
    (_star, _starfish, -0.14 + 0.62j, 0.15, 0.1, 0.7, 0.6, 1j, 0.2, 0.035),
    (_scallop, _parasol, 0.72 - 0.62j, 0.40, 2.2, 0.8, 0.5, 0.5 + 0.9j, 0.0, 0.09),
    (_disc, _ball, -0.12 - 0.18j, 0.17, 0.4, 1.0, 0.25, 0.5 + 0.9j, 0.0, 0.13),
)
