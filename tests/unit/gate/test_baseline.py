"""The file of a baseline: what is written is read back, and a damaged one is refused."""

import json

import pytest

from refine_export.errors import RequestError
from refine_export.gate.baseline import baseline_from_decision, baseline_from_file, write_baseline
from refine_export.gate.decision import decide
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, report_of
from tests.support.refusals import refused


@pytest.fixture
def path(tmp_path):
    values = zip(FEEDS, (70, 80, 75, None), strict=True)
    report = report_of([comparison(artifact(), feed, metrics(value)) for feed, value in values])
    write_baseline(tmp_path / "b.json", baseline_from_decision(decide(report)))
    return tmp_path / "b.json"


def test_entries_are_sorted_and_read_back(path):
    entries = baseline_from_file(path).entries
    assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
    assert {entry.psnr_db for entry in entries} == {70, 80, 75, None}


def test_a_graphs_old_name_is_read_as_the_new_one(path):
    content = json.loads(path.read_text())
    for entry in content["entries"]:
        entry |= {"file": "interpolator_m.fp16.onnx", "feed": f"interpolator_m 64x96, {entry['feed']}"}
    path.write_text(json.dumps(content))
    for entry in baseline_from_file(path).entries:
        assert entry.file == "interpolator.fp16.onnx"
        assert entry.feed.startswith("interpolator 64x96, ")


def test_a_file_keeps_its_name_in_another_folder_unless_two_share_it():
    def names(*files):
        made = [artifact(file) for file in files]
        comparisons = [comparison(one, "network", metrics()) for one in made]
        return [one.file for one in baseline_from_decision(decide(report_of(comparisons, artifacts=made))).entries]

    assert names("/elsewhere/refine.onnx") == ["refine.onnx"]
    assert names("a/refine.onnx", "b/refine.onnx") == ["a/refine.onnx", "b/refine.onnx"]


@pytest.mark.parametrize(
    ("change", "code", "problem"),
    [
        (lambda c: c.update(schema=2), "wrong-schema", ""),
        (lambda c: c.update(entries=[]), "schema-violation", "no entries"),
        (lambda c: c["entries"].append(c["entries"][0]), "schema-violation", "twice"),
        (lambda c: c["entries"][0].update(max_abs=-1.0), "schema-violation", "entries.0.max_abs"),
        (lambda c: c.pop("pair"), "schema-violation", "pair"),
    ],
)
def test_a_damaged_baseline_is_refused(path, change, code, problem):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with refused(code, RequestError) as caught:
        baseline_from_file(path)
    assert problem in str(caught.value.fields.get("problems", ""))
