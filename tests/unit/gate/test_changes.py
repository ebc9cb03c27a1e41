"""A drop beyond its noise is found, and noise is not."""

import dataclasses

import pytest

from refine_export.errors import RequestError
from refine_export.gate.baseline import baseline_from_decision
from refine_export.gate.changes import FLOORS_DB, RESOLUTION, compare_with_baseline
from refine_export.gate.decision import decide
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, not_finite, report_of
from tests.support.refusals import refused

FILE, SINGLE = artifact(), artifact("refine.onnx", "fp32")
SCENE = {"name": "procedural scene (seed 0, motion to 12 px)", "size": [64, 64], "sha256": ["1"] * 2}


def measured(psnr, made=FILE, feeds=FEEDS, **more):
    """A decision on a report with one PSNR for each feed."""
    comparisons = [comparison(made, feed, metrics(value, **more)) for feed, value in zip(feeds, psnr, strict=True)]
    return decide(report_of(comparisons, artifacts=[made]))


def changed(before, now):
    return compare_with_baseline(now, baseline_from_decision(before))


def test_the_same_report_is_the_same():
    changes = changed(measured((70, 80, 75, 66)), measured((70, 80, 75, 66)))
    assert (changes.drops, changes.gains, changes.new, changes.missing, changes.same) == ((), (), (), (), 4)
    assert not changes.problems
    assert not changes.offered


def test_feeds_are_compared_with_themselves():
    """Feeds lie 14 dB apart; a drop of 1 dB of one of them is still found."""
    changes = changed(measured((70, 80, 75, 66)), measured((70, 79, 75, 66)))
    (drop,) = changes.drops
    assert drop.entry.feed.endswith("subpixel flow")
    assert (drop.before, drop.now, drop.drop_db, drop.noise_db) == (80, 79, pytest.approx(1.0), 0.2)
    (problem,) = changes.problems
    assert (problem.rule, problem.status, problem.file) == ("baseline-drop", "failed", "refine.fp16.onnx")


FOUR, FOUR_FP32 = (70, 80, 75, 66), (129.9, 148.8, 135.5, 149.1)


@pytest.mark.parametrize(
    ("made", "before", "now", "drops"),
    [
        (FILE, FOUR, (69.85, 80.1, 75, 65.9), 0),
        (FILE, FOUR, (69.6, 79.6, 74.6, 65.6), 4),  # a change that all feeds share
        # Median 0.05, scaled median deviation 3 * 1.4826 * 0.3 dB, cut to three floors: 0.6 dB.
        (FILE, FOUR, (70.4, 79.65, 74.7, 66.25), 0),
        (FILE, FOUR[:3], (70.4, 79.65, 74.7), 2),  # too few feeds to estimate the noise
        (FILE, FOUR, (76, 79, 72, 63), 3),  # no scatter hides a large drop
        (SINGLE, FOUR_FP32, (128.6, 148.3, 134.1, 148.7), 0),  # other kernels, as measured: FP32's error is all noise
        (SINGLE, FOUR_FP32, (127.8, 148.8, 135.5, 149.1), 1),
    ],
)
def test_what_is_within_the_noise_is_not_a_drop(made, before, now, drops):
    one, other = (measured(values, made, FEEDS[: len(values)]) for values in (before, now))
    found = changed(one, other).drops
    assert len(found) == drops
    assert all(change.noise_db <= 3 * FLOORS_DB[made is SINGLE]["psnr_db"] + 1e-12 for change in found)


@pytest.mark.parametrize("figure", ["max_abs", "p999_abs", "flicker"])
def test_every_figure_is_watched(figure):
    good = {"max_abs": 0.004, "p999_abs": 0.001, "flicker": 0.0005}
    worse = good | {figure: 1.5 * good[figure]}
    (*_, drop) = changed(measured((70,) * 4, **good), measured((70,) * 4, **worse)).drops
    assert (drop.figure, drop.drop_db) == (figure, pytest.approx(3.52, abs=0.01))


def test_a_figure_that_was_not_measured_before_is_not_compared():
    assert changed(measured((70,) * 4), measured((70,) * 4, flicker=0.1)).same == 4


