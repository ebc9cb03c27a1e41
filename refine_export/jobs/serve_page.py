"""`serve_page`: a web page on this machine that interpolates two pictures or a clip, and compares frames."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from refine_export.checkpoint.released_weights import RELEASED
from refine_export.errors import RefineExportError, RequestError
from refine_export.jobs.interpolate_frames import interpolate
from refine_export.jobs.load_inputs import AnyPath, path_of
from refine_export.support.files import check_input_file
from refine_export.support.imports import require
from refine_export.support.progress import Progress, Silent
from refine_export.support.text import listed

LOOPBACK = "127.0.0.1"
LARGEST_UPLOAD = "500mb"
KEPT_S = 3600
"""Seconds after which uploads and results are deleted; they also are when the server ends."""
FIRST, SECOND = "first picture", "second picture"


class WhileOpen(Silent):
    """Ends a clip whose page was closed: others wait for it.

    Args:
        closed: set when the page is.
    """

    def __init__(self, closed: Event) -> None:
        self._closed = closed

    def within(self, phase: str, done: int, steps: int) -> None:
        """Go on while the page is open.

        Raises:
            RequestError: `page-closed`.
        """
        if self._closed.is_set():
            raise RequestError(f"the page was closed at frame {done} of {steps}", code="page-closed")


Choices = Mapping[str, Mapping[str, Any]]
"""Keywords of `interpolate` by the name that the page shows; a visitor can choose nothing else."""


def choices_of(checkpoint: AnyPath | None, files: Sequence[AnyPath]) -> Choices:
    """Return what a visitor can choose from: what was given at the start, and the released weights.

    Raises:
        RequestError: a file does not exist, or two have one name.
    """
    found: dict[str, Mapping[str, Any]] = {}
    given = [("torch, ", "checkpoint", checkpoint)] if checkpoint is not None else []
    for prefix, keyword, value in [*given, *(("", "file", file) for file in files)]:
        path = path_of(value)
        if keyword == "checkpoint" and str(path) in RELEASED:
            continue
        check_input_file(path, RequestError, "give weights with --checkpoint, ONNX files and engines with --file")
        name = f"{prefix}{path.name}"
        if name in (FIRST, SECOND, *found, *map(_of_released, RELEASED)):
            problem = "has the name of another choice, and the page shows names; rename one of them"
            raise RequestError.about(path, "name-twice", problem)
        found[name] = {keyword: path}
    return found | {_of_released(name): {"checkpoint": Path(name)} for name in RELEASED}


def _of_released(name: str) -> str:
    return f"torch, {name}"


def middle_frames(
    choices: Choices,
    first: str | None,
    second: str | None,
    left: str,
    right: str,
    timestep: float,
    folder: Path,
    progress: Progress | None = None,
) -> tuple[tuple[str, str], str]:
    """Compute the frame between two pictures for each side of the slider.

    Args:
        left: FIRST or SECOND, which stay as they are, or a key of `choices`; as `right`.
        folder: receives the frames.
        progress: receives the steps.

    Returns:
        The paths of both sides, and what computed them.
    """
    if not first or not second:
        raise RequestError("one picture is missing; give two of one size", code="not-pictures-or-video")
    sides = {FIRST: first, SECOND: second}
    notes: list[str] = []
    for side in dict.fromkeys((left, right)):
        if side not in sides:
            output = folder / f"{len(notes)}.png"
            pair, what = [first, second], _chosen(choices, side)
            result = interpolate(pair, output=output, timestep=timestep, progress=progress, **what)
            sides[side] = str(output)
            notes.append(f"{side}: {result.seconds:.2f} s with loading, {result.computed_by}")
    return (sides[left], sides[right]), "\n".join(notes)


def interpolated_clip(
    choices: Choices,
    clip: str | None,
    choice: str,
    times: float,
    fps: float,
    folder: Path,
    progress: Progress | None = None,
) -> tuple[str, str]:
    """Put frames between those of a clip: `fps` a second, or where that is 0, `times` as many.

    The codec is one that browsers play: gradio would encode any other again, with a loss.
    """
    if not clip:
        raise RequestError("the clip is missing; give a video", code="not-pictures-or-video")
    rate: dict[str, Any] = {"fps": fps} if fps else {"times": times}
    rate |= {"codec": "libx264", "progress": progress}
    result = interpolate(clip, output=folder / "clip.mp4", **rate, **_chosen(choices, choice))
    frames = f"{result.frames_read} frames became {result.frames_written} in {result.seconds:.1f} s"
    return str(result.path), "\n".join([frames, result.computed_by, *result.notes])


def _chosen(choices: Choices, name: str) -> Mapping[str, Any]:
    if name not in choices:
        raise RequestError(f"{name} cannot be chosen; expected {listed(list(choices))}", code="unknown-choice")
    return choices[name]


def serve_page(
    *,
    checkpoint: AnyPath | None = None,
    files: Sequence[AnyPath] = (),
    port: int = 7860,
    on_start: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve the page on 127.0.0.1 until the process is interrupted.

    Args:
        checkpoint: weights that can be chosen beside the released ones.
        files: ONNX files and engines that can be chosen.
        port: of the server.
        on_start: receives the URL when the server answers.

    Raises:
        RequestError: a file does not exist, or `port-taken`.
        UnavailableError: gradio is missing.
    """
    choices = choices_of(checkpoint, files)
    with tempfile.TemporaryDirectory(prefix="refine-export-page-") as folder:
        # Read as gradio is imported: a folder for uploads and copies of results, no telemetry, no history of runs.
        os.environ |= {
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_RUN_HISTORY": "False",
        }
        gradio = require("gradio", extra="page")
        check_port(port)
        page = _page(gradio, choices, Path(folder))
        page.queue(default_concurrency_limit=1, max_size=8, api_open=False)
        page.launch(
            server_name=LOOPBACK,
            server_port=port,
            share=False,
            quiet=True,
            footer_links=[],
            max_file_size=LARGEST_UPLOAD,
            theme=gradio.themes.Base(font="sans-serif", font_mono="monospace"),  # of this machine
            prevent_thread_lock=True,
        )
        try:
            on_start(f"http://{LOOPBACK}:{port}")
            Event().wait()
        finally:
            page.close(verbose=False)


