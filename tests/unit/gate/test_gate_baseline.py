"""The baseline: a drop beyond its own noise fails, noise does not, and accepting only ever makes it better."""

import dataclasses
import json

import pytest

from refine_export.errors import RequestError
from refine_export.gate.baseline import baseline_from_decision, baseline_from_file, write_baseline
from refine_export.gate.changes import FLOORS_DB, RESOLUTION, compare_with_baseline
from refine_export.gate.decision import decide
from refine_export.jobs.gate_report import gate
from refine_export.report.data import json_from_report
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, not_finite, report_of

FILE, SINGLE = artifact(), artifact("refine.onnx", "fp32")


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
    """Feeds lie 14 dB apart; a drop of 1 dB of one of them is still seen."""
    changes = changed(measured((70, 80, 75, 66)), measured((70, 79, 75, 66)))
    (drop,) = changes.drops
    assert drop.entry.feed.endswith("subpixel flow")
    assert (drop.drop_db, drop.noise_db) == (pytest.approx(1.0), 0.2)
    (problem,) = changes.problems
    assert (problem.rule, problem.status, problem.file) == ("baseline-drop", "failed", "refine.fp16.onnx")
    assert problem.reason == "PSNR 80.00 dB to 79.00 dB, worse by 1.00 dB (noise 0.20 dB)"


def test_noise_is_no_drop():
    """Within the floor; and of FP32 files, whose error is all noise, much more is."""
    assert not changed(measured((70, 80, 75, 66)), measured((69.85, 80.1, 75, 65.9))).drops
    other_kernels = (128.6, 148.3, 134.1, 148.7)  # from 129.9, 148.8, 135.5 and 149.1, as measured
    changes = changed(measured((129.9, 148.8, 135.5, 149.1), SINGLE), measured(other_kernels, SINGLE))
    assert (changes.drops, changes.gains) == ((), ())
    assert changed(measured((129.9,) * 4, SINGLE), measured((127.8, 129.9, 129.9, 129.9), SINGLE)).drops


def test_changes_that_differ_from_feed_to_feed_are_noise():
    """Median 0.05, scaled median deviation 3 * 1.4826 * 0.3 dB, cut to three floors: 0.6 dB."""
    before = measured((70, 80, 75, 66))
    scattered = measured((70.4, 79.65, 74.7, 66.25))
    assert not changed(before, scattered).drops
    three = ("network", "subpixel", "large")
    few = changed(measured((70, 80, 75), feeds=three), measured((70.4, 79.65, 74.7), feeds=three))
    assert {change.noise_db for change in few.drops} == {0.2}  # too few to say how much is noise


def test_a_change_that_all_feeds_share_is_no_noise():
    changes = changed(measured((70, 80, 75, 66)), measured((69.6, 79.6, 74.6, 65.6)))
    assert len(changes.drops) == 4


def test_no_scatter_hides_a_large_drop():
    drops = changed(measured((70, 80, 75, 66)), measured((76, 79, 72, 63))).drops
    assert {round(change.drop_db) for change in drops} == {1, 3}
    assert all(change.noise_db <= 3 * FLOORS_DB[False]["psnr_db"] + 1e-12 for change in drops)


@pytest.mark.parametrize("figure", ["max_abs", "p999_abs", "flicker"])
def test_every_figure_is_watched(figure):
    before = measured((70,) * 4, max_abs=0.004, p999_abs=0.001, flicker=0.0005)
    worse = {"max_abs": 0.004, "p999_abs": 0.001, "flicker": 0.0005}
    worse[figure] *= 1.5
    (*_, drop) = changed(before, measured((70,) * 4, **worse)).drops
    assert drop.figure == figure
    assert drop.drop_db == pytest.approx(3.52, abs=0.01)


