"""What CI systems read: JUnit XML, Markdown, annotations; hostile names stay text."""

import dataclasses
from xml.etree import ElementTree

import pytest

from refine_export.errors import RequestError
from refine_export.gate.annotations import annotations_from_decision, located_from
from refine_export.gate.baseline import baseline_from_decision
from refine_export.gate.changes import compare_with_baseline
from refine_export.gate.decision import decide
from refine_export.gate.junit import junit_from_decision
from refine_export.gate.markdown import ROWS_SHOWN, markdown_from_decision
from refine_export.jobs.gate_report import GateFiles, gate
from refine_export.report.data import json_from_report
from refine_export.validate.validate_options import ValidateOptions
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, no_tensorrt, report_of

FILE = artifact()
HOSTILE = "a|b`<script>&\x00\x1b[31m\ufffe\r\n::error::x,%:@you [l](http://e.vil) \U0001f600"
ALLOWED = ValidateOptions(share=0.75)


def mixed(**more):
    """One file that passes, one with a feed that fails, one that was not compared."""
    good, bad, gone = artifact("good.onnx"), artifact("bad.onnx"), artifact("gone.onnx")
    comparisons = [comparison(good, feed, metrics()) for feed in FEEDS]
    comparisons += [comparison(bad, "network", metrics(50.0)), comparison(bad, "large", metrics())]
    comparisons += [comparison(gone, "network", None, missing="no CUDA here")]
    return report_of(comparisons, artifacts=[good, bad, gone], shortfalls=[no_tensorrt(counts=False)], **more)


def hostile():
    made = artifact(HOSTILE)
    return report_of([comparison(made, HOSTILE, None, refused=HOSTILE)], artifacts=[made])


def parsed(decision):
    return ElementTree.fromstring(junit_from_decision(decision).encode())


# JUnit


def test_junit_counts_and_outcomes():
    root = parsed(decide(mixed(), require=("trt",)))
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8",
        "failures": "1",
        "errors": "2",
        "skipped": "0",
    }
    assert [suite.get("name") for suite in root] == [
        "good.onnx in half at 1x64x64",
        "bad.onnx in half at 1x64x64",
        "gone.onnx in half at 1x64x64",
        "gate",
    ]
    failure = root.find("./testsuite/testcase/failure")
    assert failure.get("message") == "residual: PSNR 50.00 dB, below 58"
    assert [error.get("type") for error in root.iter("error")] == ["not-compared", "required-runtime"]
    assert root.find("./testsuite/testcase").attrib == {
        "name": "refine 64x64, network flow",
        "classname": "good.onnx in half at 1x64x64",
        "time": "0.250",
        "file": "good.onnx",
    }
    for suite in root:
        assert int(suite.get("tests")) == len(suite.findall("testcase"))


def test_junit_skips_only_what_does_not_count():
    """A feed that may fail, and a runtime that nobody requires."""
    first = comparison(FILE, FEEDS[0], metrics(50.0))
    comparisons = [first, *(comparison(FILE, feed, metrics()) for feed in FEEDS[1:])]
    decision = decide(report_of(comparisons, options=ALLOWED, shortfalls=[no_tensorrt(counts=False)]))
    assert decision.status == "passed"
    root = parsed(decision)
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("0", "0", "2")
    messages = [skipped.get("message") for skipped in root.iter("skipped")]
    assert messages == ["failed, which is allowed: residual: PSNR 50.00 dB, below 58", "there is no GPU"]


@pytest.mark.parametrize("make", [mixed, hostile, report_of, lambda: report_of([])])
def test_junit_is_green_only_where_the_gate_is(make):
    decision = decide(make())
    root = parsed(decision)
    assert (decision.status == "passed") == (root.get("failures") == "0" and root.get("errors") == "0")


def test_junit_has_the_baseline():
    before = baseline_from_decision(decide(report_of()))
    now = decide(report_of([comparison(FILE, feed, metrics(66.0)) for feed in FEEDS[:2]]))
    changes = compare_with_baseline(now, before)
    root = parsed(dataclasses.replace(now, problems=(*now.problems, *changes.problems)))
    kinds = [found.get("type") for found in root.iter("failure")]
    assert kinds == ["baseline-drop", "baseline-drop", "baseline-missing", "baseline-missing"]


def test_junit_escapes_what_xml_forbids():
    root = parsed(decide(hostile()))  # a parser takes it
    name = root.find("./testsuite/testcase").get("name")
    assert "<script>&\\x00\\x1b[31m\\ufffe\r\n::error" in name
    assert name.endswith("\U0001f600 flow")


# Markdown


