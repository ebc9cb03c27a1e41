"""Feeds fit the signature and have the flows that they are named for."""

import numpy as np
import pytest

from refine_export.data.feeds import feeds_for, flow_kinds_of, synthetic_flow
from refine_export.data.frame_options import FLOW_KINDS
from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES, signature_of
from tests.support.refusals import refused


@pytest.mark.parametrize(("graph", "batch"), [(graph, 2) for graph in SIGNATURES] + [("unet", 1)])
def test_feeds_fit_the_signature(references, pair_at, graph, batch):
    reference, signature = references("IFNet_m"), signature_of(graph, timestep=True)
    feeds = list(feeds_for(reference, signature, pair_at(64, 96), batch=batch, timesteps=(0.25, 0.5)))
    assert len(feeds) == (2 if graph == "interpolator" else len(FLOW_KINDS))
    assert len({feed.name for feed in feeds}) == len(feeds)
    for feed in feeds:
        assert list(feed.inputs) == list(signature.input_names)
        for spec in signature.inputs:
            array = feed.inputs[spec.name]
            assert array.dtype == np.float32
            assert array.shape == spec.shape_at(batch, 64, 96)
            assert np.isfinite(array).all()
            empty = "zero flow" in feed.name and spec.quantity == "flow"
            assert (array.std() > 0) != (empty or spec.quantity == "timestep"), f"{feed.name}: {spec.name}"
        if batch == 2:
            first = feed.inputs["image" if graph == "contextnet" else "img0"]
            assert not np.array_equal(first[0], first[1])


def length(flow):
    return np.maximum(np.hypot(flow[:, 0], flow[:, 1]), np.hypot(flow[:, 2], flow[:, 3]))


def test_synthetic_flows_are_what_they_are_called():
    height, width = 256, 448
    assert 0.5 < length(synthetic_flow("subpixel", height, width)).max() < 1
    assert length(synthetic_flow("large", height, width)).max() > 64
    outside = synthetic_flow("outside", height, width)[0]
    y, x = np.mgrid[0:height, 0:width]
    gone = (x + outside[0] < 0) | (x + outside[0] > width - 1) | (y + outside[1] < 0) | (y + outside[1] > height - 1)
    assert 0.5 < gone.mean() < 0.95
    assert not synthetic_flow("zero", height, width).any()


@pytest.mark.parametrize(("height", "width"), [(96, 160), (256, 448)])
def test_a_discontinuous_flow_jumps_between_constant_regions(height, width):
    """Each pixel moves as its neighbour does, or differs from it by 40 to 80 pixels."""
    flow = synthetic_flow("discontinuous", height, width)
    assert flow.shape == (1, 4, height, width)
    assert length(flow).max() == pytest.approx(40, abs=0.01)
    for axis in (2, 3):
        steps = np.diff(flow[:, :2], axis=axis)
        jumps = np.hypot(steps[:, 0], steps[:, 1])
        assert set(np.unique(jumps > 0)) == {False, True}
        assert ((jumps == 0) | ((jumps > 40) & (jumps < 80))).all()
        assert (jumps == 0).mean() > 0.9
    assert len(np.unique(flow[0, 0])) >= 4


def test_a_refinement_alone_has_no_network_flow(references, pair_at):
    assert flow_kinds_of(references("IFNet"), FLOW_KINDS) == FLOW_KINDS
    assert flow_kinds_of(references("refinement"), FLOW_KINDS) == FLOW_KINDS[1:]
    assert len(list(feeds_for(references("refinement"), SIGNATURES["refine"], pair_at(64, 96)))) == len(FLOW_KINDS) - 1
    with refused("not-synthetic", RequestError):
        synthetic_flow("network", 64, 96)


def test_the_network_flow_is_the_networks(references, pair_at):
    import torch

    pair = pair_at(64, 96)
    feed = next(feeds_for(references("IFNet"), SIGNATURES["refine"], pair, kinds=("network",)))
    result = references("IFNet")(torch.from_numpy(np.concatenate((pair.img0, pair.img1), 1)))
    assert np.allclose(feed.inputs["flow"], result.flow.numpy(), atol=1e-5)
    assert np.allclose(1 / (1 + np.exp(-feed.inputs["mask"])), result.mask.numpy(), atol=1e-5)
    assert feed.largest_flow_px == pytest.approx(float(length(feed.inputs["flow"]).max()))


def test_a_sequence_is_one_for_each_flow_and_timestep(references, pair_at):
    """Flicker compares feeds of the same graph, flow and timestep alone."""
    feeds = [
        feed
        for index in (3, 4)
        for graph, extra in (("refine", {"kinds": ("subpixel", "zero")}), ("interpolator", {"timesteps": (0.2, 0.5)}))
        for feed in feeds_for(
            references("IFNet_m"),
            signature_of(graph, timestep=True),
            pair_at(64, 96),
            label=f"clip.mp4 frames {index}-{index + 1}",
            sequence="clip.mp4",
            index=index,
            **extra,
        )
    ]
    assert feeds[0].name == "refine 64x96, clip.mp4 frames 3-4, subpixel flow"
    assert feeds[0].sequence == "refine 64x96, clip.mp4, subpixel flow"
    assert len({feed.name for feed in feeds}) == len(feeds) == 8
    assert len({feed.sequence for feed in feeds}) == 4
    assert [feed.index for feed in feeds] == [3] * 4 + [4] * 4
    alone = next(feeds_for(references("IFNet"), SIGNATURES["interpolator"], pair_at(64, 96)))
    assert (alone.name, alone.sequence, alone.index) == ("interpolator 64x96", None, 0)
