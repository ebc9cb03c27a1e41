"""The Markdown summary: failures first, short, and text whatever the report contains."""

from refine_export.gate.baseline import baseline_from_decision
from refine_export.gate.changes import compare_with_baseline
from refine_export.gate.decision import decide
from refine_export.gate.markdown import ROWS_SHOWN, markdown_from_decision
from tests.support.gate_reports import FEEDS, artifact, comparison, hostile, metrics, mixed, report_of


def rows_of(text):
    return [
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and "Verdict" not in line
    ]


def test_failures_come_first():
    text = markdown_from_decision(decide(mixed()))
    assert text.startswith("## ❌ failed")
    rows = rows_of(text)
    assert [row[0].split()[0] for row in rows] == ["❌", "⚠️", "✅"]
    assert rows[0][1:] == ["bad.onnx", "half", "64x64", "1 of 2", "50.0 dB", "4.0e-03"]
    assert rows[1][4:] == ["0 of 1", "n/a", "n/a"]
    assert "- **bad.onnx in half at 1x64x64**: ❌ failed (accuracy): " in text
    assert "- TensorRT: there is no GPU" in text


def test_everything_is_text_whatever_the_report_contains():
    text = markdown_from_decision(decide(hostile()))
    for raw in ("<script>", "\x00", "\x1b", "`<", "@you", "[l](http", "http://", "\r"):
        assert raw not in text, raw
    assert [len(row) for row in rows_of(text)] == [7]


def test_a_thousand_groups_stay_short():
    files = [artifact(f"{k}.onnx") for k in range(1000)]
    report = report_of([comparison(made, "x" * 3000, metrics(50.0)) for made in files], artifacts=files)
    text = markdown_from_decision(decide(report))
    assert len(text.encode()) < 2**20 / 4
    assert f"and {1000 - ROWS_SHOWN} more groups" in text
    assert len(rows_of(text)) == ROWS_SHOWN


def test_it_has_the_baseline():
    before = baseline_from_decision(decide(report_of()))
    now = decide(report_of([comparison(artifact(), feed, metrics(75.0)) for feed in (*FEEDS, "zero")]))
    changes = compare_with_baseline(now, before)
    text = markdown_from_decision(now, changes)
    assert changes.counts in text
    assert [text.count(f"\n- {kind}: ") for kind in ("better", "new", "note")] == [4, 1, 0]
