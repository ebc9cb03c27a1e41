"""Verdicts on made-up outputs: each fault is named, and what was not run is never green."""

import re

import numpy as np
import pytest

from refine_export.data.feeds import Feed, feeds_for, probe_for
from refine_export.errors import RequestError
from refine_export.runners.base import Runner
from refine_export.signature import SIGNATURES, TensorInfo
from refine_export.validate.comparison import validate
from tests.support.candidates import FRAME, candidate_of


class Fake(Runner):
    """Returns what it is told to."""

    backend, version, device, provider, inputs, outputs = "fake", "0", "cpu", "fake", (), ()

    def __init__(self, answer):
        self._answer = answer
        self.runs = 0

    def run(self, feeds):
        return self._run(feeds)

    def _run(self, feeds):
        self.runs += 1
        answer = self._answer(feeds) if callable(self._answer) else self._answer
        if isinstance(answer, Exception):
            raise answer
        return answer


def judged(candidate, pair, references):
    feeds = feeds_for(references("IFNet"), "interpolator", pair)
    found = list(validate(SIGNATURES["interpolator"], Fake({"frame": FRAME}), [candidate], feeds))
    return found[0].verdict


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"frame": FRAME.copy()}, "passed", None),
        ({"frame": FRAME + np.float32(5e-5)}, "failed", "PSNR 86"),
        ({"frame": FRAME * np.float32(np.nan)}, "failed", "18432 NaN"),
        ({"frame": np.full_like(FRAME, np.inf)}, "failed", "18432 infinite"),
        ({"frame": FRAME[:, :, :32]}, "failed", r"frame is \[1, 3, 32, 96\]; the reference has \[1, 3, 64, 96\]"),
        ({}, "failed", "frame is not there"),
        (RequestError("the session fell over"), "failed", "fell over"),
    ],
)
def test_verdicts(references, pair_at, answer, status, reason):
    verdict = judged(candidate_of(runtime="fake", runner=Fake(answer)), pair_at(64, 96), references)
    assert verdict.status == status
    if reason is None:
        assert verdict.reasons == ()
    else:
        assert re.search(reason, " ".join(verdict.reasons))


class Noisy(Fake):
    """FRAME with another constant error in each run."""

    def run(self, feeds):
        answer = super().run(feeds)
        return {name: array + np.float32(1e-3 * self.runs**2) for name, array in answer.items()}


def test_flicker_is_the_change_of_the_error_within_a_sequence():
    reference, noisy = Fake({"residual": FRAME}), Noisy({"residual": FRAME})
    places = [("clip", 0), ("clip", 1), ("clip", 2), ("other", 3), (None, 0), ("other", 4), ("other", 6)]
    feeds = [
        Feed(name=str(number), inputs={}, size=(64, 96), largest_flow_px=None, sequence=sequence, index=index)
        for number, (sequence, index) in enumerate(places)
    ]
    found = [
        compared.verdict.outputs[0].metrics.flicker
        for compared in validate(SIGNATURES["refine"], reference, [candidate_of(runtime="a", runner=noisy)], feeds)
    ]
    first, second, third = (pytest.approx(value, rel=1e-4) for value in (3e-3, 5e-3, 20e-3))
    assert found == [None, first, second, None, None, third, None]


def test_the_probe_is_measured_and_other_feeds_are_not(references, pair_at):
    network = references("IFNet")
    [probe] = probe_for(network, "refine", (64, 96))
    other = next(feeds_for(network, "refine", pair_at(64, 96), kinds=("zero",)))
    assert list(probe_for(network, "interpolator", (64, 96))) == []
    noise = np.random.default_rng(0).standard_normal(FRAME.shape).astype(np.float32)
    reference, wrong = Fake({"residual": noise}), Fake({"residual": noise * np.float32(1.001)})
    found = [
        compared.verdict.outputs[0].metrics.snr_db
        for compared in validate(
            SIGNATURES["refine"], reference, [candidate_of(runtime="a", runner=wrong)], [probe, other]
        )
    ]
    assert found == [pytest.approx(60, abs=0.2), None]


def test_a_feed_is_rounded_to_what_a_file_takes(references, pair_at):
    """An FP16 input is the candidate's doing: it gets float16, the reference float32."""
    seen = {}
    runner = Fake(lambda feeds: seen.update(feeds) or {"frame": FRAME})
    runner.inputs = (TensorInfo(name="img0", dtype="float16", shape=("N", 3, "H", "W")),)
    judged(candidate_of(runtime="fake", runner=runner), pair_at(64, 96), references)
    assert (seen["img0"].dtype, seen["img1"].dtype) == (np.float16, np.float32)


def test_one_bad_pixel_fails(references, pair_at):
    """A PSNR of 90 dB forgives one pixel of 1e-3; the largest error does not."""
    frame = FRAME.copy()
    frame[0, 0, 5, 5] += 1e-3
    verdict = judged(candidate_of(runtime="fake", runner=Fake({"frame": frame})), pair_at(64, 96), references)
    assert verdict.outputs[0].metrics.psnr_db > 90
    assert verdict.status == "failed"


def test_what_is_missing_is_not_compared(references, pair_at):
    candidate = candidate_of(runtime="onnxruntime-cuda", runner=None, missing="no GPU")
    verdict = judged(candidate, pair_at(64, 96), references)
    assert (verdict.status, verdict.reasons, verdict.outputs) == ("not compared", ("no GPU",), ())


def test_what_is_refused_fails(references, pair_at):
    verdict = judged(candidate_of(runtime="x", runner=None, refused="bad opset"), pair_at(64, 96), references)
    assert (verdict.status, verdict.reasons) == ("failed", ("bad opset",))


def test_a_reference_that_overflows_is_the_weights_fault(references, pair_at):
    reference = Fake({"frame": np.full_like(FRAME, np.nan)})
    feeds = feeds_for(references("IFNet"), "interpolator", pair_at(64, 96))
    with pytest.raises(RequestError, match="the reference itself gives NaN or infinity in frame on interpolator 64x96"):
        list(validate(SIGNATURES["interpolator"], reference, [], feeds))


def test_a_candidate_costs_its_own_run_only(references, pair_at):
    """F feeds and C candidates: F runs of the reference, F of each candidate."""
    reference, first, second = (Fake({"residual": FRAME}) for _ in range(3))
    candidates = [candidate_of(runtime="a", runner=first), candidate_of(runtime="b", runner=second)]
    feeds = feeds_for(references("IFNet"), "refine", pair_at(64, 96))
    assert len(list(validate(SIGNATURES["refine"], reference, candidates, feeds))) == 12
    assert (reference.runs, first.runs, second.runs) == (6, 6, 6)
