"""The page in a browser, headless Chromium: no errors, the slider moves, the filter filters.

It is driven by its DevTools protocol over a pipe (`--remote-debugging-pipe`: JSON that ends in a NUL, on the file
descriptors 3 and 4), so that keys are real ones and what the browser logs is seen.
"""

import contextlib
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
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--hide-scrollbars",
    "--window-size=1200,900",
]
SECONDS = 60
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium")


class Tab:
    """A tab of a browser; what the page or the browser complain of is in `complaints`."""

    def __init__(self, send, receive):
        self._send, self._receive, self._buffer = send, receive, b""
        self._numbers = itertools.count(1)
        self._session = None
        self._events = []
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
            self._event(answer)
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def _next(self):
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"chromium said nothing for {SECONDS} s"
            part = os.read(self._receive, 1 << 20)
            assert part, "chromium ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _event(self, message):
        method, params = message["method"], message["params"]
        self._events.append(method)
        if method in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(params)
        if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
            self.complaints.append(params)

    def open(self, path):
        self._events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._event(self._next())

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key, code):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A way to open tabs, of one browser with a profile of its own."""
    to_read, send = os.pipe()
    receive, to_write = os.pipe()
    profile = tmp_path_factory.mktemp("profile")
    command = f'exec "$@" 3<&{to_read} 4>&{to_write}'
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
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
    shown = {}
    for key, pictures in pictures_of(report).items():
        black, white = (data_uri_from_frame(np.full((1, 3, 90, 160), level, np.float32)) for level in (0.0, 1.0))
        shown[key] = type(pictures)(**vars(pictures) | {"reference": black, "candidate": white})
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_from_report(report, shown, FRAMES), encoding="utf-8")
    return path


SLIDER = "document.querySelector('details[open] .slider')"
RANGE = f"{SLIDER}.querySelector('input')"


def seen(tab, tmp_path):
    """How much of the picture on the page is white, the candidate's colour: by column, from left to right."""
    import base64

    box = tab.value(
        f"(() => {{ const b = {SLIDER}.querySelector('img').getBoundingClientRect();"
        " return [b.x + scrollX, b.y + scrollY, b.width, b.height] })()"
    )
    x, y, width, height = box
    clip = {"x": x, "y": y, "width": width, "height": height / 4, "scale": 1}
    data = tab.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
    path = tmp_path / "seen.png"
    path.write_bytes(base64.b64decode(data))
    return (np.asarray(Image.open(path).convert("L")) > 128).mean(axis=0)


def test_nothing_complains_and_nothing_is_requested(tab, page):
    tab.open(page)
    assert tab.value("document.documentElement.className") == "script"
    assert tab.value("document.querySelectorAll('.slider').length") > 0
    assert tab.complaints == []


def test_a_script_that_the_policy_does_not_name_is_refused(tab, page):
    """The test before could fail: the browser says so."""
    spoilt = page.with_name("spoilt.html")
    spoilt.write_text(page.read_text(encoding="utf-8").replace("classList.add", "classList .add"), encoding="utf-8")
    tab.open(spoilt)
    assert tab.value("document.documentElement.className") == ""
    (complaint,) = tab.complaints
    assert "Content Security Policy" in complaint["entry"]["text"]
    boxes = f"[...{SLIDER}.querySelectorAll('img')].map((one) => one.getBoundingClientRect().toJSON())"
    first, second = tab.value(boxes)  # without the script both pictures are seen
    assert first["right"] <= second["left"] or first["bottom"] <= second["top"]
    assert min(first["width"], second["width"]) > 100
    assert tab.value("document.querySelector('.filter').hidden")


def test_the_slider_moves(tab, page, tmp_path):
    """By keys and by the mouse: left of the line is the reference, black, and right of it the candidate, white."""
    tab.open(page)
    tab.value(f"{RANGE}.scrollIntoView({{block: 'center'}})")
    columns = seen(tab, tmp_path)
    assert columns[5:-5].mean() == pytest.approx(0.5, abs=0.03)
    assert columns[5 : len(columns) // 3].max() == 0
    assert columns[2 * len(columns) // 3 : -5].min() == 1

    tab.value(f"{RANGE}.focus()")
    for _ in range(5):
        tab.press("ArrowRight", 39)
    assert tab.value(f"{RANGE}.value") == "55"
    assert tab.value(f"{RANGE}.getAttribute('aria-valuetext')") == "55 % reference"
    assert seen(tab, tmp_path).mean() == pytest.approx(0.45, abs=0.03)
    tab.press("End", 35)
    assert seen(tab, tmp_path)[5:-5].mean() == pytest.approx(0, abs=0.02)
    tab.press("Home", 36)
    assert seen(tab, tmp_path)[5:-5].mean() == pytest.approx(1, abs=0.02)

    x, y, width, height = tab.value(
        f"(() => {{ const b = {SLIDER}.querySelector('img').getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height] })()"
    )
    middle = y + height / 2
    tab.mouse("mousePressed", x + 0.3 * width, middle, button="left", clickCount=1)
    tab.mouse("mouseMoved", x + 0.8 * width, middle, button="left", buttons=1)
    tab.mouse("mouseReleased", x + 0.8 * width, middle, button="left", clickCount=1)
    assert int(tab.value(f"{RANGE}.value")) == pytest.approx(80, abs=2)
    assert seen(tab, tmp_path).mean() == pytest.approx(0.2, abs=0.03)
    assert tab.complaints == []


def test_the_filter_filters(tab, page, report):
    """By verdict and by words; what a link leads to is shown again."""
    tab.open(page)
    shown = (
        "[...document.querySelectorAll('.comparisons tbody tr:not(.group)')].filter((row) => row.offsetParent).length"
    )
    said = "document.querySelector('.filter output').textContent"
    total = len(report.comparisons)
    failed = sum(one.verdict.status == "failed" for one in report.comparisons)
    assert (tab.value(shown), tab.value(said)) == (total, f"{total} of {total} comparisons")
    tab.value("document.querySelector('.filter input[value=failed]').click()")
    assert 0 < failed < total
    assert (tab.value(shown), tab.value(said)) == (failed, f"{failed} of {total} comparisons")
    tab.value("document.querySelector(\".filter input[value='']\").click()")
    tab.value("document.querySelector('.filter input[type=search]').focus()")
    tab.call("Input.insertText", text="CUDA refine-3 1088")
    groups = "[...document.querySelectorAll('.comparisons tbody')].filter((body) => body.offsetParent).length"
    assert (tab.value(shown), tab.value(groups)) == (3, 1)
    tab.value("document.querySelector('.matrix a[href^=\"#group\"]').click()")
    assert tab.value(shown) == total
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
