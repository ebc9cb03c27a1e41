"""Textures to cut moving layers from: squares that repeat, with colour and silhouette.

    canvas = texture("leaves", np.random.default_rng(0))    # [512, 512, 4], RGBA in [0, 1]

A canvas wraps around at its sides, and is smoothed to what a bilinear sample of it can show. The families of
`TRAINING` and of `HELD_OUT` share no pattern: what is learned on the first is tested on the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Field: TypeAlias = NDArray[np.float32]  # [S, S]
Colour: TypeAlias = NDArray[np.float32]  # [S, S, 3]
Family: TypeAlias = Callable[[np.random.Generator], tuple[Colour, Field]]

SIDE = 512  # S, pixels
SUPERSAMPLED = 2  # drawn shapes: canvas pixels to one of theirs
LETTERS = "ABCDEFGHKLMNPRSTUVWXYZabdefghknopqrstuvz0123456789&?%"


def texture(family: str, rng: np.random.Generator) -> Colour:
    """A canvas of a family, [512, 512, 4]: RGB, and how much of it there is; in [0, 1].

    Raises:
        ValueError: there is no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}; give one of {', '.join(FAMILIES)}")
    colour, alpha = FAMILIES[family](rng)
    canvas = np.concatenate((colour, alpha[..., None]), axis=2)
    blur_px = rng.uniform(0.45, 0.9)
    smooth = _spectrum(lambda f: np.exp(-2 * (math.pi * f * blur_px) ** 2))
    smoothed = np.fft.irfft2(np.fft.rfft2(canvas, axes=(0, 1)) * smooth[..., None], s=(SIDE, SIDE), axes=(0, 1))
    return smoothed.clip(0, 1).astype(np.float32)


def _clouds(rng: np.random.Generator) -> tuple[Colour, Field]:
    """Noise whose spectrum falls as in photographs."""
    return _photographic(rng, rng.uniform(0.9, 1.8)), _blobs(rng)


def _leaves(rng: np.random.Generator) -> tuple[Colour, Field]:
    """Discs and polygons that cover each other, small ones more often (dead leaves, Lee et al., 2001)."""
    palette = _photographic(rng, 1.0, contrast=0.3)
    smallest = rng.uniform(4, 12)

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for _ in range(int(rng.integers(500, 1200))):
            radius = min(smallest / math.sqrt(rng.uniform(0.002, 1)), 110)
            _shape(pen, rng, radius, _ink(palette[tuple(rng.integers(0, SIDE, 2))]))

    colour = _drawn("RGB", draw, _ink(palette.mean((0, 1))))
    grain = _noise(rng, rng.uniform(0.7, 1.5))

    def draw_silhouettes(pen: ImageDraw.ImageDraw) -> None:
        for _ in range(22):
            _shape(pen, rng, rng.uniform(12, 70), 255)

    alpha = _drawn("L", draw_silhouettes)[..., 0]
    return colour * (1 + rng.uniform(0.02, 0.2) * grain[..., None]).astype(np.float32), alpha


def _bands(rng: np.random.Generator) -> tuple[Colour, Field]:
    """Soft waves of several lengths over a gradient."""
    ramp = np.linspace(0, 2 * math.pi, SIDE, endpoint=False)
    bend = _noise(rng, 2.2) * rng.uniform(0, 2.5)
    colour = _photographic(rng, 2.2)
    for _ in range(int(rng.integers(1, 4))):
        across, down = rng.integers(-60, 61, 2)
        wave = np.sin(across * ramp + down * ramp[:, None] + bend + rng.uniform(0, 7))
        colour = colour + (np.tanh(wave * rng.uniform(0.3, 4)))[..., None] * rng.normal(0, 0.09, 3)
    return colour.astype(np.float32), _blobs(rng)