def test_equality_that_is_lost_and_won():
    equal, near = measured((None,) * 4), measured((90,) * 4, max_abs=1e-4)
    lost = changed(equal, near)
    assert {change.figure for change in lost.drops} == {"psnr_db", "max_abs", "p999_abs"}
    assert "identical to 90.00 dB, worse by from or to equality" in str(lost.drops[0])
    won = changed(near, equal)
    assert not won.drops
    assert won.accepted.entries[0].psnr_db is None
    last_bit = measured((140,) * 4, max_abs=RESOLUTION / 2)
    assert not changed(equal, last_bit).drops


def test_gains_are_offered_and_accepted(tmp_path):
    changes = changed(measured((70, 80, 75, 66)), measured((70, 85, 75, 66)))
    (gain,) = changes.gains
    assert gain.drop_db == pytest.approx(-5)
    assert changes.offered
    assert not changes.problems
    assert [entry.psnr_db for entry in changes.accepted.entries] == [70, 85, 75, 66]


def test_small_drops_do_not_add_up():
    """Each time 0.15 dB worse, each time accepted: the third is 0.45 dB from the entry, which was never lowered."""
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
    assert problem.reason == "the report has no such comparison"


def test_what_was_not_compared_is_missing_too():
    def with_first(*given, **more):
        first = comparison(FILE, FEEDS[0], *given, **more)
        return decide(report_of([first, *(comparison(FILE, feed, metrics()) for feed in FEEDS[1:])]))

    before = decide(report_of())
    (problem,) = changed(before, with_first(None, missing="no CUDA")).problems
    assert (problem.status, problem.reason) == ("not compared", "it was not measured: no CUDA")
    (problem,) = changed(before, with_first(not_finite())).problems
    assert problem.status == "failed"
    assert "7 NaN" in problem.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"checkpoint": {"source": "other.pkl", "sha256": "d" * 64}},
            "its weights are flownet.pkl (sha256 cccccccccccc)",
        ),
        (
            {"pair": {"name": "c.png and d.png", "size": [64, 64], "sha256": ["3" * 64] * 2}},
            "report's are c.png and d.png",
        ),
    ],
)
def test_a_baseline_of_something_else_is_refused(change, said):
    before = decide(report_of())
    with pytest.raises(RequestError, match="of something else") as caught:
        changed(before, decide(dataclasses.replace(report_of(), **change)))
    assert said in str(caught.value)


def test_a_baseline_of_other_files_names_both():
    with pytest.raises(RequestError, match="of something else") as caught:
        changed(measured((70,) * 4), measured((120,) * 4, SINGLE))
    assert "refine.fp16.onnx in half on refine 64x64, network flow and 3 more" in str(caught.value)
    assert "refine.onnx in onnxruntime-cpu" in str(caught.value)


def test_a_scene_is_known_by_how_it_is_drawn():
    """Its last bits depend on the processor."""
    scene = {"name": "procedural scene (seed 0, motion to 12 px)", "size": [64, 64], "sha256": ["1"] * 2}
    before = decide(report_of(pair=scene))
    changes = changed(before, decide(report_of(pair={**scene, "sha256": ["9"] * 2})))
    assert changes.same == 4
    with pytest.raises(RequestError, match="frames"):
        changed(before, decide(report_of(pair={**scene, "name": "procedural scene (seed 1, motion to 12 px)"})))


def test_another_machine_is_named():
    now = decide(report_of(environment={"torch": "2.14.0", "processor": "one"}))
    (note,) = changed(decide(report_of()), now).notes
    assert "torch 2.13.0, now 2.14.0" in note
    assert "processor" not in note


def test_a_file_keeps_its_entries_in_another_folder():
    moved = artifact("/elsewhere/refine.fp16.onnx")
    assert changed(measured((70,) * 4), measured((70,) * 4, moved)).same == 4
    two = [artifact("a/refine.onnx"), artifact("b/refine.onnx")]
    comparisons = [comparison(made, "network", metrics()) for made in two]
    entries = baseline_from_decision(decide(report_of(comparisons, artifacts=two))).entries
    assert [entry.file for entry in entries] == ["a/refine.onnx", "b/refine.onnx"]


# The file