def test_equality_that_is_lost_and_won():
    equal, near = measured((None,) * 4), measured((90,) * 4, max_abs=1e-4)
    lost = changed(equal, near)
    assert {change.figure for change in lost.drops} == {"psnr_db", "max_abs", "p999_abs"}
    assert {(change.before, change.now) for change in lost.drops if change.figure == "psnr_db"} == {(None, 90)}
    won = changed(near, equal)
    assert not won.drops
    assert won.accepted.entries[0].psnr_db is None
    last_bit = measured((140,) * 4, max_abs=RESOLUTION / 2)
    assert not changed(equal, last_bit).drops


def test_gains_are_offered():
    changes = changed(measured((70, 80, 75, 66)), measured((70, 85, 75, 66)))
    (gain,) = changes.gains
    assert gain.drop_db == pytest.approx(-5)
    assert changes.offered
    assert not changes.problems
    assert [entry.psnr_db for entry in changes.accepted.entries] == [70, 85, 75, 66]


def test_small_drops_do_not_add_up():
    """Each time 0.09 dB worse, each time accepted: the third is 0.27 dB from the entry, which was never lowered."""
    baseline = baseline_from_decision(measured((70, 80, 75, 66)))
    for k in (1, 2):
        changes = compare_with_baseline(measured((70 - 0.09 * k, 80, 75 + 3 * k, 66)), baseline)
        assert not changes.drops
        baseline = changes.accepted
    assert baseline.entries[0].psnr_db == 70
    assert compare_with_baseline(measured((70 - 0.27, 80, 81, 66)), baseline).drops


def test_what_is_missing_fails_and_what_is_new_is_offered():
    now = decide(report_of([comparison(FILE, feed, metrics()) for feed in (*FEEDS[:3], "zero")]))
    changes = changed(decide(report_of()), now)
    assert [entry.feed for entry in changes.new] == ["refine 64x64, zero flow"]
    (problem,) = changes.problems
    assert (problem.rule, problem.status) == ("baseline-missing", "failed")
    assert problem.what == "refine.fp16.onnx in half: refine 64x64, outside flow, residual"


@pytest.mark.parametrize(
    ("measured_now", "more", "status"),
    [(None, {"missing": "no CUDA"}, "not compared"), (not_finite(), {}, "failed"), (None, {"refused": "no"}, "failed")],
)
def test_what_was_not_measured_is_missing_too(measured_now, more, status):
    first = comparison(FILE, FEEDS[0], measured_now, **more)
    now = decide(report_of([first, *(comparison(FILE, feed, metrics()) for feed in FEEDS[1:])]))
    (problem,) = changed(decide(report_of()), now).problems
    assert (problem.rule, problem.status) == ("baseline-missing", status)
    assert "; ".join(first.verdict.reasons) in problem.reason


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"checkpoint": {"source": "other.pkl", "sha256": "d" * 64}}, ("flownet.pkl", "c" * 12, "other.pkl")),
        ({"pair": {"name": "c.png", "size": [64, 64], "sha256": ["3" * 64] * 2}}, ("a.png", "1" * 12, "c.png")),
        ({"pair": SCENE}, ("a.png", "procedural scene")),
    ],
)
def test_a_baseline_about_something_else_is_refused(change, named):
    with refused("other-baseline", RequestError) as caught:
        changed(decide(report_of()), decide(dataclasses.replace(report_of(), **change)))
    (difference,) = caught.value.fields["differences"]
    assert all(name in difference for name in named)


def test_a_baseline_of_other_files_names_both():
    with pytest.raises(RequestError) as caught:
        changed(measured((70,) * 4), measured((120,) * 4, SINGLE))
    (difference,) = caught.value.fields["differences"]
    assert "refine.fp16.onnx in half" in difference
    assert "refine.onnx in onnxruntime-cpu" in difference


def test_a_scene_is_known_by_how_it_is_drawn():
    """Its last bits depend on the processor."""
    before = decide(report_of(pair=SCENE))
    assert changed(before, decide(report_of(pair={**SCENE, "sha256": ["9"] * 2}))).same == 4
    with pytest.raises(RequestError):
        changed(before, decide(report_of(pair={**SCENE, "name": "procedural scene (seed 1, motion to 12 px)"})))


def test_another_machine_is_named():
    now = decide(report_of(environment={"torch": "2.14.0", "processor": "one"}))
    (note,) = changed(decide(report_of()), now).notes
    assert "torch 2.13.0, now 2.14.0" in note
    assert "processor" not in note
