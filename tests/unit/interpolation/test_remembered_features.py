import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from refine_export.interpolation.remembered_features import remember_features
from rife.rife4 import Rife4, Rife4Config
from tests.support.formula_weights import filled, smooth_image

SMALL = Rife4Config(
    widths=(16, 16, 16, 16),
    prelu=False,
    residual=True,
    groups=1,
    shuffled=6,
    encoder="head",
    encoder_width=8,
    encoder_features=4,
    refined=False,
)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_frame_is_encoded_once_with_the_same_result(threads):
    network, encoded = filled(Rife4(SMALL)), []
    frames = [smooth_image(name, 64) for name in "abcde"]
    jobs = [(0, 1, 0.25), (0, 1, 0.75), (1, 2, 0.5), (2, 3, 0.5), (3, 4, 0.5)]

    def made(job):
        return network(frames[job[0]], frames[job[1]], job[2]).frame

    expected = [made(job) for job in jobs]
    network.encode.register_forward_hook(lambda *_: encoded.append(1))
    assert copy.deepcopy(remember_features(network, threads)) is not network  # as runners on a GPU do
    found = []
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(jobs), threads):  # a thread that lags behind may encode a frame again
            found += pool.map(made, jobs[first : first + threads])
    assert len(encoded) == len(frames)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_a_network_without_an_encoder_stays_as_it_is():
    network = torch.nn.Conv2d(3, 3, 1)
    assert remember_features(network, 1) is network
    assert not hasattr(network, "encode")