@pytest.fixture
def here(tmp_path):
    def write(decision):
        (tmp_path / "report.json").write_text(json_from_report(decision.report))
        return tmp_path / "report.json", tmp_path / "baseline.json"

    return write


def test_accept_writes_compares_and_writes_again(here):
    report, file = here(measured((70, 80, 75, 66)))
    with pytest.raises(RequestError, match="does not exist; give a baseline"):
        gate(report, baseline=file)
    assert gate(report, baseline=file, accept=True).baseline == f"{file}: written, with 4 entries"
    first = file.read_text()
    assert gate(report, baseline=file, accept=True).baseline.endswith("unchanged, since nothing is better or new")
    assert gate(report, baseline=file).baseline.endswith(": compared")
    here(measured((70, 85, 75, 66)))
    offered = gate(report, baseline=file)
    assert (offered.status, offered.baseline) == (
        "passed",
        f"{file}: there is something better or new; --accept writes it",
    )
    assert file.read_text() == first
    assert gate(report, baseline=file, accept=True).baseline.endswith("written, with 1 entries better and 0 new")
    here(measured((70, 80, 75, 66)))
    assert gate(report, baseline=file).status == "failed"


def test_accept_is_refused_where_the_gate_fails(here):
    report, file = here(measured((70, 80, 75, 66)))
    gate(report, baseline=file, accept=True)
    before = file.read_bytes()
    here(measured((60, 90, 75, 66)))
    result = gate(report, baseline=file, accept=True)
    assert result.status == "failed"
    assert "not written, since the gate is failed; what got worse or is missing can't be accepted" in result.baseline
    here(measured((50, 99, 75, 66)))
    assert gate(report, baseline=file, accept=True).status == "failed"
    assert file.read_bytes() == before
    file.unlink()
    assert "not written" in gate(report, baseline=file, accept=True).baseline
    assert not file.exists()


def test_accept_is_refused_where_a_runtime_is_missing(here):
    report, file = here(measured((70, 80, 75, 66)))
    result = gate(report, baseline=file, accept=True, require=("trt",))
    assert (result.status, file.exists()) == ("not compared", False)


def test_a_write_that_is_interrupted_leaves_the_old_file(here, monkeypatch):
    report, file = here(measured((70, 80, 75, 66)))
    gate(report, baseline=file, accept=True)
    before = file.read_bytes()
    here(measured((75, 80, 75, 66)))

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(RequestError, match="No space left"):
        gate(report, baseline=file, accept=True)
    assert file.read_bytes() == before
    assert [path.name for path in sorted(file.parent.iterdir())] == ["baseline.json", "report.json"]


def test_entries_are_sorted_and_survive_the_file(tmp_path):
    baseline = baseline_from_decision(measured((70, 80, 75, None)))
    write_baseline(tmp_path / "b.json", baseline)
    loaded = baseline_from_file(tmp_path / "b.json")
    assert sorted(loaded.entries, key=str) == sorted(baseline.entries, key=str)
    assert [entry.key for entry in loaded.entries] == sorted(entry.key for entry in baseline.entries)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(schema=2), "no baseline of schema 1"),
        (lambda c: c.update(entries=[]), "no entries"),
        (lambda c: c["entries"].append(c["entries"][0]), "an entry twice"),
        (lambda c: c["entries"][0].update(max_abs="0"), r"entries\.0\.max_abs"),
        (lambda c: c["entries"][0].update(max_abs=-1.0), "below 0"),
        (lambda c: c.pop("pair"), "pair"),
    ],
)
def test_a_damaged_baseline_is_refused(tmp_path, change, said):
    write_baseline(tmp_path / "b.json", baseline_from_decision(measured((70,) * 4)))
    content = json.loads((tmp_path / "b.json").read_text())
    change(content)
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match=said):
        baseline_from_file(tmp_path / "b.json")


def test_a_report_is_no_baseline(here):
    report, _ = here(measured((70,) * 4))
    with pytest.raises(RequestError, match="no baseline of schema 1"):
        baseline_from_file(report)
