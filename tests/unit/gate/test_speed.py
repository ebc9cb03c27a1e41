"""Latency ratios against a baseline: what is noise, what fails, and what accepting writes."""

import dataclasses
import json

import pytest

from refine_export.errors import RequestError
from refine_export.gate.baseline import baseline_from_file
from refine_export.gate.speed import SpeedEntry, accepted_speeds, noise_of, speed_problems
from refine_export.jobs.gate_report import gate
from refine_export.report.report_data import MeasuredLatency
from refine_export.runners.latency import measure_in_turn, ratio_in_turn
from refine_export.support.text import json_text
from tests.support.gate_reports import report_of
from tests.support.refusals import refused

FILE = "refine.fp16.onnx"


def entry(ratio, error=0.0, file=FILE):
    return SpeedEntry(file=file, runtime="half", size="1x64x64", ratio=ratio, ratio_error=error)


@pytest.mark.parametrize(
    ("before", "now", "fails"),
    [
        (entry(1.0), entry(1.09), False),
        (entry(1.0), entry(1.11), True),
        (entry(1.0, 0.05), entry(1.2, 0.05), False),  # three errors of both together: 21 %
        (entry(1.0, 0.05), entry(1.22, 0.05), True),
        (entry(1.0, 0.5), entry(1.49, 0.5), False),
        (entry(1.0, 0.5), entry(1.51, 0.5), True),  # noise has an upper bound
        (entry(1.0), entry(0.5), False),
    ],
)
def test_a_rise_fails_beyond_the_noise(before, now, fails):
    assert bool(list(speed_problems([before], [now]))) == fails, noise_of(before, now)


def test_accepting_is_a_ratchet():
    assert accepted_speeds([entry(1.0)], [entry(0.95)]) == (entry(1.0),)
    assert accepted_speeds([entry(1.0)], [entry(0.8)]) == (entry(0.8),)
    assert accepted_speeds([entry(1.0)], [entry(1.3), entry(2.0, file="b")]) == (entry(1.0), entry(2.0, file="b"))


def written(path, candidate_s, reference_s=0.002):
    """Write a report of a candidate and a reference of these latencies, measured in turn by a clock of their own."""
    now = 0.0

    def run(seconds):
        nonlocal now
        now += seconds

    calls = {"candidate": lambda: run(candidate_s), "reference": lambda: run(reference_s)}
    seconds = measure_in_turn(calls, 7, clock=lambda: now)
    ratio, error = ratio_in_turn(seconds["candidate"], seconds["reference"])
    measured = MeasuredLatency(
        file=FILE,
        runtime="half",
        batch=1,
        size=(64, 64),
        runs=7,
        median_ms=2.0,
        reference_ms=2.0,
        ratio=ratio,
        ratio_error=error,
    )
    path.write_text(json_text(report_of(latencies=(measured,)).to_dict()))
    return path


def test_a_slow_candidate_fails_where_speed_is_asked_for(tmp_path):
    baseline = tmp_path / "baseline.json"
    accepted = gate(written(tmp_path / "before.json", 0.002), baseline=baseline, accept=True, speed=True)
    assert accepted.passed
    assert [one.key for one in baseline_from_file(baseline).speeds] == [(FILE, "half", "1x64x64")]
    slow = written(tmp_path / "slow.json", 0.02)
    assert gate(slow, baseline=baseline).passed
    result = gate(slow, baseline=baseline, speed=True, accept=True, junit=tmp_path / "gate.xml")
    assert [(one.rule, one.file) for one in result.decision.problems] == [("baseline-slower", FILE)]
    assert result.status == "failed"
    assert "baseline-slower" in (tmp_path / "gate.xml").read_text()
    assert baseline_from_file(baseline).speeds[0].ratio < 5


def test_a_baseline_without_ratios_takes_them_and_one_with_ratios_keeps_them(tmp_path):
    baseline, report = tmp_path / "baseline.json", written(tmp_path / "report.json", 0.002)
    gate(report, baseline=baseline, accept=True)
    content = json.loads(baseline.read_text())
    del content["speeds"]  # as an earlier version wrote it
    baseline.write_text(json.dumps(content))
    assert gate(report, baseline=baseline, accept=True, speed=True).changes.faster == 1
    before = baseline_from_file(baseline).speeds
    plain = tmp_path / "plain.json"
    plain.write_text(json_text(report_of().to_dict()))
    assert gate(plain, baseline=baseline, accept=True).passed
    assert baseline_from_file(baseline).speeds == before
    other = dataclasses.replace(before[0], file="gone.onnx")
    assert [one.status for one in speed_problems([other], before)] == ["not compared"]


def test_speed_needs_latencies_and_a_baseline(tmp_path):
    plain = tmp_path / "plain.json"
    plain.write_text(json_text(report_of().to_dict()))
    with refused("no-latency", RequestError):
        gate(plain, baseline=tmp_path / "baseline.json", accept=True, speed=True)
    with refused("no-latency", RequestError):
        gate(written(tmp_path / "report.json", 0.002), speed=True)
