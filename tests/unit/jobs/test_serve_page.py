"""`serve_page` without a browser: what can be chosen, what is refused."""

import socket
import sys
from pathlib import Path
from threading import Event
from types import ModuleType

import pytest

from refine_export.errors import RequestError, UnavailableError
from refine_export.interpolation import frame_work
from refine_export.jobs import serve_page as module
from refine_export.jobs.serve_page import (
    FIRST,
    LOOPBACK,
    SECOND,
    WhileOpen,
    choices_of,
    interpolated_clip,
    middle_frames,
)
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import clip, read_clip
from tests.support.paths import names_in

RELEASED = {"torch, rife-4.0", "torch, hdv3"}


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("net.pkl", "net.onnx")]
    for path in paths:
        path.touch()
    return paths


def refused(code, function, *values, **named):
    with pytest.raises(RequestError) as caught:
        function(*values, **named)
    assert caught.value.code == code
    return str(caught.value)


def test_what_was_given_can_be_chosen_and_comes_first(files):
    checkpoint, file = files
    found = choices_of(checkpoint, [file])
    assert list(found)[:2] == ["torch, net.pkl", "net.onnx"]
    assert (found["torch, net.pkl"], found["net.onnx"]) == ({"checkpoint": checkpoint}, {"file": file})
    assert set(found) >= RELEASED
    assert choices_of("rife-4.0", ()) == choices_of(None, ())


def test_files_that_cannot_be_chosen(files, tmp_path):
    refused("not-found", choices_of, None, [tmp_path / "absent.onnx"])
    refused("name-twice", choices_of, None, [files[1], files[1]])


@pytest.mark.parametrize("name", ["hdv3.onnx", "/etc/passwd", ""])
def test_a_choice_that_the_page_does_not_offer(name, tmp_path):
    choices = choices_of(None, ())
    assert "torch, rife-4.0" in refused("unknown-choice", interpolated_clip, choices, "a.mp4", name, 2, 0, tmp_path)
    refused("unknown-choice", middle_frames, choices, "a.png", "b.png", FIRST, name, 0.5, tmp_path)


def test_nothing_was_dropped(tmp_path):
    refused("not-pictures-or-video", middle_frames, {}, "a.png", None, FIRST, SECOND, 0.5, tmp_path)
    refused("not-pictures-or-video", interpolated_clip, {}, None, "", 2, 0, tmp_path)


def test_the_pictures_themselves_need_no_network(tmp_path):
    assert middle_frames({}, "a.png", "b.png", SECOND, FIRST, 0.5, tmp_path) == (("b.png", "a.png"), "")


def test_a_clip_has_a_codec_of_browsers_and_ends_where_its_page_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_work, "REPORT_S", 0)
    choices = {"net": {"file": write_average(tmp_path / "net.onnx")}}
    source = clip(tmp_path / "in.mkv", 3, codec="libx265", layout="yuv420p10le")
    closed = Event()
    values = choices, str(source), "net", 2, 0, tmp_path, WhileOpen(closed)
    made, _ = interpolated_clip(*values)
    assert read_clip(Path(made)).video["codec"] == "h264"
    Path(made).unlink()
    closed.set()
    refused("page-closed", interpolated_clip, *values)
    assert names_in(tmp_path) == ["in.mkv", "net.onnx"]


def test_a_port_that_is_taken(monkeypatch):
    monkeypatch.setattr(module, "require", lambda name, extra: ModuleType(name))
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert "--port" in refused("port-taken", module.serve_page, port=port, on_start=pytest.fail)


def test_gradio_is_missing(monkeypatch, command):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UnavailableError) as caught:
        module.serve_page(on_start=pytest.fail)
    assert (caught.value.code, caught.value.fields["extra"]) == ("missing-package", "page")
    code, out, err = command("serve-page")
    assert (code, out) == (3, "")
    assert "pip install gradio" in err
    assert "http" not in err
