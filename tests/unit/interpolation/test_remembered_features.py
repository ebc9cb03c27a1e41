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


def test_each_frame_is_encoded_once_with_the_same_result():
    network, encoded = filled(Rife4(SMALL)), []
    frames = [smooth_image(name, 64) for name in "abc"]
    jobs = [(0, 1, 0.25), (0, 1, 0.75), (1, 2, 0.5)]
    expected = [network(frames[one], frames[other], time).frame for one, other, time in jobs]
    network.encode.register_forward_hook(lambda *_: encoded.append(1))
    remember_features(network)
    found = [network(frames[one], frames[other], time).frame for one, other, time in jobs]
    assert len(encoded) == 3
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_a_network_without_an_encoder_stays_as_it_is():
    network = torch.nn.Conv2d(3, 3, 1)
    assert remember_features(network) is network
    assert not hasattr(network, "encode")
