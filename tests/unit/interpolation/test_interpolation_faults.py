"""Whatever goes wrong: one clear error, and nothing half-written."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.interpolation.backends import ComputeOptions
from refine_export.interpolation.bounded_queue import Stopped
from refine_export.interpolation.interpolate_files import VideoOptions, interpolate_pictures, interpolate_video
from refine_export.interpolation.writer import EncoderOptions, VideoWriter
from refine_export.runners.triton.client import ServerOptions
from tests.support.interpolation_clips import Averaging, Sound, numbered, shares_of, write_clip
from tests.support.paths import ROOT


def clip(path, count=6, **options):
    return write_clip(path, [numbered(number) for number in range(count)], **options)


def run(source, output, *, compute=None, force=False, **options):
    return interpolate_video(source, output, VideoOptions(**options), compute=compute or Averaging(), force=force)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_truncated_video_leaves_nothing(tmp_path):
    """Matroska says its length; half of it is gone."""
    whole = clip(tmp_path / "whole.mkv", 60, codec="ffv1").read_bytes()
    (tmp_path / "in.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FrameError, match="is truncated|can't be decoded|is broken"):
        run(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mkv", "whole.mkv"]


def test_an_mp4_that_loses_its_end_is_truncated_not_shorter(tmp_path):
    whole = clip(tmp_path / "whole.mp4", 60, options={"movflags": "faststart", "qp": "0"})
    import av

    front = tmp_path / "front.mp4"  # its index first, so that it opens
    with av.open(str(whole)) as source, av.open(str(front), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = front.read_bytes()
    (tmp_path / "in.mp4").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(FrameError, match=r"ends after \d+ frames, at .* seconds: it is truncated|can't be decoded"):
        run(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_damage_in_the_middle_is_said(tmp_path):
    content = bytearray(clip(tmp_path / "whole.mkv", 30, codec="ffv1").read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 600):
        content[at] ^= 0x5A
    (tmp_path / "in.mkv").write_bytes(content)
    with pytest.raises(FrameError, match="can't be decoded|is broken at frame"):
        run(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mkv", "whole.mkv"]


def test_times_that_the_output_cannot_tell_apart_are_said(tmp_path):
    """Matroska counts milliseconds."""
    source = clip(tmp_path / "in.mp4", 12, rate=8000)
    with pytest.raises(FrameError, match="0.0156 ms apart, and this output counts in 1 ms: write .mp4, or give fewer"):
        run(source, tmp_path / "out.mkv", times=8)
    assert names(tmp_path) == ["in.mp4"]


def test_an_encoder_that_fails_is_said(tmp_path, monkeypatch):
    import av

    def fail(*_):
        raise av.error.ExternalError(-542398533, "Generic error in an external library")

    monkeypatch.setattr(VideoWriter, "frame", fail)
    source = clip(tmp_path / "in.mp4")
    with pytest.raises(RequestError, match=r"can't write .*out.mp4: Generic error in an external library; choose"):
        run(source, tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "can't be decoded"), (b"no video at all" * 99, "can't be decoded"), (None, "no file")]
)
def test_what_is_no_video_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(FrameError, match=words):
        run(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_sound_alone_is_no_video(tmp_path):
    import av

    from tests.support.interpolation_clips import _write_sound

    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        _write_sound(container, container.add_stream("aac", rate=48000), Sound())
    with pytest.raises(FrameError, match="has no video that can be decoded"):
        run(tmp_path / "in.mp4", tmp_path / "out.mp4")


@pytest.mark.parametrize(
    ("options", "output", "error", "words"),
    [
        ({"times": 1}, "out.mp4", RequestError, "--times is 1; expected 2 to 64"),
        ({"scene_cut": 1.5}, "out.mp4", RequestError, "--scene-cut is 1.5; expected 0 to 1"),
        ({}, "out.xyz", RequestError, r"'out.xyz'; expected a name in .mp4, .m4v"),
        ({"encoder": {"codec": "h263"}}, "out.mp4", RequestError, "'h263'; expected libx264"),
        ({"encoder": {"crf": 70}}, "out.mp4", RequestError, "--crf is 70; expected 0 to 51 for libx264"),
        ({"encoder": {"codec": "ffv1", "crf": 7}}, "out.mkv", RequestError, "ffv1 loses nothing"),
        ({"encoder": {"codec": "libx264"}}, "out.webm", RequestError, ".webm files hold no libx264"),
        ({"times": 3}, "out.mp4", RequestError, "--times is 3; the graph interpolator gives the middle"),
    ],
)
def test_wrong_requests_make_nothing(tmp_path, options, output, error, words):
    write_clip(
        tmp_path / "in.mp4", [numbered(1)] * 4, options={"qp": "0"}
    )  # nothing to compute: it is refused all the same

    def ask():
        encoder = EncoderOptions(**options.pop("encoder", {}))
        run(tmp_path / "in.mp4", tmp_path / output, compute=Averaging(any_time=False), encoder=encoder, **options)

    with pytest.raises(error, match=words):
        ask()
    assert names(tmp_path) == ["in.mp4"]


def test_nothing_is_overwritten_unasked_and_never_what_is_read(tmp_path):
    source = clip(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(RequestError, match="is there already; choose another name, or overwrite it with --force"):
        run(source, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    (tmp_path / "same.mp4").symlink_to(source)
    before = source.read_bytes()
    for output in (source, tmp_path / "same.mp4"):
        with pytest.raises(RequestError, match="is what is read"):
            run(source, output, force=True)
    assert source.read_bytes() == before
    run(source, tmp_path / "out.mp4", force=True)
    assert (tmp_path / "out.mp4").stat().st_size > 500


def test_a_failure_keeps_what_was_there(tmp_path):
    source = clip(tmp_path / "in.mp4", 30)
    (tmp_path / "out.mp4").write_bytes(b"precious")

    def fail():
        raise UnavailableError("gone")

    with pytest.raises(UnavailableError, match="gone"):
        run(source, tmp_path / "out.mp4", compute=Averaging(3, wait=fail), force=True)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    assert names(tmp_path) == ["in.mp4", "out.mp4"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("compute-", "read"))]


PROGRAM = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from interpolation_clips import Averaging
from refine_export.errors import RefineExportError
from refine_export.interpolation.job import VideoOptions, interpolate_video
{before}
try:
    print("started", flush=True)
    interpolate_video(Path({source!r}), Path({output!r}), VideoOptions(times=2), compute=Averaging(2, wait={wait}))
except RefineExportError as error:
    print(f"{{type(error).__name__}}: {{error}}")
    sys.exit(error.exit_code)
"""


