"""Scene cuts are found as upstream finds them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv3d, interpolate, pad

from refine_export.interpolation.scene_cuts import cuts_from_file, similarity
from tests.support.refusals import refused


def upstream(frame0, frame1):
    """The formula of upstream's `ssim_matlab` at 32x32, in float64: one conv3d with the whole window."""
    axis = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    axis = axis / axis.sum()
    window = (axis[:, None, None] * axis[:, None] * axis)[None, None]
    a, b = (
        interpolate(torch.from_numpy(x).permute(2, 0, 1)[None].double() / 255, (32, 32), mode="bilinear")[None]
        for x in (frame0, frame1)
    )

    def blurred(x):
        return conv3d(pad(x, (5,) * 6, mode="replicate"), window)

    ma, mb = blurred(a), blurred(b)
    va, vb, vab = blurred(a * a) - ma**2, blurred(b * b) - mb**2, blurred(a * b) - ma * mb
    ssim = (2 * ma * mb + 1e-4) * (2 * vab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return float(ssim.mean())


def scene(seed, height, width):
    """Smooth patches of colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.float32)
    image = torch.from_numpy(coarse).permute(2, 0, 1)[None]
    return np.uint8(interpolate(image, (height, width), mode="bilinear")[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", [(64, 96), (250, 333), (31, 33), (20, 24)])
def test_similarity_is_upstreams(size):
    frames = [scene(seed, *size) for seed in (1, 2)] + [np.uint8(scene(1, *size) * 0.7)]
    for frame in frames[1:]:
        assert similarity(frames[0], frame) == pytest.approx(upstream(frames[0], frame), abs=1e-5)


def test_equal_frames_are_alike_and_other_scenes_are_not():
    first, second = scene(1, 64, 96), scene(2, 64, 96)
    assert similarity(first, first) == pytest.approx(1)
    moved = np.roll(first, 3, axis=1)
    assert similarity(first, second) < 0.2 < similarity(first, moved)


def test_cuts_of_a_file(tmp_path):
    path = tmp_path / "cuts.txt"
    path.write_text("# scenes\n12\n 40 # the station\n\n")
    assert cuts_from_file(path) == {12, 40}
    for line in ("-1", "2.0", "9" * 6000):
        path.write_text(f"12\n{line}")
        with refused("not-a-frame-number", line=2):
            cuts_from_file(path)
