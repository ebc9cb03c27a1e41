"""Feeds fit the signature and reach what they are for: sub-pixel, large, out of the frame, the network's own."""

import numpy as np
import pytest

from refine_export.errors import RequestError
from refine_export.feeds import FLOW_KINDS, feeds_for, flow_kinds_of, synthetic_flow
from refine_export.signature import SIGNATURES


@pytest.mark.parametrize("graph", list(SIGNATURES))
@pytest.mark.parametrize("batch", [1, 2])
def test_feeds_fit_the_signature(references, pair_at, graph, batch):
    reference = references("IFNet_m" if graph == "interpolator_m" else "IFNet")
    feeds = list(feeds_for(reference, graph, pair_at(64, 96), batch=batch, timesteps=(0.25, 0.5)))
    assert len(feeds) == {"interpolator": 1, "interpolator_m": 2}.get(graph, 4)
    assert len({feed.name for feed in feeds}) == len(feeds)
    for feed in feeds:
        assert list(feed.inputs) == list(SIGNATURES[graph].input_names)
        for spec in SIGNATURES[graph].inputs:
            array = feed.inputs[spec.name]
            assert array.dtype == np.float32
            assert array.shape == spec.shape_at(batch, 64, 96)
            assert np.isfinite(array).all()
            assert array.std() > 0 or spec.quantity == "timestep", f"{feed.name}: {spec.name} has no content"
        if batch == 2:
            first = feed.inputs["image" if graph == "contextnet" else "img0"]
            assert not np.array_equal(first[0], first[1])


def length(flow):
    return np.maximum(np.hypot(flow[:, 0], flow[:, 1]), np.hypot(flow[:, 2], flow[:, 3]))


@pytest.mark.parametrize(("height", "width"), [(256, 448), (1088, 1920)])
def test_synthetic_flows_are_what_they_are_called(height, width):
    assert 0.5 < length(synthetic_flow("subpixel", height, width)).max() < 1
    assert length(synthetic_flow("large", height, width)).max() > 64
    outside = synthetic_flow("outside", height, width)[0]
    y, x = np.mgrid[0:height, 0:width]
    gone = (x + outside[0] < 0) | (x + outside[0] > width - 1) | (y + outside[1] < 0) | (y + outside[1] > height - 1)
    assert 0.5 < gone.mean() < 0.95


def test_a_refinement_alone_has_no_network_flow(references, pair_at):
    assert flow_kinds_of(references("IFNet"), FLOW_KINDS) == FLOW_KINDS
    assert flow_kinds_of(references("refinement"), FLOW_KINDS) == FLOW_KINDS[1:]
    assert len(list(feeds_for(references("refinement"), "refine", pair_at(64, 96)))) == 3
    with pytest.raises(RequestError, match="can't be synthesised"):
        synthetic_flow("network", 64, 96)


def test_the_network_flow_is_the_networks(references, pair_at):
    import torch

    pair = pair_at(64, 96)
    feed = next(feeds_for(references("IFNet"), "refine", pair, kinds=("network",)))
    result = references("IFNet")(torch.from_numpy(np.concatenate((pair.img0, pair.img1), 1)))
    assert np.allclose(feed.inputs["flow"], result.flow.numpy(), atol=1e-5)
    assert np.allclose(1 / (1 + np.exp(-feed.inputs["mask"])), result.mask.numpy(), atol=1e-5)
    assert feed.largest_flow_px == pytest.approx(float(length(feed.inputs["flow"]).max()))
