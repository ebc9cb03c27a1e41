"""The reference networks compute what upstream computes, on any device and in any type, without hidden state."""

import ast
from pathlib import Path

import pytest
import torch

import rife
from rife.ifnet import IFNet, IFNet_m
from rife.refine import Contextnet, Unet
from rife.warplayer import warp
from tests.support.formula_weights import filled

TOLERANCE = 1e-4  # of the array's largest magnitude: kernels for other processors sum in another order


def assert_equal(actual: torch.Tensor, expected: torch.Tensor) -> None:
    difference = (actual.double() - expected.double()).abs().max() / expected.abs().max()
    assert difference <= TOLERANCE


def test_warp_is_upstreams_to_the_bit(golden):
    """Upstream's grid and ours are the same sums: the difference is 0.0 on any processor."""
    assert torch.equal(warp(golden["img0"], golden["flow"][:, :2]), golden["warped_img0"])
    assert torch.equal(warp(golden["img1"], golden["flow"][:, 2:4]), golden["warped_img1"])


def test_contextnet_is_upstreams(golden):
    network = filled(Contextnet())
    for side, image, flow in (("c0", "img0", golden["flow"][:, :2]), ("c1", "img1", golden["flow"][:, 2:4])):
        for level, features in enumerate(network(golden[image], flow)):
            assert_equal(features, golden[f"{side}_{level}"])


def test_unet_is_upstreams(golden):
    c0, c1 = ([golden[f"{side}_{level}"] for level in range(4)] for side in ("c0", "c1"))
    images = [golden[name] for name in ("img0", "img1", "warped_img0", "warped_img1", "mask", "flow")]
    assert_equal(filled(Unet())(*images, c0, c1), golden["res"])


def test_ifnet_is_upstreams(golden):
    result = filled(IFNet())(torch.cat((golden["img0"], golden["img1"]), 1))
    assert_equal(result.flow, golden["ifnet_flow"])
    assert_equal(result.mask, golden["ifnet_mask"])
    assert_equal(result.frame, golden["ifnet_merged"])


@pytest.mark.parametrize(("timestep", "as_tensor"), [(0.25, True), (0.5, False)])
def test_ifnet_m_is_upstreams(golden, timestep, as_tensor):
    time = torch.full((1, 1, 1, 1), timestep) if as_tensor else timestep
    result = filled(IFNet_m())(torch.cat((golden["img0"], golden["img1"]), 1), timestep=time)
    assert_equal(result.flow, golden[f"ifnet_m_flow_t{timestep}"])
    assert_equal(result.frame, golden[f"ifnet_m_merged_t{timestep}"])


def test_the_comparison_can_fail(golden):
    """Each of upstream's choices matters: swapped flows, or a flow halved in size but not in value, are seen."""
    network = filled(Contextnet())
    with pytest.raises(AssertionError):
        assert_equal(network(golden["img0"], golden["flow"][:, 2:4])[0], golden["c0_0"])
    with pytest.raises(AssertionError):
        assert_equal(network(golden["img0"], golden["flow"][:, :2] * 2)[3], golden["c0_3"])


@pytest.mark.parametrize(
    ("network", "parameters", "tensors"),
    [(Contextnet, 294_000, 24), (Unet, 2_957_875, 38), (IFNet, 10_708_215, 190), (IFNet_m, 10_710_780, 190)],
)
def test_sizes_are_upstreams(network, parameters, tensors):
    built = network()
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters
    assert len(built.state_dict()) == tensors


def test_warp_by_whole_pixels_copies_and_clamps():
    """warp(I, (dx, dy))[y, x] = I[clamp(y + dy), clamp(x + dx)]; half a pixel is the mean of two neighbours."""
    image = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    for dx, dy in ((0, 0), (3, 0), (0, -2), (-4, 5), (100, 0)):
        flow = torch.tensor([dx, dy], dtype=torch.float64).view(1, 2, 1, 1).expand(2, 2, 8, 12)
        y = (torch.arange(8) + dy).clamp(0, 7)
        x = (torch.arange(12) + dx).clamp(0, 11)
        assert torch.allclose(warp(image, flow), image[:, :, y][:, :, :, x], atol=1e-12)
    half = torch.tensor([0.5, 0.0], dtype=torch.float64).view(1, 2, 1, 1).expand(2, 2, 8, 12)
    assert torch.allclose(warp(image, half)[..., :-1], (image[..., :-1] + image[..., 1:]) / 2, atol=1e-12)


def test_float64_and_batches():
    """A batch is its samples, one by one."""
    reference = filled(IFNet_m()).double()
    x = torch.rand(2, 6, 32, 64, dtype=torch.float64)
    result = reference(x).frame
    assert result.dtype == torch.float64
    assert torch.allclose(result[1:], reference(x[1:]).frame, atol=1e-10)


def test_runs_on_another_device():
    """The meta device computes shapes only: anything made on a fixed device would raise."""
    with torch.device("meta"):
        network = IFNet_m().eval()
    frame = network(torch.empty(1, 6, 64, 96, device="meta"), timestep=torch.empty(1, 1, 1, 1, device="meta")).frame
    assert (frame.device.type, frame.shape) == ("meta", (1, 3, 64, 96))


def test_nothing_happens_at_import():
    """No module-level assignment but constants of literals: no device, no cache."""
    for path in Path(rife.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
            literal = isinstance(node, ast.Assign) and isinstance(ast.literal_eval(node.value), int | float | tuple)
            assert isinstance(node, allowed) or literal, f"{path.name}:{node.lineno}"
