"""Frames in tiles, where the memory of a device does not hold a whole one.

Tiles overlap. In an overlap the outer quarter of each is left out, since a network sees too little around it, and in
between neighbours fade into each other. A motion that is longer than a quarter of the overlap may be seen in one tile
and not in the next.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from refine_export.data.colour import Picture
from refine_export.interpolation.interpolator import Interpolator


class TiledInterpolator(Interpolator):
    """Computes a frame tile by tile; closes what computes them.

    Args:
        interpolator: computes a tile.
        tile: side of a tile in pixels, the overlap included.
        overlap: pixels that neighbours share.
    """

    def __init__(self, interpolator: Interpolator, tile: int, overlap: int) -> None:
        self.takes_timestep, self.keeps_depth = interpolator.takes_timestep, interpolator.keeps_depth
        self.provider = interpolator.provider
        self._interpolator, self._tile, self._overlap = interpolator, tile, overlap

    def close(self) -> None:
        """Close what computes."""
        self._interpolator.close()

    def _interpolate(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        height, width = frame0.shape[:2]
        rows, columns = (starts_of(size, self._tile, self._overlap) for size in (height, width))
        total = np.zeros(frame0.shape, np.float32)
        weights = np.zeros((height, width, 1), np.float32)
        for top, left in itertools.product(rows, columns):
            part = np.s_[top : top + self._tile, left : left + self._tile]
            tile = self._interpolator.interpolate(
                np.ascontiguousarray(frame0[part]), np.ascontiguousarray(frame1[part]), timestep
            )
            down = _ramp(tile.shape[0], self._overlap, top > 0, top + self._tile < height)
            across = _ramp(tile.shape[1], self._overlap, left > 0, left + self._tile < width)
            weight = (down[:, None] * across)[..., None]
            total[part] += tile * weight
            weights[part] += weight
        whole = total / weights
        return np.rint(whole).astype(np.uint8) if frame0.dtype == np.uint8 else whole


def starts_of(size: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles start along an axis; the last ends with it, and all but the only one are whole."""
    if size <= tile:
        return [0]
    count = -(-(size - overlap) // (tile - overlap))
    return [round(number * (size - tile) / (count - 1)) for number in range(count)]


def _ramp(size: int, overlap: int, before: bool, behind: bool) -> NDArray[np.float32]:
    """Return the weights of a tile along an axis, which fall towards the borders that it shares."""
    weights = np.ones(size, np.float32)
    rise = ((np.arange(overlap, dtype=np.float32) + 0.5) / overlap * 2 - 0.5).clip(0, 1)
    if before:
        weights[:overlap] *= rise
    if behind:
        weights[-overlap:] *= rise[::-1]
    return weights
