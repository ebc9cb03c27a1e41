"""`serve-page` in headless Chromium: pictures and a clip go in, frames come out, nothing leaves the machine."""

import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image

import refine_export as rx
from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.jobs.serve_page import LOOPBACK
from tests.support.chromium import SECONDS, Tab, browser, needs_chromium
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import assert_frames, numbered, read_clip, write_clip
from tests.support.paths import ROOT

PROGRAM = "from refine_export.cli.main import program; program()"
CLIP_TAB = "[...document.querySelectorAll('button[role=tab]')].find((one) => one.innerText == 'A clip')"
pytestmark = [
    needs_chromium,
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is missing: pip install gradio"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network without a timestep: it computes the middle alone."""
    path = tmp_path_factory.mktemp("weights") / "ifnet.pkl"
    torch.save(dict(seeded_checkpoint("IFNet").state_dict), path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An ONNX file without weights, with a timestep."""
    return write_average(tmp_path_factory.mktemp("files") / "average.onnx")


@pytest.fixture(scope="module")
def url(weights, file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    options = ["--checkpoint", str(weights), "--file", str(file), "--port", str(free_port())]
    words = [sys.executable, "-c", PROGRAM, "serve-page", *options]
    settings = {"env": os.environ | {"TMPDIR": str(folder)}, "cwd": ROOT, "text": True}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings) as process:
        try:
            yield process.stderr.readline().split()[0]
        finally:
            process.terminate()
            output, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (130, "")
    assert list(folder.iterdir()) == []


@pytest.fixture
def tab(url, tmp_path):
    with browser(tmp_path / "profile") as pipes:
        tab = Tab(*pipes)
        tab.open(url)
        tab.wait("document.querySelectorAll('input[type=file]').length == 2")
        yield tab
    requests = [one["request"]["url"] for one in tab.complaints if "request" in one]
    assert requests
    assert [one for one in requests if not one.startswith((url, f"blob:{url}"))] == []


def download(tab, expression):
    with urllib.request.urlopen(tab.value(expression)) as answer:
        return answer.read()


def choose(tab, label, name):
    """Choose from a list as a click does."""
    tab.value(f"document.querySelector('input[aria-label=\"{label}\"]').focus()")
    tab.wait(f"!!document.querySelector('[role=option][aria-label=\"{name}\"]')")
    tab.value(
        f"document.querySelector('[role=option][aria-label=\"{name}\"]')"
        ".dispatchEvent(new MouseEvent('mousedown', { bubbles: true }))"
    )
    tab.wait(f"document.querySelector('input[aria-label=\"{label}\"]').value == '{name}'")


def test_two_pictures_give_the_frames_of_weights_and_of_a_file_in_the_slider(tab, weights, file, tmp_path):
    pictures = [tmp_path / f"{number}.png" for number in (21, 42)]
    for place, (path, number) in enumerate(zip(pictures, (21, 42), strict=True)):
        Image.fromarray(numbered(number)).save(path)
        tab.give_file(f"[...document.querySelectorAll('input[type=file]')].at({-place})", path)
        tab.wait(f"document.querySelectorAll('.image-frame img').length == {place + 1}")
    choose(tab, "left", file.name)
    tab.value("document.querySelector('#compute').click()")
    notes = tab.wait("document.querySelector('#notes textarea').value").splitlines()
    assert ["average.onnx" in notes[0], "ifnet.pkl" in notes[1]] == [True, True]
    tab.wait("document.querySelectorAll('#compared img').length >= 2")
    shown = [
        np.asarray(Image.open(io.BytesIO(download(tab, f"document.querySelectorAll('#compared img')[{place}].src"))))
        for place in (0, 1)
    ]
    rx.interpolate(pictures, output=tmp_path / "torch.png", checkpoint=weights)
    rx.interpolate(pictures, output=tmp_path / "file.png", file=file)
    expected = [np.asarray(Image.open(tmp_path / name)) for name in ("torch.png", "file.png")]
    assert not np.array_equal(*expected)
    assert sorted(one.tobytes() for one in shown) == sorted(one.tobytes() for one in expected)
    tab.value(
        "(() => { const range = document.querySelector('input[type=range]'); range.value = 0.3;"
        " range.dispatchEvent(new Event('input', { bubbles: true }));"
        " range.dispatchEvent(new Event('change', { bubbles: true })) })()"
    )
    tab.value("document.querySelector('#compute').click()")
    tab.wait("document.body.innerText.includes('timestep is 0.3; expected 0.5')")


def test_a_clip_gives_a_clip(tab, file, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", [numbered(number) for number in range(4)])
    tab.value(f"{CLIP_TAB}.click()")
    tab.wait("!!document.querySelector('input[type=file][accept*=video]')")
    tab.give_file("document.querySelector('input[type=file][accept*=video]')", clip)
    tab.wait("!!document.querySelector('video')")
    choose(tab, "computed by", file.name)
    tab.value("document.querySelector('#compute-clip').click()")
    assert "4 frames became 8" in tab.wait("document.querySelector('#clip-notes textarea').value")
    tab.wait("!!document.querySelector('#interpolated video')")
    (tmp_path / "out.mp4").write_bytes(download(tab, "document.querySelector('#interpolated video').src"))
    assert_frames(read_clip(tmp_path / "out.mp4").pictures, 4, 2)


def test_a_forged_request_opens_nothing(url, weights, tmp_path):
    """A path of this machine that was not uploaded, and a choice that the page does not offer."""
    path = tmp_path / "secret.png"
    Image.fromarray(numbered(1)).save(path)
    sides = ["first picture", "second picture", 0.5]
    assert submitted(url, [*2 * [as_file(uploaded(url, path))], *sides])["success"]
    assert not submitted(url, [*2 * [as_file(path)], *sides])["success"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{url}/gradio_api/file={path}")
    answer = submitted(url, [*2 * [as_file(uploaded(url, path))], "first picture", str(weights), 0.5])
    assert "not in the list of choices" in answer["output"]["error"]


def test_what_is_not_a_picture_is_named_as_the_visitor_named_it(url, tmp_path):
    path = tmp_path / "text"
    path.write_text("not a picture")
    answer = submitted(url, [*2 * [as_file(uploaded(url, path))], "first picture", "average.onnx", 0.5])
    assert answer["output"]["error"].startswith("a.png cannot be read as a picture")


def as_file(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def uploaded(url, path):
    """Upload a file, and return its path in the server's folder."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{url}/gradio_api/upload", head + path.read_bytes() + b"\r\n--x--\r\n", kind)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)[0]


def submitted(url, data):
    """Send what the page sends when the first button is pressed, and return the event of its end.

    The connection is closed before the stream's end: a server in which SIGPIPE has its default ends by that.
    """
    body = json.dumps({"data": data, "fn_index": 0, "session_hash": "forged"}).encode()
    request = urllib.request.Request(f"{url}/gradio_api/queue/join", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request).close()
    with urllib.request.urlopen(f"{url}/gradio_api/queue/data?session_hash=forged", timeout=SECONDS) as events:
        for line in events:
            event = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
            if event.get("msg") == "process_completed":
                return event
    raise AssertionError("the stream of events ended")
