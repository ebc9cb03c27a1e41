"""The report is one file that needs nothing else; its tables show each verdict with its own limit."""

import base64
import dataclasses
import hashlib
import re
from typing import Any

import pytest

from refine_export.report.html import html_from_report
from refine_export.validate.comparison import Compared, Status
from tests.support.compared_pages import FRAMES, LOW, Page, compared_fixture, page_of, report_of  # noqa: F401 (fixtures)
from tests.support.gate_reports import STRICT, groups_of


def margin_in(text: str) -> str:
    """The one margin that the text has."""
    (found,) = re.findall(r"[\d.,]+ times (?:below|above) the limit", text)
    return str(found)


def test_page_is_whole_and_needs_nothing_else(compared: dict[str, Compared]) -> None:
    """All tags closed; ids once, links to them; no request; one script, whose hash the policy names."""
    source = page_of(*compared.values(), notes=("The weights are seeded random weights.",))
    assert not re.search(r"url\(|@import|https?://", source)
    page = Page(source)
    assert {name for name, _ in page.tags}.isdisjoint({"iframe", "object", "embed", "base", "form"})
    for name, attributes in page.tags:
        for key in ("src", "href", "srcset", "poster", "data", "action"):
            assert (attributes.get(key) or "#").startswith(("data:", "#")), (name, attributes)
        assert not [key for key in attributes if key.startswith("on")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in page.named("a")} <= set(ids)
    assert all(attributes["alt"] for attributes in page.named("img"))
    assert all(attributes.get("scope") for attributes in page.named("th"))
    assert all({"aria-label", "type"} & set(attributes) for attributes in page.named("input"))
    assert page.named("html") == [{"lang": "en"}]
    (script,) = re.findall("<script>(.*?)</script>", source, re.S)
    assert page.named("script") == [{}]
    (policy,) = [tag["content"] for tag in page.named("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "seeded random weights" in page.text.partition("Frames")[0]


def test_file_names_and_messages_are_escaped(compared: dict[str, Compared]) -> None:
    evil = '"><script>alert(1)</script>'
    verdict = dataclasses.replace(compared["none"].verdict, reasons=(evil,), runtime=evil)
    page = page_of(dataclasses.replace(compared["none"], verdict=verdict), file=evil, notes=(evil,))
    assert page.count("<script") == 1
    assert Page(page).text.count(evil) >= 4


@pytest.mark.parametrize(("name", "status"), [("near", "passed"), ("far", "failed"), ("none", "not compared")])
def test_each_status_has_its_word(compared: dict[str, Compared], name: str, status: Status) -> None:
    text = Page(page_of(compared[name])).text
    assert [word for word in ("PASSED", "FAILED", "NOT COMPARED") if word in text] == [status.upper()]
    assert f"{int(status == 'passed')} of 1" in text.partition("Frames")[0]


def test_each_row_has_its_own_limit(compared: dict[str, Compared]) -> None:
    """The same error of 0.03 fails in FP32 and passes in FP16; of one scale, each mark is at the row's limit."""
    source = page_of(compared["far"], compared["fp16 far"], compared["fp16 lost"])
    rows = [cells for cells in Page(source).tables["summary"][1:] if len(cells) > 1]
    said = [(cells[0], margin_in(cells[2])) for cells in rows]
    expected = ["failed, (290|300) times above", "failed, (2.9|3.0) times above", "passed, 3.3 times below"]
    for row, one in zip(expected, said, strict=True):
        assert re.fullmatch(f"{row} the limit", ", ".join(one))
    gauges = re.findall(r'<i style="width: ([\d.]+)%"></i><b style="left: ([\d.]+)%">', source)
    far, lost, same = ((float(bar), float(mark)) for bar, mark in gauges)
    assert far[1] < far[0] == same[0] < same[1] == lost[1] < lost[0]
    assert lost[1] - far[1] == pytest.approx(3 * 100 / 6, abs=0.1)  # 1e-4 and 1e-1 on decades from -5 to 1
    titles = re.findall(r'class="key-number">(.*?)</span>$', source, re.M)
    assert [margin_in(re.sub("<.*?>", "", title)) for title in titles] == [margin for _, margin in said]
    page = Page(source)
    limits = "1.0e-04 (interpolator_fp32), 1.0e-01 (interpolator_fp16)."
    assert f"the mark on each is its own limit: {limits}" in page.text
    _, *limits_table = page.tables["limits"]
    assert limits_table == [
        ["interpolator_fp32", "1.0e-04", "90 dB", "none", "none", "none"],
        ["interpolator_fp16", "1.0e-01", "50 dB", "none", "none", "none"],
    ]


def test_rows_follow_the_name_of_their_file(compared: dict[str, Compared]) -> None:
    """A group for each file, runtime and size: what failed comes first."""
    _, *rows = Page(page_of(compared["near"], compared["fp16 lost"])).tables["summary"]
    assert [len(cells) for cells in rows] == [1, 8, 1, 8]
    assert re.fullmatch(rf"failed interpolator FP16 +{LOW} , lost, 64 . 96 torch float32; 1 of 1 failed", rows[0][0])
    assert re.fullmatch(r"passed interpolator a.onnx , near, 64 . 96 torch float32; 1 of 1 feeds passed", rows[2][0])
    assert (rows[1][0], rows[3][0]) == ("failed", "passed")


def test_matrix_of_verdicts(compared: dict[str, Compared]) -> None:
    """A line per file and runtime, failed ones first, a column per size; what has no run has no verdict."""

    def at(name: str, size: tuple[int, int], batch: int = 1, runtime: str = "cpu") -> tuple[Compared, dict[str, Any]]:
        one = compared[name]
        verdict = dataclasses.replace(one.verdict, runtime=runtime)
        return dataclasses.replace(one, verdict=verdict), {"size": size, "batch": batch}

    cases = [
        at("near", (128, 192)),
        at("near", (64, 96), 2),
        at("same", (64, 96)),
        at("near", (64, 96)),
        at("fp16 far", (64, 96), runtime="half"),
        at("fp16 lost", (128, 192), runtime="half"),
        at("fp16 far", (128, 192), runtime="half"),
        at("short", (64, 96), runtime="other"),
        at("nan", (64, 96), runtime="other"),
        at("none", (64, 96), runtime="gpu"),
    ]
    report = report_of(*(one for one, _ in cases))
    changed = zip(report.comparisons, cases, strict=True)
    comparisons = tuple(dataclasses.replace(comparison, **where) for comparison, (_, where) in changed)
    groups = tuple(groups_of(comparisons, STRICT))
    source = html_from_report(dataclasses.replace(report, comparisons=comparisons, groups=groups), {}, FRAMES)
    head, *lines = Page(source).tables["matrix"]
    assert head[2:] == ["64 \u00d7 96", "128 \u00d7 192", "64 \u00d7 96 batch of 2"]
    fp32, fp16 = "90.0 dB 1.0e-04", "50.0 dB 1.0e-01"
    assert [line[:2] for line in lines] == [
        [f"interpolator FP16 {LOW} half", fp16],
        ["interpolator a.onnx other", fp32],
        ["interpolator a.onnx gpu", fp32],
        ["interpolator a.onnx cpu", fp32],
    ]

    psnr = {name: f"{compared[name].verdict.outputs[0].metrics.psnr_db:.1f} dB" for name in ("near", "fp16 lost")}
    far = f"{compared['fp16 far'].verdict.outputs[0].metrics.psnr_db:.1f} dB"
    near = f"passed {psnr['near']} 2.0e-05"
    nothing = "no run"
    assert [line[2:] for line in lines] == [
        [f"passed {far} 3.0e-02", f"failed {psnr['fp16 lost']} 3.0e-01 1 of 2 failed", nothing],
        ["failed n/a not finite 2 of 2 failed 1 without output", nothing, nothing],
        ["not compared why", nothing, nothing],
        [near, near, near],
    ]
    table = source[source.index('<table class="matrix">') : source.index('id="by-size"')]
    links = ["group-4", "comparison-6", "comparison-9", "group-7", "group-3", "group-1", "group-2"]
    assert re.findall('href="#(.*?)"', table) == links
