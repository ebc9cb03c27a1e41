"""Verdicts on made-up outputs: each fault is named, and what was not run is never green."""

import dataclasses
import weakref

import numpy as np
import pytest

from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import compare
from refine_export.data.feeds import Feed
from refine_export.errors import RequestError
from refine_export.runners.base import Runner
from refine_export.signature import SIGNATURES, TensorInfo
from refine_export.validate.comparison import compare_candidates, group_status, overall, verdict_from_metrics
from refine_export.validate.validate_options import ValidateOptions
from tests.support.candidates import FRAME, candidate_of
from tests.support.refusals import refused

INTERPOLATOR, REFINE = SIGNATURES["interpolator"], SIGNATURES["refine"]
FEED = Feed(name="one", inputs={"img0": FRAME, "img1": FRAME}, size=(64, 96), largest_flow_px=None)


class Fake(Runner):
    """Gives the answer that it was made with."""

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


def verdict_on(answer, **given):
    candidate = candidate_of(runtime="fake", runner=None if answer is None else Fake(answer), **given)
    [found] = compare_candidates(INTERPOLATOR, Fake({"frame": FRAME}), [candidate], [FEED])
    return found.verdict


@pytest.mark.parametrize(
    ("answer", "status", "measured"),
    [
        ({"frame": FRAME.copy()}, "passed", True),
        ({"frame": FRAME + np.float32(5e-5)}, "failed", True),
        ({"frame": FRAME * np.float32(np.nan)}, "failed", True),
        ({"frame": FRAME[:, :, :32]}, "failed", False),
        ({}, "failed", False),
        (RequestError("the session fell over"), "failed", False),
    ],
)
def test_verdicts(answer, status, measured):
    verdict = verdict_on(answer)
    assert verdict.status == status
    assert bool(verdict.reasons) == (status == "failed")
    assert bool(verdict.outputs) == measured


def test_what_is_missing_is_not_compared_and_what_is_refused_fails():
    missing, refused = verdict_on(None, missing="no GPU"), verdict_on(None, refused="bad opset")
    assert (missing.status, missing.reasons, missing.outputs) == ("not compared", ("no GPU",), ())
    assert (refused.status, refused.reasons) == ("failed", ("bad opset",))


def test_one_bad_pixel_fails():
    """A PSNR of 90 dB forgives one pixel of 1e-3; the largest error does not."""
    frame = FRAME.copy()
    frame[0, 0, 5, 5] += 1e-3
    verdict = verdict_on({"frame": frame})
    assert verdict.outputs[0].metrics.psnr_db > 90
    assert verdict.status == "failed"


def test_every_limit_that_is_missed_is_a_reason():
    metrics = compare(FRAME, FRAME + np.float32(1e-3), "residual")
    verdict = verdict_from_metrics("residual", metrics, Limits(max_abs=1e-4, psnr_db=90.0))
    assert (verdict.status, len(verdict.reasons)) == ("failed", 2)
    verdict = verdict_from_metrics("residual", metrics, Limits(max_abs=1e-2, psnr_db=50.0))
    assert (verdict.status, verdict.reasons) == ("passed", ())


def test_ssim_is_measured_where_a_limit_or_an_option_asks_for_it():
    answer = {"frame": FRAME + np.float32(1e-6)}
    limits = candidate_of(runtime="fake", runner=None).limits

    def ssim_with(**given):
        candidate = dataclasses.replace(candidate_of(runtime="fake", runner=Fake(answer)), **given)
        [found] = compare_candidates(INTERPOLATOR, Fake({"frame": FRAME}), [candidate], [FEED])
        return found.verdict.outputs[0].metrics.ssim

    assert ssim_with() is None
    assert ssim_with(with_ssim=True) == ssim_with(limits=dataclasses.replace(limits, ssim=0.9)) > 0.99


