"""Rounded arithmetic rounds convolutions, activations and warps, and stands for what float64 shows of FP32."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from refine_export.data.feeds import feeds_for
from refine_export.runners import rounded_arithmetic
from refine_export.runners.rounded_arithmetic import RoundedArithmetic, rounded
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES
from rife.warplayer import warp


@pytest.mark.parametrize(("bits", "dtype"), [(11, torch.float16), (8, torch.bfloat16)])
def test_values_have_the_significant_bits_of_a_type(bits, dtype):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=1000).astype(np.float32))
    assert torch.equal(rounded(values, bits), values.to(dtype).float())
    assert torch.equal(rounded(-values, bits), -rounded(values, bits))


def test_infinity_and_large_values_stay():
    assert rounded(torch.tensor([torch.inf, -torch.inf, 0.0, 1e30]), 11).tolist()[:3] == [torch.inf, -torch.inf, 0.0]
    assert rounded(torch.tensor([1e30]), 11).item() == pytest.approx(1e30, rel=1e-3)


def test_what_goes_in_is_not_changed():
    generator = torch.Generator().manual_seed(0)
    image, weight = torch.rand(1, 3, 8, 12, generator=generator), torch.rand(4, 3, 3, 3, generator=generator)
    before = image.clone(), weight.clone()
    with RoundedArithmetic("fp16"):
        functional.leaky_relu(functional.conv2d(image, weight), 0.3)
        functional.leaky_relu(image, 0.3)
    assert torch.equal(image, before[0])
    assert torch.equal(weight, before[1])


def test_convolutions_activations_and_warps_are_rounded_and_sums_are_not():
    generator = torch.Generator().manual_seed(0)
    image, flow = (torch.rand(1, channels, 8, 12, generator=generator) for channels in (3, 2))
    weight = torch.rand(4, 3, 3, 3, generator=generator)
    with RoundedArithmetic("fp16"):
        made = {
            "convolution": functional.conv2d(image, weight),
            "activation": functional.leaky_relu(image, 0.3),
            "warp": warp(image, flow),
        }
        total = image + 1e-4
    for name, value in made.items():
        assert torch.equal(value, rounded(value, 11)), name
    assert torch.equal(total, image + 1e-4)


def test_what_is_rounded_already_is_not_copied(monkeypatch):
    """Results are the same; one copy less of the largest tensors."""
    generator = torch.Generator().manual_seed(0)
    image, weight = torch.rand(1, 4, 8, 12, generator=generator), torch.rand(4, 4, 3, 3, generator=generator)
    wide = weight.repeat(1, 2, 1, 1)
    copied: list[torch.Tensor] = []
    monkeypatch.setattr(rounded_arithmetic, "rounded", lambda value, bits: copied.append(value) or rounded(value, bits))
    with RoundedArithmetic("fp16"):
        x = functional.leaky_relu(functional.conv2d(image, weight, padding=1), 0.3)
        both, mixed, total = torch.cat((x, x), 1), torch.cat((x, image), 1), x + x
        y = functional.conv2d(both, wide)
        functional.conv2d(mixed, wide)
        functional.conv2d(total, weight)
    inputs = [value for value in copied if value is not weight and value is not wide]
    assert [id(value) for value in inputs] == [id(image), id(mixed), id(total)]
    assert torch.equal(y, rounded(functional.conv2d(rounded(both, 11), rounded(wide, 11)), 11))


def test_positions_are_rounded_as_a_sampler_rounds_them():
    """In a ramp whose values are the columns, the error of a warp is that of the position."""
    width = 1024
    ramp = torch.arange(float(width)).expand(1, 1, 2, width)
    flow = torch.full((1, 2, 2, width), 0.3)
    with RoundedArithmetic("fp32"):
        sampled = warp(ramp, flow)
    error = (sampled - warp(ramp.double(), flow.double())).abs()[..., :-1].max().item()
    assert 2e-5 < error < 4e-4  # pixels; two FP32 units at 1024 are 1.2e-4


def test_rounding_costs_what_float64_shows(references, pair_at):
    feeds = feeds_for(references("IFNet"), SIGNATURES["contextnet"], pair_at(64, 96), kinds=("subpixel",))
    feed = next(feeds).inputs
    with (
        TorchRunner(references("IFNet"), "contextnet") as single,
        TorchRunner(references("IFNet"), "contextnet", dtype="float64") as double,
        TorchRunner(references("IFNet"), "contextnet", rounded_to="fp32") as imitated,
    ):
        expected = single.run(feed)
        ratios = [
            np.std(imitated.run(feed)[name] - array) / np.std(double.run(feed)[name] - array)
            for name, array in expected.items()
        ]
    assert all(0.5 < ratio < 2 for ratio in ratios), ratios
