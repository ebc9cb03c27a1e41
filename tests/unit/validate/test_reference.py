"""What rounding costs the reference is measured when a limit depends on it, and tells right files from wrong ones."""

import dataclasses

import numpy as np
import pytest

from refine_export.accuracy.effective_limits import limits_on
from refine_export.accuracy.limits import LimitsOptions
from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.feeds import probe_for
from refine_export.export.reference_network import reference_network
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.validate.comparison import Candidate, compare_candidates
from refine_export.validate.reference import Reference


@pytest.fixture(scope="module")
def network():
    return reference_network(seeded_checkpoint("IFNet"))


@pytest.fixture
def reference(network):
    return Reference(network, "contextnet")


class Moved(Runner):
    """The reference, rounded to FP16 or not, with every output `factor` times as large."""

    backend, version, device, provider, inputs, outputs = "moved", "0", "cpu", "moved", (), ()

    def __init__(self, network, factor=1.0, **options):
        options = options or {"rounded_to": "fp16"}
        self._runner, self._factor = TorchRunner(network, "contextnet", **options), factor

    def run(self, feeds):
        return {name: array * np.float32(self._factor) for name, array in self._runner.run(feeds).items()}

    def _run(self, feeds):
        raise NotImplementedError


def verdict_on(reference, network, precision="fp16", limits=None, **moved):
    limits = limits or LimitsOptions().of("contextnet", precision)
    runner = Moved(network, **moved)
    candidate = Candidate(file="tested.onnx", limits=limits, precision=precision, runtime="moved", runner=runner)
    feeds = probe_for(network, reference.signature, (64, 96))
    [compared] = compare_candidates(reference.signature, reference, [candidate], feeds)
    return compared.verdict


def test_a_rounded_file_passes_and_one_with_wrong_weights_fails(reference, network):
    right, wrong = (verdict_on(reference, network, factor=factor) for factor in (1.0, 1.01))
    assert (right.status, wrong.status) == ("passed", "failed")
    rounding = wrong.outputs[0].metrics.rounding
    assert 50 < rounding.psnr_db < 90
    assert rounding.snr_db is not None  # the feed is the probe


def test_rounding_is_measured_only_where_the_absolute_limits_are_missed(reference, network):
    exact = verdict_on(reference, network, "fp32", dtype="float32")
    assert exact.outputs[0].metrics.rounding is None
    limits = dataclasses.replace(LimitsOptions().contextnet_fp32, psnr_db=300.0)
    close = verdict_on(reference, network, "fp32", limits, dtype="float64")
    assert close.status == "passed"  # float64 is as far from the reference as rounding is
    assert all(100 < one.metrics.rounding.psnr_db < 200 for one in close.outputs)
    assert verdict_on(reference, network, "fp32", limits, rounded_to="fp16").status == "failed"


def test_explicit_limits_are_absolute(reference, network):
    limits = dataclasses.replace(LimitsOptions().contextnet_fp16, psnr_db=300.0, times=None)
    verdict = verdict_on(reference, network, limits=limits)
    assert verdict.status == "failed"
    assert all(one.metrics.rounding is None for one in verdict.outputs)
    assert limits_on(limits, verdict.outputs[0].metrics.rounding) is limits


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_rounded_run_serves_files_at_a_size_until_a_feed_needs_its_own(reference, network, monkeypatch, precision):
    [probe] = probe_for(network, reference.signature, (64, 96))
    feed = dataclasses.replace(probe, name="frames", probe=False)
    expected = reference.run(feed.inputs)
    [first] = reference.roundings(precision, feed, expected)
    runs = []
    run = TorchRunner.run
    monkeypatch.setattr(TorchRunner, "run", lambda self, feeds: runs.append(self.provider) or run(self, feeds))
    other = dataclasses.replace(feed, name="another")
    found = reference.roundings(precision, other, expected)
    assert next(found) == first
    assert runs == []
    assert next(found)["f1"].feed == "another"
    assert runs == [f"torch float32, rounded to {precision}"]
    [own] = reference.roundings(precision, probe, expected)  # it has another scale of values than frames
    assert own["f1"].feed == probe.name


def test_the_least_that_rounding_cost_at_a_size_is_tried_first(reference, network):
    [probe] = probe_for(network, reference.signature, (64, 96))
    own = []
    for factor in (1.0, 40.0, 2.0, 3.0):  # far outside the frame there is little to round
        inputs = {**probe.inputs, "flow": probe.inputs["flow"] * factor}
        feed = dataclasses.replace(probe, name=f"{factor:g} times the flow", probe=False, inputs=inputs)
        *tried, found = reference.roundings("fp16", feed, reference.run(feed.inputs))
        own.append(found)
    [least] = tried
    assert {one.feed for one in least.values()} == {"40 times the flow"}
    for name, one in least.items():
        assert one.psnr_db == max(earlier[name].psnr_db for earlier in own[:3])
