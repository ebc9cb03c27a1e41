"""Annotations of GitHub Actions are escaped, and no more than GitHub shows."""

from pathlib import Path

from refine_export.gate.annotations import annotations_from_decision, located
from refine_export.gate.decision import decide
from tests.support.gate_reports import artifact, comparison, hostile, metrics, report_of

REPORT = Path("report.json")


def test_annotations_are_escaped():
    (line,) = annotations_from_decision(decide(hostile()), REPORT)
    assert line.startswith("::error file=")
    assert line.isprintable()
    properties, message = line.removeprefix("::error ").split("::", 1)
    assert {part.split("=")[0] for part in properties.split(",")} == {"file", "title"}
    assert "%0D%0A%3A%3Aerror%3A%3Ax%2C%25%3A@you" in properties
    assert "%0D%0A::error::x,%25:@you" in message


def test_annotations_are_no_more_than_are_shown():
    files = [artifact(f"{k}.onnx") for k in range(30)]
    report = report_of([comparison(made, "network", metrics(50.0)) for made in files], artifacts=files)
    lines = list(annotations_from_decision(decide(report), REPORT))
    assert len(lines) == 10
    assert "21 more" in lines[-1]
    assert list(annotations_from_decision(decide(report_of()), REPORT)) == []


def test_files_are_found_beside_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "made.onnx").touch()
    report = tmp_path / "out" / "report.json"
    for file, expected in (("made.onnx", "out/made.onnx"), ("other/x y.onnx",) * 2, ("/else/where.onnx",) * 2):
        assert located(file, report) == expected
