"""The page is one file that needs nothing else, and shows what the tables, charts and verdicts contain."""

import base64
import dataclasses
import hashlib
import re
import time

import pytest

from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import Rounding
from refine_export.report.engine_proof import EngineProof
from refine_export.report.html import html_from_report
from refine_export.report.report_data import Shortfall
from refine_export.report.summary import outcome_text
from refine_export.report.tables import MOST_DETAILS, MOST_OPEN
from tests.support.compared_pages import FRAMES, OFF, Page, page_of
from tests.support.gate_reports import artifact, comparison, metrics, no_tensorrt, report_of
from tests.support.page_reports import bisected, long_report, pictures_of

LARGEST_BYTES = 20 * 10**6
PICTURE = "data:image/webp;base64," + "A" * 200_000


def test_page_is_whole_and_needs_nothing_else():
    """All tags closed; ids once, links to them; no request; one script, whose hash the policy names."""
    runs = (*OFF, "short", "none", ("far", "fp16"), ("lost", "fp16"))
    source = page_of(*runs, notes=("The weights are seeded random weights.",))
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
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "seeded random weights" in page.text.partition("Frames")[0]


def test_names_and_messages_are_escaped():
    evil = '"><script>alert(1)</script>'
    made = artifact(evil)
    row = comparison(made, "network", None, runtime=evil, missing=evil)
    page = html_from_report(report_of([row], artifacts=[made], notes=(evil,)), {}, FRAMES)
    assert page.count("<script") == 1
    assert Page(page).text.count(evil) >= 4


@pytest.mark.parametrize(
    ("names", "status"),
    [(("near",), "passed"), (("far",), "failed"), (("none",), "not compared"), ((), "not compared")],
)
def test_each_status_has_its_word(names, status):
    text = Page(page_of(*names)).text
    assert [word for word in ("PASSED", "FAILED", "NOT COMPARED") if word in text] == [status.upper()]


@pytest.mark.parametrize("counts", [False, True])
def test_what_is_missing_beside_the_comparisons_is_noted(counts):
    page = Page(page_of("near", shortfalls=(no_tensorrt(counts=counts),)))
    assert "there is no GPU" in page.text
    assert ("(not required)" in page.text) is not counts


def test_tables_of_verdicts():
    """The same error of 0.03 fails in FP32 and passes in FP16."""
    page = Page(page_of("far", ("far", "fp16"), "none"))
    _, *lines = page.tables["matrix"]
    assert [(line[1], line[2].split()[0]) for line in lines] == [
        ("90.0 dB 1.0e-04", "failed"),
        ("90.0 dB 1.0e-04", "not"),
        ("58.0 dB 5.0e-02", "passed"),
    ]
    head, *rows = page.tables["comparisons"]
    assert head[2:] == ["Largest error", "PSNR", "99.9th percentile", "Mean"]
    assert [row[0].split()[0] for row in rows] == ["failed", "failed", "not", "not", "passed", "passed"]
    assert [len(row) for row in rows] == [1, 6, 1, 3, 1, 6]
    head, *limits = page.tables["limits"]
    assert limits == [["refine_fp32", "1.0e-04", "90 dB"], ["refine_fp16", "5.0e-02", "58 dB"]]


def test_each_row_shows_the_limit_that_decided():
    """4 times 2 times a cost of rounding of 0.004 allow an error of 0.032, which is not above an absolute 0.001."""
    limits = Limits(max_abs=1e-3, psnr_db=90.0, times=2.0)
    found = metrics(69.0, 0.02, rounding=Rounding(max_of_peak=4e-3, psnr_db=70.0, feed="x"))
    page = Page(html_from_report(report_of([comparison(artifact(), "network", found, limits=limits)]), {}, FRAMES))
    text = page.text.replace(" ,", ",")
    _, _, row = page.tables["comparisons"]
    assert (row[0], "1.6 times below the limit of 3.2e-02" in row[2]) == ("passed", True)
    assert "2.0e-02 of the peak, 1.6 times below the limit of 3.2e-02" in text
    assert "largest error 3.2e-02, PSNR 63.9794 dB Rounding alone" in text
    assert page.tables["matrix"][1][1] == "90.0 dB, or 2 \u00d7 rounding 1.0e-03, or 8 \u00d7 rounding"
    assert "2 times what rounding costs (8 for the largest error) is allowed" in text


