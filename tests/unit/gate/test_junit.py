"""JUnit XML has a case for each feed, and is green only where the gate passes."""

import dataclasses
from xml.etree import ElementTree

import pytest

from refine_export.gate.baseline import baseline_from_decision
from refine_export.gate.changes import compare_with_baseline
from refine_export.gate.decision import decide
from refine_export.gate.junit import junit_from_decision
from refine_export.validate.validate_options import ValidateOptions
from tests.support.gate_reports import FEEDS, artifact, comparison, hostile, metrics, mixed, no_tensorrt, report_of


def parsed(decision):
    return ElementTree.fromstring(junit_from_decision(decision).encode())


def test_counts_and_outcomes():
    root = parsed(decide(mixed(), require=("trt",)))
    counts = [int(root.get(key)) for key in ("tests", "failures", "errors", "skipped")]
    assert counts == [8, 1, 2, 0]
    names = [f"{name}.onnx in half at 1x64x64" for name in ("good", "bad", "gone")]
    assert [suite.get("name") for suite in root] == [*names, "gate"]
    assert [error.get("type") for error in root.iter("error")] == ["not-compared", "required-runtime"]
    assert [(failure.get("type"), bool(failure.get("message"))) for failure in root.iter("failure")] == [
        ("accuracy", True)
    ]
    assert root.find("./testsuite/testcase").attrib == {
        "name": "refine 64x64, network flow",
        "classname": names[0],
        "time": "0.250",
        "file": "good.onnx",
    }
    for suite in root:
        assert int(suite.get("tests")) == len(suite.findall("testcase"))


def test_only_what_does_not_count_is_skipped():
    """A feed that may fail, and a runtime that nobody requires."""
    comparisons = [comparison(artifact(), feed, metrics(50.0 if feed == FEEDS[0] else 70.0)) for feed in FEEDS]
    options = ValidateOptions(share=0.75)
    decision = decide(report_of(comparisons, options=options, shortfalls=[no_tensorrt(counts=False)]))
    assert decision.status == "passed"
    root = parsed(decision)
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("0", "0", "2")
    assert len(list(root.iter("skipped"))) == 2


@pytest.mark.parametrize("make", [mixed, hostile, report_of, lambda: report_of([])])
def test_it_is_green_only_where_the_gate_is(make):
    decision = decide(make())
    root = parsed(decision)
    assert (decision.status == "passed") == (root.get("failures") == "0" and root.get("errors") == "0")


def test_it_has_the_problems_of_the_baseline():
    now = decide(report_of([comparison(artifact(), feed, metrics(66.0)) for feed in FEEDS[:2]]))
    changes = compare_with_baseline(now, baseline_from_decision(decide(report_of())))
    root = parsed(dataclasses.replace(now, problems=(*now.problems, *changes.problems)))
    kinds = [found.get("type") for found in root.iter("failure")]
    assert kinds == ["baseline-drop", "baseline-drop", "baseline-missing", "baseline-missing"]


def test_what_xml_forbids_is_escaped():
    root = parsed(decide(hostile()))
    name = root.find("./testsuite/testcase").get("name")
    assert "<script>&\\x00\\x1b[31m\\ufffe\r\n::error" in name
    assert name.endswith("\U0001f600 flow")