def check_port(port: int) -> None:
    """Refuse a port of 127.0.0.1 that cannot be used: gradio's own message gives no option of ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            message = f"port {port} cannot be used ({error.strerror}); give another with --port"
            raise RequestError(message, code="port-taken", port=port) from error


def _page(gradio: Any, choices: Choices, folder: Path) -> Any:
    closed: dict[str, Event] = {}
    """Set when a page is closed, by gradio's name of its session."""

    def guarded(job: Callable[..., Any]) -> Callable[..., Any]:
        def run(request: Any, *values: Any) -> Any:
            own = Path(tempfile.mkdtemp(dir=folder))
            watch = WhileOpen(closed.setdefault(request.session_hash, Event()))
            try:
                return job(choices, *values, own, watch)
            except RefineExportError as error:
                shutil.rmtree(own, ignore_errors=True)
                message = re.sub(rf"{re.escape(str(folder))}/\w+/", "", str(error))  # names as the visitor knows them
                raise gradio.Error(message, duration=None, print_exception=False) from error

        run.__annotations__["request"] = gradio.Request  # by which gradio knows it
        return run

    def close(request: Any) -> None:
        closed.pop(request.session_hash, Event()).set()

    close.__annotations__["request"] = gradio.Request
    names = list(choices)
    with gradio.Blocks(title="refine-export", analytics_enabled=False, delete_cache=(60, KEPT_S)) as page:
        with gradio.Tab("Two pictures"):
            with gradio.Row():
                pictures = [gradio.Image(label=name, type="filepath", sources=["upload"]) for name in (FIRST, SECOND)]
            for picture in pictures:  # gradio opens it, fails without a reason, and encodes what is not RGB again
                picture.preprocess = lambda upload: upload and upload.path
            with gradio.Row():
                left = gradio.Dropdown([FIRST, SECOND, *names], value=FIRST, label="left")
                right = gradio.Dropdown([FIRST, SECOND, *names], value=names[0], label="right")
                timestep = gradio.Slider(0.05, 0.95, 0.5, step=0.05, label="timestep; 0.5 is the middle")
            start = gradio.Button("Compute the frame", elem_id="compute")
            slider = gradio.ImageSlider(label="left | right", interactive=False, elem_id="compared")
            notes = gradio.Textbox(label="computed by", elem_id="notes")
            inputs = [*pictures, left, right, timestep]
            start.click(guarded(middle_frames), inputs, [slider, notes], api_visibility="private")
        with gradio.Tab("A clip"):
            clip = gradio.Video(label="clip", sources=["upload"])
            with gradio.Row():
                choice = gradio.Dropdown(names, value=names[0], label="computed by")
                times = gradio.Slider(2, 8, 2, step=1, label="frames for one")
                fps = gradio.Number(0, minimum=0, label="or frames a second; 0: by the slider")
            start_clip = gradio.Button("Interpolate the clip", elem_id="compute-clip")
            video = gradio.Video(label="interpolated", interactive=False, elem_id="interpolated")
            clip_notes = gradio.Textbox(label="result", elem_id="clip-notes")
            inputs, outputs = [clip, choice, times, fps], [video, clip_notes]
            start_clip.click(guarded(interpolated_clip), inputs, outputs, api_visibility="private")
        page.unload(close)
    return page