def test_sequences_have_flicker_and_the_probe_has_a_signal_to_noise():
    noise = np.random.default_rng(0).standard_normal(FRAME.shape).astype(np.float32)
    reference, wrong = Fake({"residual": noise}), Fake({"residual": noise * np.float32(1.001)})
    feeds = [
        dataclasses.replace(FEED, sequence="clip", index=0),
        dataclasses.replace(FEED, sequence="clip", index=1),
        dataclasses.replace(FEED, probe=True),
    ]
    compared = compare_candidates(REFINE, reference, [candidate_of(runtime="a", runner=wrong)], feeds)
    found = [one.verdict.outputs[0].metrics for one in compared]
    assert [metrics.flicker for metrics in found] == [None, 0, None]
    assert [metrics.snr_db for metrics in found] == [None, None, pytest.approx(60, abs=0.2)]


def test_a_feed_is_rounded_to_what_a_file_takes():
    """An FP16 input is the candidate's doing: it gets float16, the reference float32."""
    seen = {}
    runner = Fake(lambda feeds: seen.update(feeds) or {"frame": FRAME})
    runner.inputs = (TensorInfo(name="img0", dtype="float16", shape=("N", 3, "H", "W")),)
    list(compare_candidates(INTERPOLATOR, Fake({"frame": FRAME}), [candidate_of(runtime="a", runner=runner)], [FEED]))
    assert (seen["img0"].dtype, seen["img1"].dtype) == (np.float16, np.float32)


def test_a_reference_that_overflows_is_the_weights_fault():
    with refused("reference-overflows", RequestError, output="frame"):
        list(compare_candidates(INTERPOLATOR, Fake({"frame": np.full_like(FRAME, np.nan)}), [], [FEED]))


def test_a_candidate_costs_its_own_run_only():
    """F feeds and C candidates: F runs of the reference, F of each candidate."""
    reference, first, second = (Fake({"residual": FRAME}) for _ in range(3))
    candidates = [candidate_of(runtime="a", runner=first), candidate_of(runtime="b", runner=second)]
    assert len(list(compare_candidates(REFINE, reference, candidates, [FEED] * 6))) == 12
    assert (reference.runs, first.runs, second.runs) == (6, 6, 6)


def test_a_feed_is_released_before_the_next_is_made():
    released = []

    def feeds():
        for name in "ab":
            feed = dataclasses.replace(FEED, name=name)
            weakref.finalize(feed, released.append, name)
            yield feed
            del feed
            released.append("asked")

    for compared in compare_candidates(
        INTERPOLATOR, Fake({"frame": FRAME}), [candidate_of(runtime="fake", runner=None)], feeds()
    ):
        del compared
    assert released == ["a", "asked", "b", "asked"]


@pytest.mark.parametrize(
    ("statuses", "options", "status"),
    [
        ("PPPP", {}, "passed"),
        ("PPPF", {}, "failed"),
        ("PPPF", {"share": 0.75}, "passed"),
        ("PPFF", {"share": 0.75}, "failed"),
        ("PPPF", {"share": 0.5, "may_fail": 0}, "failed"),
        ("PPFF", {"share": 0.5, "may_fail": 2}, "passed"),
        ("PFFF", {"share": 0.1, "may_fail": 2}, "failed"),
        ("PPP-", {"share": 0.1}, "not compared"),
        ("FF--", {"share": 0.5}, "failed"),
        ("----", {"share": 0.1}, "not compared"),
        ("", {}, "not compared"),
        ("FFFF", {"share": 0.0001}, "failed"),
    ],
)
def test_a_group_passes_by_share_and_number(statuses, options, status):
    """P passed, F failed, - not compared."""
    words = {"P": "passed", "F": "failed", "-": "not compared"}
    assert group_status([words[letter] for letter in statuses], ValidateOptions(**options)) == status


def test_overall():
    assert overall(["passed", "passed"]) == "passed"
    assert overall(["passed", "not compared"]) == "not compared"
    assert overall(["passed", "not compared", "failed"]) == "failed"
    assert overall([]) == "not compared"
