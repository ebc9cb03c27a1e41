"""Frames in tiles, where the memory of a device does not hold a whole one.

Tiles start at multiples of the network's padding, so that its coarse maps lie as they do in the whole frame. At the
border of a tile a network sees too little: RIFE 4.0's error is a tenth of that 130 pixels away, and below 0.01 of 255
levels 256 pixels away. So neighbours overlap, the outer parts of the overlap are left out, and across its middle the
tiles fade into each other.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from refine_export.data.colour import Picture
from refine_export.interpolation.interpolator import Interpolator
from refine_export.signature import padded_size

OVERLAP, FADE = 12, 1
"""Pixels that neighbours share, and across which they fade into each other, in units of the padding: the cells of the
coarsest map, by which a network sees. Small tiles overlap by 3/8."""


class TiledInterpolator(Interpolator):
    """Computes a frame tile by tile; closes what computes them.

    Args:
        interpolator: computes a tile.
        tile: side of a tile in pixels, the overlap included; at least twice the padding.
    """

    def __init__(self, interpolator: Interpolator, tile: int) -> None:
        self.takes_timestep, self.keeps_depth = interpolator.takes_timestep, interpolator.keeps_depth
        self.provider = interpolator.provider
        self._interpolator = interpolator
        self.multiple_of = unit = interpolator.multiple_of
        self._tile = max(2, tile // unit)  # in units of the padding, as is the overlap
        self._overlap = min(OVERLAP, max(1, self._tile * 3 // 8))
        self.side, self.fade = self._tile * unit, FADE * unit

    def close(self) -> None:
        """Close what computes."""
        self._interpolator.close()

    def starts(self, side: int) -> list[int]:
        """Return where tiles start along a side of a frame, in pixels."""
        units = starts_of(-(-side // self.multiple_of), self._tile, self._overlap)
        return [self.multiple_of * start for start in units]

    def _interpolate(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        (height, width), side = frame0.shape[:2], self.side
        whole = padded_size(height, width, self.multiple_of)
        padding = ((0, whole[0] - height), (0, whole[1] - width), (0, 0))
        frame0, frame1 = np.pad(frame0, padding, "edge"), np.pad(frame1, padding, "edge")
        rows, columns = self.starts(height), self.starts(width)
        downs, acrosses = (_weights(starts, side, self.fade) for starts in (rows, columns))
        total = np.zeros(frame0.shape, np.float32)
        weights = np.zeros((*whole, 1), np.float32)
        for (top, down), (left, across) in itertools.product(
            zip(rows, downs, strict=True), zip(columns, acrosses, strict=True)
        ):
            part = np.s_[top : top + side, left : left + side]
            tile = self._interpolator.interpolate(
                np.ascontiguousarray(frame0[part]), np.ascontiguousarray(frame1[part]), timestep
            )
            weight = (down[: tile.shape[0], None] * across[: tile.shape[1]])[..., None]
            total[part] += tile * weight
            weights[part] += weight
        made = (total / weights)[:height, :width]
        return np.rint(made).astype(np.uint8) if frame0.dtype == np.uint8 else made


def starts_of(size: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles start along an axis; the last ends with it, and all but the only one are whole."""
    if size <= tile:
        return [0]
    count = -(-(size - overlap) // (tile - overlap))
    return [round(number * (size - tile) / (count - 1)) for number in range(count)]


def _weights(starts: list[int], tile: int, fade: int) -> list[NDArray[np.float32]]:
    """Return the weights of each tile along an axis, which fall to 0 across the middle of what neighbours share."""
    weights = np.ones((len(starts), tile), np.float32)
    for number, (before, after) in enumerate(itertools.pairwise(starts)):
        overlap = before + tile - after
        rise = ((np.arange(overlap, dtype=np.float32) + 0.5 - (overlap - fade) / 2) / fade).clip(0, 1)
        weights[number, -overlap:] *= rise[::-1]
        weights[number + 1, :overlap] *= rise
    return list(weights)