def test_ssim_and_flicker_are_shown_where_they_were_measured():
    made = artifact()
    found = metrics(70.0, ssim=0.5, flicker=0.001)
    page = Page(html_from_report(report_of([comparison(made, "network", found)]), {}, FRAMES))
    head, _, row = page.tables["comparisons"]
    assert head[6:] == ["SSIM", "Flicker"]
    assert row[6:] == ["0.500000", "1.0e-03"]


def test_values_that_are_not_finite_and_equal_arrays():
    for name, text in (("nan", "NaN or infinite values"), ("same", "identical")):
        assert text in re.sub("<.*?>", "", re.search('class="key-number">.*', page_of(name))[0])


def test_a_thousand_comparisons_are_small_and_quick():
    """126 pictures of 600 kB would be 120 MB: those that are left out are counted."""
    report = long_report()
    pictures = pictures_of(report, PICTURE)
    assert len(pictures) * 3 * len(PICTURE) > 3 * LARGEST_BYTES
    started = time.process_time()
    page = html_from_report(report, pictures, FRAMES)
    assert time.process_time() - started < 10
    assert len(page.encode()) < LARGEST_BYTES
    shown = page.count('class="slider"')
    assert f"the pictures of {len(pictures) - shown} are left out" in page
    assert len(re.findall(r'<tr role="row" class="[a-z-]+">', page)) == 1000
    assert len(re.findall(r'<tr role="row" class="group [a-z-]+">', page)) == 100
    details = re.findall(r'<details class="comparison panel ([a-z-]+)"( open)?', page)
    assert (len(details), {status for status, _ in details}) == (MOST_DETAILS, {"failed"})
    assert [bool(opened) for _, opened in details].count(True) == MOST_OPEN


def test_bisection_shows_the_first_jump():
    report = dataclasses.replace(long_report(files=2, feeds=1), bisect=(bisected(), bisected(layers=20, bad=0)))
    page = html_from_report(report, {}, FRAMES)
    table, whole = (part.partition("</table>")[0] for part in page.split('<table class="layers">')[1:])
    assert re.search(r'<tr class="failed">.*/block0/conv120/Conv.*<td>first jump</td></tr>', table)
    assert (table.count("failed"), whole.count("failed")) == (1, 0)
    assert "First jump: Conv <code>/block0/conv120/Conv</code>" in page
    assert "&lt;mode&gt; is nearest" in page
    assert 'id="bisect"' not in html_from_report(dataclasses.replace(report, bisect=()), {}, FRAMES)


def test_engines_that_were_not_run_have_a_table_and_do_not_change_the_verdict():
    engine = EngineProof(
        graph="refine",
        file="refine.fp16.rtx",
        library="rtx",
        target="TensorRT for RTX 1.7.1.116 on RTX GPUs (sm89)",
        proven="not executed: no <RTX> GPU",
        executed=False,
        fallback="gather",
        types={"CONVOLUTION HALF -> HALF": 25},
        promised={"CONVOLUTION HALF -> HALF": 25},
        unchecked=(),
        samplers=8,
        sampling={"LINEAR CLAMP aligned": 8},
        repairs=("sampler: align_corners was False",),
        memory={"scratch_bytes": 2**24},
        layers={"CONVOLUTION": 25, "CAST": 5},
    )
    unbuilt = Shortfall(what="unet.rtx", status="failed", reason="Myelin\nline 2", counts=False, runtime="rtx")
    report = report_of(shortfalls=[unbuilt], engines=(engine,))
    page = html_from_report(report, {}, FRAMES)
    Page(page)
    assert report.status == "passed"
    for text in (
        "PASSED",
        "not executed: no &lt;RTX&gt; GPU",
        "25 CONVOLUTION HALF → HALF",
        "16.0 MiB scratch",
        ">30<",
    ):
        assert text in page
    sentences = outcome_text(report)
    assert "1 engine built" in sentences
    assert "unet.rtx" in sentences
