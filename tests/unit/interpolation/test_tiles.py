"""Tiles: every pixel once, and no seam."""

import numpy as np
import pytest
from tile_borders import worst_steps

from refine_export.interpolation import tiles
from refine_export.interpolation.interpolator import Interpolator
from refine_export.interpolation.tiles import TiledInterpolator, starts_of
from tests.support.interpolation_clips import Averager


class Disagreeing(Interpolator):
    """Computes a tile that is brighter than the last one by a level."""

    takes_timestep, provider = True, "tiles that disagree"

    def __init__(self):
        self.pixels = 0
        self.count = 0

    def close(self):
        pass

    def _interpolate(self, frame0, frame1, timestep):
        self.pixels += frame0.shape[0] * frame0.shape[1]
        self.count += 1
        return np.full_like(frame0, self.count % 2)


def noise(size, dtype=np.uint8):
    levels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(dtype)
    return levels if dtype == np.uint8 else levels / 255


@pytest.mark.parametrize("size", [(300, 500), (256, 256), (129, 257), (100, 90)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_where_tiles_agree_the_frame_is_that_of_no_tiles(size, dtype):
    a, b = noise(size, dtype), noise(size[::-1], dtype).transpose(1, 0, 2)
    whole = Averager().interpolate(a, b, 0.25)
    tiled = TiledInterpolator(Averager(), 128).interpolate(a, b, 0.25)
    assert (tiled.dtype, tiled.shape) == (whole.dtype, whole.shape)
    assert np.abs(tiled.astype(float) - whole).max() <= (1 if dtype == np.uint8 else 1e-5)


def test_where_tiles_disagree_they_fade_into_each_other():
    """The step between neighbours is spread over the padding of the network in the middle of the overlap."""
    frame = noise((128, 896), np.float32)
    made = TiledInterpolator(Disagreeing(), 256).interpolate(frame, frame, 0.5)[..., 0]
    assert np.abs(np.diff(made, axis=1)).max() <= 1.01 / 32
    assert np.ptp(made) == 1


class Seeing(Averager):
    """Sees 140 pixels to the left and right, and at the border of a tile less than there is in the frame."""

    def _interpolate(self, frame0, frame1, timestep):
        made, reach = super()._interpolate(frame0, frame1, timestep), 140
        sums = np.cumsum(np.pad(made, ((0, 0), (reach + 1, reach), (0, 0)), "edge"), axis=1, dtype=np.float64)
        wide = (sums[:, 2 * reach + 1 :] - sums[:, : -2 * reach - 1]) / (2 * reach + 1)
        return np.float32(made + wide) / 2


@pytest.mark.parametrize(("fade", "is_seamless"), [(tiles.FADE, True), (1e-6, False)])
def test_no_line_shows_where_tiles_meet(monkeypatch, fade, is_seamless):
    """The largest step is elsewhere, unless tiles are cut hard."""
    frame = np.kron(np.random.default_rng(0).random((4, 72, 3)), np.ones((32, 16, 1))).astype(np.float32)
    whole = Seeing().interpolate(frame, frame, 0.5)
    monkeypatch.setattr(tiles, "FADE", fade)
    tiled = TiledInterpolator(Seeing(), 512)
    made = tiled.interpolate(frame, frame, 0.5)
    tiled.fade = 32
    where_tiles_meet, elsewhere = worst_steps(made, whole, tiled)
    assert elsewhere > 0.1
    assert (where_tiles_meet < elsewhere) == is_seamless


def test_tiles_start_at_multiples_of_the_padding():
    """A network of which every 64th pixel is a corner of its coarse map computes what it does in the whole frame."""

    class Coarse(Averager):
        multiple_of = 64

        def _interpolate(self, frame0, frame1, timestep):
            assert not any(side % 64 for side in frame0.shape[:2])
            return np.kron(frame0[::64, ::64], np.ones((64, 64, 1), frame0.dtype))

    a = noise((300, 500), np.float32)
    whole = Coarse().interpolate(np.pad(a, ((0, 20), (0, 12), (0, 0)), "edge"), np.zeros((320, 512, 3)), 0.5)
    tiled = TiledInterpolator(Coarse(), 200).interpolate(a, a, 0.5)
    assert np.abs(tiled - whole[:300, :500]).max() < 1e-6


def test_tiles_cost_at_most_their_overlap():
    """No tile more than it takes to cover the frame, where neighbours share 192 pixels."""
    for size in ((1080, 1920), (720, 1280)):
        computed = Disagreeing()
        frame = np.zeros((*size, 3), np.uint8)
        TiledInterpolator(computed, 512).interpolate(frame, frame, 0.5)
        rows, columns = (-(-(side - 192) // 320) for side in size)
        assert computed.pixels == rows * columns * 512 * 512


@pytest.mark.parametrize(
    ("size", "starts"), [(100, [0]), (128, [0]), (129, [0, 1]), (240, [0, 112]), (350, [0, 111, 222])]
)
def test_tiles_start_evenly_and_end_with_the_frame(size, starts):
    assert starts_of(size, 128, 16) == starts


def test_a_tile_is_two_paddings_or_more(monkeypatch):
    """Tiles of one could not overlap."""
    monkeypatch.setattr(Averager, "multiple_of", 128)
    a, b = noise((300, 500), np.float32), noise((300, 500), np.float32)
    made = TiledInterpolator(Averager(), 128).interpolate(a, b, 0.5)
    assert np.abs(made - Averager().interpolate(a, b, 0.5)).max() < 1e-6


def test_the_timestep_reaches_each_tile():
    a, b = np.zeros((130, 130, 3), np.uint8), np.full((130, 130, 3), 200, np.uint8)
    assert np.unique(TiledInterpolator(Averager(), 128).interpolate(a, b, 0.2)).tolist() == [40]