def test_markdown_says_what_is_wrong_first():
    text = markdown_from_decision(decide(mixed()))
    lines = text.splitlines()
    assert lines[0] == "## ❌ failed: accuracy gate"
    rows = [line.split(" | ")[:2] for line in lines if line.startswith(("| ❌", "| ⚠️", "| ✅"))]
    assert rows == [["| ❌ failed", "bad.onnx"], ["| ⚠️ not compared", "gone.onnx"], ["| ✅ passed", "good.onnx"]]
    assert "| 1 of 2 | 50.0 dB | 4.0e-03 |" in text
    assert "- **bad.onnx in half at 1x64x64**: ❌ failed (accuracy): 1 of 2 feeds failed; " in text
    assert "- TensorRT: there is no GPU" in text


def test_markdown_is_text_whatever_the_report_says():
    text = markdown_from_decision(decide(hostile()))
    for raw in ("<script>", "\x00", "\x1b", "`<", "@you", "[l](http", "http://", "\r"):
        assert raw not in text, raw
    assert all(line.count(" | ") == 6 for line in text.splitlines() if line.startswith("| ❌"))


def test_a_thousand_groups_stay_short():
    files = [artifact(f"{k}.onnx") for k in range(1000)]
    report = report_of([comparison(made, "x" * 3000, metrics(50.0)) for made in files], artifacts=files)
    text = markdown_from_decision(decide(report))
    assert len(text.encode()) < 2**20 / 4
    assert f"and {1000 - ROWS_SHOWN} more groups" in text
    assert sum(line.startswith("| ❌") for line in text.splitlines()) == ROWS_SHOWN


def test_markdown_has_the_baseline():
    before = baseline_from_decision(decide(report_of()))
    now = decide(report_of([comparison(FILE, feed, metrics(75.0)) for feed in (*FEEDS, "zero")]))
    text = markdown_from_decision(now, compare_with_baseline(now, before))
    assert "0 entries within their noise, 0 worse, 4 better, 1 new, 0 missing. Accept with `--accept`." in text
    assert "PSNR 70.00 dB to 75.00 dB, better by 5.00 dB" in text


# Annotations


def test_annotations_are_escaped():
    (line,) = annotations_from_decision(decide(hostile()))
    assert line.startswith("::error file=")
    assert line.count("\n") == line.count("\r") == 0
    properties, message = line.removeprefix("::error ").split("::", 1)
    assert {part.split("=")[0] for part in properties.split(",")} == {"file", "title"}
    assert "%0D%0A%3A%3Aerror%3A%3Ax%2C%25%3A@you" in properties
    assert "%0D%0A::error::x,%25:@you" in message
    assert "\x1b" not in line


def test_annotations_are_no_more_than_are_shown():
    files = [artifact(f"{k}.onnx") for k in range(30)]
    report = report_of([comparison(made, "network", metrics(50.0)) for made in files], artifacts=files)
    lines = list(annotations_from_decision(decide(report)))
    assert len(lines) == 10
    assert lines[-1] == "::error title=accuracy gate::and 21 more problems: see the summary"
    assert list(annotations_from_decision(decide(report_of()))) == []


def test_files_are_found_beside_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "made.onnx").touch()
    located = located_from(tmp_path / "out" / "report.json")
    assert located("made.onnx") == "out/made.onnx"
    assert located("other/x y.onnx") == "other/x y.onnx"
    assert located("/else/where.onnx") == "/else/where.onnx"


# All of them


def test_everything_is_written_whatever_the_decision(tmp_path):
    (tmp_path / "report.json").write_text(json_from_report(mixed()))
    (tmp_path / "summary").write_text("before\n")
    names = {name: tmp_path / "new" / name for name in ("junit", "markdown")}
    result = gate(tmp_path / "report.json", files=GateFiles(**names, summary=tmp_path / "summary"))
    assert result.status == "failed"
    assert all(path.stat().st_size for path in names.values())
    assert (tmp_path / "summary").read_text() == "before\n" + names["markdown"].read_text()


def test_no_file_overwrites_another(tmp_path):
    report = tmp_path / "report.json"
    report.write_text(json_from_report(report_of()))
    content = report.read_text()
    with pytest.raises(RequestError, match="the report and --junit are both"):
        gate(report, files=GateFiles(junit=tmp_path / "x" / ".." / "report.json"))
    with pytest.raises(RequestError, match="--baseline and --markdown are both"):
        gate(report, baseline=tmp_path / "b", accept=True, files=GateFiles(markdown=tmp_path / "b"))
    with pytest.raises(RequestError, match="accept without a baseline"):
        gate(report, accept=True)
    assert report.read_text() == content