def _glyphs(rng: np.random.Generator) -> tuple[Colour, Field]:
    """Letters of many sizes."""
    ground, ink = _photographic(rng, 1.6), _photographic(rng, 1.6)

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for _ in range(int(rng.integers(40, 160))):
            size = float(min(10 / math.sqrt(rng.uniform(0.01, 1)), 90))
            letters = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 7))).tolist())
            font, at = ImageFont.load_default(size * SUPERSAMPLED), rng.uniform(0, SIDE, 2)
            for x, y in _copies(at, 6 * size):
                pen.text((x, y), letters, fill=255, font=font)

    cover, alpha = (_drawn("L", draw)[..., 0] for _ in range(2))
    contrast = rng.uniform(0.4, 1)
    mixed = ground + (ink + rng.normal(0, 0.2, 3) - ground) * cover[..., None] * contrast
    return mixed.astype(np.float32), np.maximum(alpha, _blobs(rng) * (rng.random() < 0.5))


def _cells(rng: np.random.Generator) -> tuple[Colour, Field]:
    """Stones with joints: each point belongs to the nearest of random centres (Worley, 1996)."""
    count = int(rng.integers(60, 260))
    at = rng.uniform(0, SIDE, (count, 2))
    axis = np.arange(SIDE, dtype=np.float32)
    nearest = np.full((SIDE, SIDE), np.inf, np.float32)
    second, owner = nearest.copy(), np.zeros((SIDE, SIDE), np.int32)
    for index, (x, y) in enumerate(at):
        across, down = (np.minimum(d, SIDE - d) for d in (abs(axis - x), abs(axis - y)))
        distance = np.hypot(across, down[:, None])
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        nearest, owner = np.where(closer, distance, nearest), np.where(closer, index, owner)
    joint = ((second - nearest) / rng.uniform(2, 5)).clip(0, 1)[..., None]
    dye = rng.normal(0.5, 0.2, (count, 1)) + rng.normal(0, 0.07, (count, 3))
    colour = dye[owner] * (0.3 + 0.7 * joint) * (1 + rng.uniform(0.05, 0.2) * _noise(rng, 1.1)[..., None])
    return colour.astype(np.float32), (rng.random(count) < 0.4)[owner].astype(np.float32)


def _weave(rng: np.random.Generator) -> tuple[Colour, Field]:
    """Cloth: two sets of threads in a plaid of colours, and holes in rows."""
    threads = 8 * int(rng.integers(3, 8))
    phase = np.arange(SIDE) * (threads / SIDE)
    across, down = phase[None, :], phase[:, None]
    over = (np.floor(across) + np.floor(down)) % 2
    round_ = np.sin(math.pi * (np.where(over > 0, down, across) % 1)) ** 0.7
    dye = rng.normal(0.5, 0.2, (2, threads, 1)) + rng.normal(0, 0.08, (2, threads, 3))
    colour = np.where(over[..., None] > 0, dye[0][phase.astype(int)][:, None], dye[1][phase.astype(int)])
    colour = colour * (0.45 + 0.55 * round_[..., None]) * (1 + 0.08 * _noise(rng, 0.8)[..., None])
    ring = np.hypot((across / 8) % 1 - 0.5, (down / 8) % 1 - 0.5)
    return colour.astype(np.float32), ((0.36 - ring) * 60 + 0.5).clip(0, 1).astype(np.float32)


