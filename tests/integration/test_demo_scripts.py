"""What trains and what measures the demo weights: the parts, on small inputs."""

import math

import demo_training
import evaluate_demo
import pytest
import torch
import train_demo
from random_layers import SequenceOptions, canvases_from_families, draw_sequences

from refine_export.checkpoint.checkpoint import checkpoint_from_file, seeded_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip():
    canvases = canvases_from_families(("bands",), count=1, seed=2)
    generator = torch.Generator().manual_seed(0)
    return draw_sequences(canvases, SequenceOptions(), torch.full((2,), 3.0), torch.full((2,), 0.5), generator)


@pytest.fixture
def network():
    return demo_training.prepared_network(0)


def plane(clip):
    return torch.full_like(clip.img0[:, :1], 0.5)


def test_training_starts_from_the_average_of_the_frames(network, clip):
    """IFNet_m(img0, img1) = (img0 + img1) / 2 to 40 dB."""
    with torch.no_grad():
        frame = network(torch.cat((clip.img0, clip.img1), 1), timestep=0.5).frame
    assert train_demo.psnr_db(frame, (clip.img0 + clip.img1) / 2) > 40


def test_the_trained_motion_is_that_of_the_network(network, clip):
    """motion_of(coarsest=True) = IFNet.motion, and its last flow is the flow."""
    torch.nn.init.normal_(network.block0.lastconv.weight, std=0.01)
    with torch.no_grad():
        expected = network.motion(clip.img0, clip.img1, timestep=plane(clip))
        motion, flows = demo_training.motion_of(network, clip.img0, clip.img1, plane(clip), coarsest=True)
        without, two = demo_training.motion_of(network, clip.img0, clip.img1, plane(clip), coarsest=False)
    assert all(torch.equal(a, b) for a, b in zip(motion, expected, strict=True))
    assert len(flows) == 3
    assert torch.equal(flows[-1], motion.flow)
    assert len(two) == 2
    assert not torch.equal(without.flow, motion.flow)


def test_under_autocast_flows_and_warps_stay_fp32(network, clip):
    """The same flow to a hundredth of a pixel, in FP32."""
    with torch.no_grad():
        exact, _ = demo_training.motion_of(network, clip.img0, clip.img1, plane(clip), coarsest=True)
        with torch.autocast("cpu", torch.bfloat16), demo_training.SamplingInFloat():
            motion, _ = demo_training.motion_of(network, clip.img0, clip.img1, plane(clip), coarsest=True)
    assert motion.flow.dtype == motion.warped_img0.dtype == torch.float32
    assert (motion.flow - exact.flow).abs().max() < 0.01


def test_steps_are_orthogonal():
    """Every singular value is near 1, whatever it was."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(side, 12)).Q for side in (12, 40))
    matrix = left @ torch.diag(torch.logspace(-1, 1, 12)) @ right.T
    values = torch.linalg.svdvals(demo_training.orthogonal(matrix))[:12]
    assert values.min() > 0.5
    assert values.max() < 1.4


@pytest.mark.parametrize("complete", [False, True])
def test_a_few_steps_lower_the_loss(network, clip, complete):
    finer = {name: value for name, value in network.named_parameters() if not name.startswith("block0")}
    hidden = [value for name, value in finer.items() if value.ndim == 4 and not demo_training.OUTERMOST.search(name)]
    outermost = [value for name, value in finer.items() if "lastconv" in name]
    optimisers = [demo_training.Muon(hidden, 1e-3), torch.optim.AdamW(outermost, lr=1e-3)]
    losses = []
    for _ in range(8):
        network.zero_grad()
        loss = demo_training.loss_of(network, clip, torch.full((2,), 0.5), 0.1, complete)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    assert (network.unet.conv.weight.grad is not None) == complete


def test_the_weights_are_a_checkpoint(network, tmp_path):
    """FP16, under 24 MB, read strictly; only the teacher is zeros."""
    file = tmp_path / "demo.safetensors"
    train_demo.save_weights(file, dict(network.state_dict()), {"steps": "0"})
    checkpoint = checkpoint_from_file(file)
    assert checkpoint.architecture == "IFNet_m"
    assert checkpoint.stored_dtype == "float16"
    assert file.stat().st_size < 24e6
    for key, value in checkpoint.state_dict.items():
        expected = torch.zeros_like(value) if key.startswith("block_tea") else network.state_dict()[key]
        assert torch.allclose(value, expected, rtol=1e-3, atol=1e-6)


def test_figures_are_means_of_the_clips():
    """Two clips: each row is the mean over its clips, the gain a difference of two means."""
    by_name = evaluate_demo.methods(seeded_checkpoint("IFNet_m"))
    clips = [evaluate_demo.triplet("weave", 1, (64, 96), 4, index) for index in range(2)]
    scores = [score for one in clips for score in evaluate_demo.scored(one, by_name)]
    average = [score.psnr_db for score in scores if score.method == evaluate_demo.AVERAGE]
    by_hand = [-10 * math.log10(((c.img0 + c.img1) / 2 - c.middle).square().mean().item()) for c in clips]
    assert average == pytest.approx(by_hand, abs=1e-3)
    network = [score.psnr_db for score in scores if score.method == evaluate_demo.NETWORK]
    assert evaluate_demo.gain_db(scores) == pytest.approx((sum(network) - sum(average)) / 2)
    table = evaluate_demo.table(scores)
    assert f"| {sum(average) / 2:.2f} dB, " in table
    assert "| 64x96, to 4 px, weave |" in table


def test_classical_flow_follows_the_motion():
    """It beats the average on a clip that moves by 8 pixels."""
    pytest.importorskip("cv2", reason="opencv-python-headless is missing")
    one = evaluate_demo.triplet("cells", 0, (128, 192), 8, 0)
    made = evaluate_demo.classical(one.img0, one.img1)
    assert train_demo.psnr_db(made, one.middle) > train_demo.psnr_db((one.img0 + one.img1) / 2, one.middle) + 3