def program(source, output, *, before="", wait="None"):
    here = str(ROOT)
    code = PROGRAM.format(tests=here, source=str(source), output=str(output), before=before, wait=wait)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("limit", [200, 20_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, limit):
    """A limit on the size of files stands for the disk: at the header, or in the middle."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), dtype=np.uint8)
    source = write_clip(tmp_path / "in.mp4", list(noise))
    before = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    process = program(source, tmp_path / "out.mp4", before=before)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert re.search(r"RequestError: can't write .*out.mp4: File too large; free some space", out)
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_nothing(tmp_path):
    source = clip(tmp_path / "in.mp4", 30)
    before = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = program(source, tmp_path / "out.mp4", before=before, wait="lambda: time.sleep(0.3)")
    assert process.stdout.readline() == "started\n"
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".out.mp4.partial-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in err
    assert process.returncode in (1, 130, -signal.SIGINT)
    assert names(tmp_path) == ["in.mp4"]


def test_a_server_that_stays_away_is_an_error_of_the_machine(tmp_path):
    pytest.importorskip("tritonclient.grpc")
    source = clip(tmp_path / "in.mp4")
    compute = ComputeOptions(server=ServerOptions(url="127.0.0.1:9", timeout_s=1, patience_s=0.3), concurrency=3)
    started = time.perf_counter()
    with pytest.raises(UnavailableError, match="127.0.0.1:9") as caught:
        run(source, tmp_path / "out.mp4", compute=compute)
    assert caught.value.exit_code == 3
    assert time.perf_counter() - started < 10
    assert names(tmp_path) == ["in.mp4"]


def test_a_server_that_is_waited_for_is_given_up_when_all_ends():
    pytest.importorskip("tritonclient.grpc")
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    options = ComputeOptions(server=ServerOptions(url="127.0.0.1:9", timeout_s=1, patience_s=60))
    started = time.perf_counter()
    with pytest.raises(Stopped), options.open(stop):
        pass
    assert time.perf_counter() - started < 10


def test_a_server_that_goes_away_later_is_said_to_be_waited_for(monkeypatch):
    """By the pauses, which grow."""
    pytest.importorskip("tritonclient.grpc")
    monkeypatch.setattr("refine_export.interpolation.backends.LONG_PAUSE_S", 0.1)
    said = []
    server = ServerOptions(url="127.0.0.1:9", timeout_s=1, patience_s=0.6)
    with pytest.raises(UnavailableError), ComputeOptions(server=server, say=said.append).open():
        pass
    assert said == ["no answer from the grpc server at 127.0.0.1:9: it is asked again for 0.6 s (--patience)"]


def test_ending_early_does_not_wait_out_the_patience(tmp_path):
    """The thread with the first pair fails while another waits for its server: it is told to give up."""
    source = clip(tmp_path / "in.mp4", 12)

    class Compute(Averaging):
        @contextmanager
        def open(self, stop=None):
            with super().open(stop) as interpolator:
                yield _Stuck(interpolator, stop)

    started = time.perf_counter()
    with pytest.raises(UnavailableError, match="lost"):
        run(source, tmp_path / "out.mp4", compute=Compute(2))
    assert time.perf_counter() - started < 30  # the patience is 60


class _Stuck:
    any_time, provider = True, "stuck"

    def __init__(self, inner, stop):
        self.inner, self.stop = inner, stop

    def between(self, frame0, frame1, timestep):
        if max(shares_of(frame0)) < 0.5:  # frame 0
            time.sleep(0.1)
            raise UnavailableError("lost")
        self.stop.wait(60)
        return self.inner.between(frame0, frame1, timestep)


def save(path, size, mode="RGB"):
    Image.new(mode, size).save(path)
    return path


@pytest.mark.parametrize(
    ("second", "output", "timestep", "words"),
    [
        ((40, 33), "out.png", 0.5, "differ in size: a.png is 40x32, b.png is 40x33"),
        ((40, 32), "out.jpg", 0.5, "'out.jpg'; expected a .png"),
        ((40, 32), "out.png", 1.0, "--timestep is 1; expected a number between 0 and 1"),
        ((40, 32), "a.png", 0.5, "is what is read"),
    ],
)
def test_pictures_that_do_not_go_together_make_nothing(tmp_path, second, output, timestep, words):
    first, other = save(tmp_path / "a.png", (40, 32)), save(tmp_path / "b.png", second)
    with pytest.raises(RequestError, match=words):
        interpolate_pictures(first, other, tmp_path / output, compute=Averaging(), timestep=timestep, force=True)
    assert names(tmp_path) == ["a.png", "b.png"]


def test_what_pictures_lose_is_said(tmp_path):
    first, second = save(tmp_path / "a.png", (40, 32), "RGBA"), save(tmp_path / "b.png", (40, 32))
    result = interpolate_pictures(first, second, tmp_path / "out.png", compute=Averaging())
    assert "its alpha channel is left out" in result.notes[0]
    Image.fromarray(np.full((32, 40), 1000, np.uint16)).save(first)
    deep = interpolate_pictures(first, second, tmp_path / "deep.png", compute=Averaging())
    assert "a.png: more than 8 bits a channel are rounded to 8." in deep.notes
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.size, picture.mode) == ((40, 32), "RGB")
