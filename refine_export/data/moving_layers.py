"""Draw frames of moving layers, with the exact motion of every pixel.

    pixels = pixel_places(1, height, width)
    rendered = [render(layers, pixels, time - named_at) for time in (start, timestep, end)]     # each [N]

`sample_scene.py` has the sample frames. Legend: N batch, L layers, H and W in pixels; t in [0, 1].

1. A layer point p is named by the pixel that it has at one time r, from the middle of the frame. It moves evenly: at
   time s it is at p + (s - r) * v(p). So the displacement from time t to time s is (s - t) * v(p), without a search.
2. The gradient of v is below 0.3, so the point that a pixel of another time shows is found by iterating
   p = x - (s - r) * v(p).
3. Colour and cover are functions of p, evaluated again for each frame: no frame is a resampled one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

ITERATIONS = 4  # rule 2; each shrinks the error to about a quarter at worst, a tenth as a rule
OPAQUE, CLEAR = 0.99, 0.01


class Layers(Protocol):
    """Layers from the bottom to the top; the first covers the frame."""

    @property
    def count(self) -> int:
        """Number of layers, L."""

    def velocity(self, layer: int, points: Tensor) -> Tensor:
        """Displacement (x, y) in pixels from t = 0 to t = 1 at points [N, 2, H, W], of that shape."""

    def colour(self, layer: int, points: Tensor) -> Tensor:
        """RGB in [0, 1] and cover, [N, H, W, 4], at points [N, 2, H, W]."""


@dataclass(frozen=True)
class Rendered:
    """The view at one time."""

    picture: Tensor
    """[N, 3, H, W], RGB."""
    owner: Tensor
    """[N, H, W]: index of the layer that a pixel shows; -1 where it mixes two."""
    velocity: Tensor
    """[N, 2, H, W]: displacement from t = 0 to t = 1 of the uppermost layer that covers half of the pixel or more."""


def render(layers: Layers, pixels: Tensor, ahead: Tensor) -> Rendered:
    """Draw the view at one time.

    Args:
        layers: the layers.
        pixels: [N, 2, H, W], from `pixel_places`.
        ahead: [N], the time minus r of rule 1.
    """
    count, _, height, width = pixels.shape
    picture = torch.zeros(count, height, width, 3)
    owner, velocity = torch.zeros(count, height, width), torch.zeros(count, 2, height, width)
    for layer in range(layers.count):
        points = points_at(layers, layer, pixels, ahead)
        sample = layers.colour(layer, points)
        cover, own = sample[..., 3], layers.velocity(layer, points)
        if layer == 0:
            picture, velocity = sample[..., :3], own
            continue
        picture = torch.lerp(picture, sample[..., :3], cover[..., None])
        velocity = torch.where((cover >= 0.5)[:, None], own, velocity)
        owner = torch.where(cover >= OPAQUE, float(layer), torch.where(cover > CLEAR, -1.0, owner))
    return Rendered(picture.permute(0, 3, 1, 2), owner, velocity)


def points_at(layers: Layers, layer: int, pixels: Tensor, ahead: Tensor) -> Tensor:
    """Find the points of a layer that lie at pixels [N, 2, H, W] at time r + `ahead` ([N]) by rule 2."""
    points, ahead = pixels, ahead.view(-1, 1, 1, 1)
    if ahead.any():
        for _ in range(ITERATIONS):
            points = pixels - ahead * layers.velocity(layer, points)
    return points


def pixel_places(count: int, height: int, width: int) -> Tensor:
    """Return the positions (x, y) of all pixels, [N, 2, H, W], from the middle of the frame."""
    rows = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    places = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)))
    return places.expand(count, 2, height, width)
