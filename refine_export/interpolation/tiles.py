"""Frames in tiles, where the memory of a device does not hold a whole one.

Tiles start at multiples of the network's padding, so that its coarse maps lie as they do in the whole frame. They
overlap, by all that two neighbours have in common. Its outer parts are left out, since a network sees too little around
them, and in between the tiles fade into each other. A motion that is longer than what is left out may be seen in one
tile and not in the next.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from refine_export.data.colour import Picture
from refine_export.interpolation.interpolator import Interpolator
from refine_export.signature import padded_size

LEFT_OUT = 0.4
"""Share of an overlap at the border of each tile that is not used."""


class TiledInterpolator(Interpolator):
    """Computes a frame tile by tile; closes what computes them.

    Args:
        interpolator: computes a tile.
        tile: side of a tile in pixels, the overlap included.
        overlap: pixels that neighbours share at least.
    """

    def __init__(self, interpolator: Interpolator, tile: int, overlap: int) -> None:
        self.takes_timestep, self.keeps_depth = interpolator.takes_timestep, interpolator.keeps_depth
        self.provider = interpolator.provider
        self._interpolator = interpolator
        self.multiple_of = unit = interpolator.multiple_of
        self._tile, self._overlap = max(1, tile // unit), -(-overlap // unit)  # in units of the padding

    def close(self) -> None:
        """Close what computes."""
        self._interpolator.close()

    def _interpolate(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        (height, width), unit = frame0.shape[:2], self.multiple_of
        whole = padded_size(height, width, unit)
        padding = ((0, whole[0] - height), (0, whole[1] - width), (0, 0))
        frame0, frame1 = np.pad(frame0, padding, "edge"), np.pad(frame1, padding, "edge")
        rows, columns = (
            [unit * start for start in starts_of(side // unit, self._tile, self._overlap)] for side in whole
        )
        side = unit * self._tile
        downs, acrosses = _weights(rows, side), _weights(columns, side)
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


def _weights(starts: list[int], tile: int) -> list[NDArray[np.float32]]:
    """Return the weights of each tile along an axis, which fall towards its neighbours."""
    weights = np.ones((len(starts), tile), np.float32)
    for number, (before, after) in enumerate(itertools.pairwise(starts)):
        overlap = before + tile - after
        place = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
        rise = ((place - LEFT_OUT) / (1 - 2 * LEFT_OUT)).clip(0, 1)
        weights[number, -overlap:] *= rise[::-1]
        weights[number + 1, :overlap] *= rise
    return list(weights)
