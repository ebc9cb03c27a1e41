"""The released weights, fetched or in the cache, make the frames that upstream makes of the street."""

import numpy as np
import pytest
import torch

from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.errors import UnavailableError
from refine_export.export.interpolation_network import InterpolationNetwork
from refine_export.export.reference_network import reference_network
from tests.support.paths import TESTS


@pytest.mark.parametrize(
    ("name", "refine", "timestep", "golden"),
    [
        ("rife-4.0", True, 0.5, "rife40_refined_t0.5"),
        ("rife-4.0", True, 0.25, "rife40_refined_t0.25"),
        ("rife-4.0", False, 0.5, "rife40_t0.5"),
        ("rife-4.0", False, 0.25, "rife40_t0.25"),
        ("hdv3", True, 0.5, "hdv3"),
    ],
)
def test_frames_of_the_street(name, refine, timestep, golden):
    try:
        checkpoint = checkpoint_from_options(CheckpointOptions(path=name, refine=refine))
        pair = source_from_options(FramesOptions(), SceneOptions()).pair
    except UnavailableError as error:
        pytest.skip(f"not in the cache, and cannot be fetched: {error}")
    network = InterpolationNetwork(reference_network(checkpoint))
    frame = network(torch.from_numpy(pair.img0), torch.from_numpy(pair.img1), timestep)[0, :, ::4, ::4].numpy()
    with np.load(TESTS / "golden" / "networks" / "released_street.npz") as expected:
        # Convolution kernels of other processors sum in another order; here it is half a step of the file, 7.7e-6.
        assert np.abs(frame - expected[golden] / 65535).max() < 1e-4
