"""The gate as a job: the files that it writes, and the baseline from the first acceptance to a drop."""

import os

import pytest

from refine_export.errors import RequestError
from refine_export.jobs.gate_report import gate
from refine_export.report.report_data import SCHEMA
from refine_export.support.text import json_text
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, mixed, report_of
from tests.support.refusals import refused


@pytest.fixture
def write(tmp_path):
    """Write a report of one file with these PSNRs, and return its path."""

    def written(*psnr, report=None):
        values = zip(FEEDS, psnr or (70, 80, 75, 66), strict=True)
        report = report or report_of([comparison(artifact(), feed, metrics(value)) for feed, value in values])
        (tmp_path / "report.json").write_text(json_text(report.to_dict()))
        return tmp_path / "report.json"

    return written


def test_everything_is_written_whatever_the_decision(write, tmp_path):
    (tmp_path / "summary").write_text("before\n")
    junit, markdown = tmp_path / "new" / "junit", tmp_path / "new" / "markdown"
    result = gate(write(report=mixed()), junit=junit, markdown=markdown, summary=tmp_path / "summary")
    assert (result.status, result.passed) == ("failed", False)
    assert junit.stat().st_size
    assert (tmp_path / "summary").read_text() == "before\n" + markdown.read_text()


def test_an_output_may_be_write_only(write, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: path != page or mode == os.W_OK)  # root may read everything
    assert gate(write(), markdown=page).passed
    assert page.stat().st_size


def test_to_dict_and_repr(write, tmp_path):
    content = gate(write(report=mixed())).to_dict()
    assert [group["status"] for group in content["groups"]] == ["passed", "failed", "not compared"]
    assert [problem["rule"] for problem in content["problems"]] == ["accuracy", "not-compared"]
    assert content["baseline"] is None
    gate(write(), baseline=tmp_path / "b.json", accept=True)
    result = gate(write(70, 85, 70, 66), baseline=tmp_path / "b.json")
    baseline = result.to_dict()["baseline"]
    assert [len(baseline[key]) for key in ("worse", "better", "new", "missing")] == [1, 1, 0, 0]
    assert baseline["same"] == 2
    assert len(repr(result)) < 300
    assert "'failed'" in repr(result)
    assert result.notes == ("a note",)


def test_one_file_is_not_two(write, tmp_path):
    report = write()
    content = report.read_text()
    for options in (
        {"junit": tmp_path / "x" / ".." / "report.json"},
        {"baseline": tmp_path / "b", "accept": True, "markdown": tmp_path / "b"},
    ):
        with refused("same-file", RequestError):
            gate(report, **options)
    assert report.read_text() == content


def test_a_summary_that_cannot_be_written_is_refused(write, tmp_path):
    with refused("cannot-write", RequestError, path=tmp_path):
        gate(write(), summary=tmp_path)


def test_a_link_to_itself_is_replaced(write, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    gate(write(), junit=tmp_path / "loop")
    assert (tmp_path / "loop").read_text().startswith("<")


def test_accept_writes_compares_and_writes_again(write, tmp_path):
    file = tmp_path / "baseline.json"
    for options, code in (({"accept": True}, "missing-option"), ({"baseline": file}, "file-not-readable")):
        with refused(code, RequestError):
            gate(write(), **options)
    assert gate(write(), baseline=file, accept=True).passed
    first = file.read_text()
    assert gate(write(), baseline=file, accept=True).changes.same == 4
    assert gate(write(70, 85, 75, 66), baseline=file).changes.offered
    assert file.read_text() == first
    assert gate(write(70, 85, 75, 66), baseline=file, accept=True).passed
    assert file.read_text() != first
    assert gate(write(70, 80, 75, 66), baseline=file).status == "failed"


def test_accept_writes_nothing_where_the_gate_does_not_pass(write, tmp_path):
    file = tmp_path / "baseline.json"
    assert not gate(write(50, 80, 75, 66), baseline=file, accept=True).passed
    assert gate(write(), baseline=file, accept=True, require=("trt",)).status == "not compared"
    assert not file.exists()
    gate(write(), baseline=file, accept=True)
    before = file.read_bytes()
    for psnr in ((60, 90, 75, 66), (50, 99, 75, 66)):  # worse than before; below the limits
        assert gate(write(*psnr), baseline=file, accept=True).status == "failed"
        assert file.read_bytes() == before


def test_a_report_is_not_a_baseline(write):
    other = write().rename(write().with_name("other.json"))
    with refused("wrong-schema", RequestError, found=SCHEMA):
        gate(write(), baseline=other)
