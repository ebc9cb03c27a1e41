"""The page in a browser, headless Chromium: no errors, the slider moves, the filter filters."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from refine_export.report.html import html_from_report
from refine_export.report.pictures import data_uri_from_frame
from tests.support.chromium import Tab, browser, needs_chromium
from tests.support.page_reports import FRAMES, long_report, pictures_of

SLIDER = "document.querySelector('details[open] .slider')"
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def pipes(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def tab(pipes):
    return Tab(*pipes)


@pytest.fixture(scope="module")
def report():
    return long_report(files=4, feeds=3)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    """60 comparisons of which some fail; the reference is black, the candidate white."""
    black, white = (data_uri_from_frame(np.full((1, 3, 90, 160), level, np.float32)) for level in (0.0, 1.0))
    pictures = {
        key: type(found)(**vars(found) | {"reference": black, "candidate": white})
        for key, found in pictures_of(report).items()
    }
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_from_report(report, pictures, FRAMES), encoding="utf-8")
    return path


def test_nothing_complains_and_nothing_is_requested(tab, page):
    tab.open(page.as_uri())
    assert tab.value("document.documentElement.className") == "script"
    assert tab.value("document.querySelectorAll('.slider').length") > 0
    assert tab.complaints == []


def test_a_script_that_the_policy_does_not_name_is_refused(tab, page):
    """The test above can fail: the browser logs it. Without the script both pictures are visible."""
    spoilt = page.with_name("spoilt.html")
    spoilt.write_text(page.read_text(encoding="utf-8").replace("classList.add", "classList .add"), encoding="utf-8")
    tab.open(spoilt.as_uri())
    assert tab.value("document.documentElement.className") == ""
    (complaint,) = tab.complaints
    assert "Content Security Policy" in complaint["entry"]["text"]
    boxes = f"[...{SLIDER}.querySelectorAll('img')].map((one) => one.getBoundingClientRect().toJSON())"
    first, second = tab.value(boxes)
    assert first["right"] <= second["left"] or first["bottom"] <= second["top"]
    assert min(first["width"], second["width"]) > 100
    assert tab.value("document.querySelector('.filter').hidden")


@pytest.mark.parametrize("place", [0, 30, 50, 100])
def test_the_slider_moves(tab, page, place):
    """Left of the line is the reference, black, and right of it the candidate, white."""
    tab.open(page.as_uri())
    box = tab.value(
        f"(() => {{ const range = {SLIDER}.querySelector('input'); range.value = {place};"
        " range.dispatchEvent(new Event('input', { bubbles: true }));"
        f" const box = {SLIDER}.querySelector('img').getBoundingClientRect();"
        " return [box.x + scrollX, box.y + scrollY, box.width, box.height] })()"
    )
    x, y, width, height = box
    clip = {"x": x, "y": y, "width": width, "height": height / 4, "scale": 1}
    data = tab.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
    levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    white = (levels[2:-2] > 128).mean(axis=0)  # both pictures share the pixels of an edge between two rows
    line = place * len(white) // 100
    assert white[5 : max(5, line - 5)].max(initial=0) == 0
    assert white[line + 5 : -5].min(initial=1) == 1
    assert tab.value(f"{SLIDER}.querySelector('input').getAttribute('aria-valuetext')") == f"{place} % reference"
    assert tab.complaints == []


def test_the_filter_filters(tab, page, report):
    """By verdict and by words; the target of a link is shown again."""
    tab.open(page.as_uri())
    rows = "[...document.querySelectorAll('.comparisons tbody tr:not(.group)')].filter((row) => row.offsetParent)"
    count = "document.querySelector('.filter output').textContent"
    total = len(report.comparisons)
    failed = sum(one.verdict.status == "failed" for one in report.comparisons)
    assert (tab.value(f"{rows}.length"), tab.value(count)) == (total, f"{total} of {total} comparisons")
    tab.value("document.querySelector('.filter input[value=failed]').click()")
    assert 0 < failed < total
    assert (tab.value(f"{rows}.length"), tab.value(count)) == (failed, f"{failed} of {total} comparisons")
    tab.value("document.querySelector(\".filter input[value='']\").click()")
    tab.value("document.querySelector('.filter input[type=search]').focus()")
    tab.call("Input.insertText", text="CUDA refine-3 1088")
    groups = "[...document.querySelectorAll('.comparisons tbody')].filter((body) => body.offsetParent).length"
    assert (tab.value(f"{rows}.length"), tab.value(groups)) == (3, 1)
    tab.value("document.querySelector('.matrix a[href^=\"#group\"]').click()")
    assert tab.value(f"{rows}.length") == total
    assert re.fullmatch("#group-[0-9]+", tab.value("location.hash"))
    assert tab.complaints == []


def test_it_fits_a_telephone(tab, page):
    """At 420 pixels nothing but tables in boxes of their own is wider than the window."""
    tab.call("Emulation.setDeviceMetricsOverride", width=420, height=900, deviceScaleFactor=1, mobile=False)
    path = page.with_name("long_names.html")
    name = "a_folder/another_folder/a_file_with_a_long_name/refine-3.onnx"
    path.write_text(page.read_text(encoding="utf-8").replace("refine-3.onnx", name), encoding="utf-8")
    tab.open(path.as_uri())
    assert tab.value("document.documentElement.scrollWidth") <= 420
    tab.call("Emulation.clearDeviceMetricsOverride")
