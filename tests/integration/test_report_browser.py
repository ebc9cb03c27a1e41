"""The page in a browser, headless Chromium: no errors, the slider moves, the filter filters.

It is driven by its DevTools protocol over a pipe (`--remote-debugging-pipe`: JSON that ends in a NUL, on the file
descriptors 3 and 4), so that what the browser logs is seen.
"""

import base64
import contextlib
import io
import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

from refine_export.report.html import html_from_report
from refine_export.report.pictures import data_uri_from_frame
from tests.support.page_reports import FRAMES, long_report, pictures_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe --hide-scrollbars --window-size=1200,900"
)
SECONDS = 60
SLIDER = "document.querySelector('details[open] .slider')"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium")


class Tab:
    """A tab of a browser; errors and requests of the page are in `complaints`."""

    def __init__(self, send, receive):
        self._send, self._receive, self._buffer = send, receive, b""
        self._numbers = itertools.count(1)
        self._session = None
        self._loaded = False
        self.complaints = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def _next(self):
        """The next answer or event."""
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no message from chromium for {SECONDS} s"
            part = os.read(self._receive, 1 << 20)
            assert part, "chromium ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        self._loaded |= method == "Page.loadEventFired"
        request = params.get("request", {}).get("url", "file:") if method == "Network.requestWillBeSent" else "file:"
        logged = method in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        if logged or not request.startswith(("file:", "data:")):
            self.complaints.append(params)
        return message

    def open(self, path):
        self._loaded = False
        self.call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._next()

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The pipes of a browser with a profile of its own."""
    to_read, send = os.pipe()
    receive, to_write = os.pipe()
    command = f'exec "$@" 3<&{to_read} 4>&{to_write}'
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", CHROMIUM, *FLAGS.split(), profile],
        pass_fds=(to_read, to_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_read)
    os.close(to_write)
    yield send, receive
    os.close(send)
    os.close(receive)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(SECONDS)


@pytest.fixture
def tab(browser):
    return Tab(*browser)


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
    tab.open(page)
    assert tab.value("document.documentElement.className") == "script"
    assert tab.value("document.querySelectorAll('.slider').length") > 0
    assert tab.complaints == []


def test_a_script_that_the_policy_does_not_name_is_refused(tab, page):
    """The test above can fail: the browser logs it. Without the script both pictures are visible."""
    spoilt = page.with_name("spoilt.html")
    spoilt.write_text(page.read_text(encoding="utf-8").replace("classList.add", "classList .add"), encoding="utf-8")
    tab.open(spoilt)
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
    tab.open(page)
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
    tab.open(page)
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
    tab.open(path)
    assert tab.value("document.documentElement.scrollWidth") <= 420
    tab.call("Emulation.clearDeviceMetricsOverride")