def _marble(rng: np.random.Generator) -> tuple[Colour, Field]:
    """Veins along the zeros of noise."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(3):
        vein = np.exp(-abs(_noise(rng, rng.uniform(1.1, 1.8))) * rng.uniform(3, 9))
        total += vein * rng.uniform(0.2, 0.6)
    low, high = rng.uniform(0, 0.5, 3), rng.uniform(0.5, 1, 3)
    colour = low + (high - low) * total[..., None].clip(0, 1) + rng.uniform(0.03, 0.08) * _noise(rng, 0.6)[..., None]
    stripes = abs(_noise(rng, 2.0)) < 0.45
    return colour.astype(np.float32), stripes.astype(np.float32)


TRAINING = ("clouds", "leaves", "bands", "glyphs")
HELD_OUT = ("cells", "weave", "marble")
FAMILIES: dict[str, Family] = {
    "clouds": _clouds,
    "leaves": _leaves,
    "bands": _bands,
    "glyphs": _glyphs,
    "cells": _cells,
    "weave": _weave,
    "marble": _marble,
}


def _spectrum(of_frequency: Callable[[Field], Field]) -> Field:
    """A function of the frequency (cycles per pixel) on the grid of `rfft2`."""
    frequency = np.hypot(np.fft.rfftfreq(SIDE), np.fft.fftfreq(SIDE)[:, None])
    return of_frequency(frequency.astype(np.float32))


def _noise(rng: np.random.Generator, slope: float) -> Field:
    """Noise with amplitudes as frequency ** -slope: mean 0, deviation 1."""
    falling = _spectrum(lambda f: np.where(f > 0, np.maximum(f, 1 / SIDE) ** -slope, 0))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * falling, s=(SIDE, SIDE))
    noise: Field = (field / field.std()).astype(np.float32)
    return noise


def _photographic(rng: np.random.Generator, slope: float, contrast: float | None = None) -> Colour:
    """Colours as in photographs: most of the variation is light, little is hue."""
    contrast = rng.uniform(0.1, 0.3) if contrast is None else contrast
    light = _noise(rng, slope)[..., None] * contrast
    warm, green = (_noise(rng, slope + 0.2)[..., None] * contrast * rng.uniform(0.1, 0.5) for _ in range(2))
    colour = rng.uniform(0.25, 0.7) + light + warm * np.array((1, 0, -1)) + green * np.array((-0.5, 1, -0.5))
    shifted: Colour = (colour + rng.normal(0, 0.06, 3)).clip(0, 1).astype(np.float32)
    return shifted


def _blobs(rng: np.random.Generator) -> Field:
    """Silhouettes with round outlines."""
    size = rng.uniform(8, 40)
    low = _spectrum(lambda f: np.exp(-((f * size) ** 2)))
    field = np.fft.irfft2(np.fft.rfft2(_noise(rng, 0.5)) * low, s=(SIDE, SIDE))
    field = field / field.std() + rng.uniform(-0.9, 0.1)
    cover: Field = (field * size / 3 + 0.5).clip(0, 1).astype(np.float32)
    return cover


def _drawn(mode: str, draw: Callable[[ImageDraw.ImageDraw], object], ground: tuple[int, ...] | int = 0) -> Colour:
    image = Image.new(mode, (SIDE * SUPERSAMPLED, SIDE * SUPERSAMPLED), ground)
    draw(ImageDraw.Draw(image))
    pixels: Colour = np.asarray(image.reduce(SUPERSAMPLED), np.float32).reshape(SIDE, SIDE, -1) / np.float32(255)
    return pixels


def _shape(pen: ImageDraw.ImageDraw, rng: np.random.Generator, radius: float, ink: tuple[int, ...] | int) -> None:
    corners = int(rng.choice((3, 4, 5, 24)))
    angle = np.linspace(0, 2 * math.pi, corners, endpoint=False) + rng.uniform(0, 7)
    reach = radius * (1 if corners == 24 else rng.uniform(0.5, 1, corners)) * SUPERSAMPLED
    narrow = rng.uniform(0.4, 1)
    for x, y in _copies(rng.uniform(0, SIDE, 2), radius):
        points = np.stack((x + reach * np.cos(angle), y + narrow * reach * np.sin(angle)), -1)
        pen.polygon([(float(a), float(b)) for a, b in points], fill=ink)


def _copies(at: NDArray[np.float64], reach: float) -> list[tuple[float, float]]:
    """A point as it lies in the canvas and in its neighbours, where `reach` touches it, in pixels of the drawing."""
    x_all, y_all = ([float(side) + shift for shift in (-SIDE, 0, SIDE)] for side in at)
    inside = range(int(-reach), int(SIDE + reach) + 1)
    return [(x * SUPERSAMPLED, y * SUPERSAMPLED) for x in x_all for y in y_all if int(x) in inside and int(y) in inside]


def _ink(colour: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(int(255 * min(1.0, max(0.0, float(value)))) for value in colour)
