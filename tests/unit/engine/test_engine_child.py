"""A build in a child process gives what a build gives; crash, kill, limits and Ctrl-C leave nothing behind, in words.

Against the fake, in a real child process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.build_process import BuildRequest, build_in_child
from refine_export.engine.plan import plan_header
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import GraphError, InternalError, RequestError, UnavailableError
from refine_export.graph.model_file import sha256_of_model
from refine_export.support.child_process import run_child
from refine_export.support.progress import Silent
from tests.support.engine_machine import MACHINE
from tests.support.engine_models import model
from tests.support.fake_tensorrt import write_fake

SHAPES = (
    InputShapes(name="image", minimum=(1, 4, 32, 32), optimum=(1, 4, 32, 32), maximum=(1, 4, 64, 64), dynamic=True),
)
HOST = """
from tests.support import host_trt
host_trt.runner_module.CudaDevice = host_trt.HostDevice
"""
VERSIONS = pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model and an old artifact: a test must leave no folder, no touched artifact and no child."""
    path = tmp_path / "fake"
    path.mkdir()
    monkeypatch.syspath_prepend(path)
    out = tmp_path / "out"
    out.mkdir()
    named = model()
    for node in named.graph.node:
        node.name = f"the_{node.output[0]}"
    (out / "m.onnx").write_bytes(named.SerializeToString())
    (out / "m.plan").write_bytes(b"the old one")
    yield out
    assert sorted(path.name for path in out.iterdir() if path.name != "cache") == ["m.onnx", "m.plan"]
    assert (out / "m.plan").read_bytes() == b"the old one"
    assert not children()


def children():
    """This process's, that are there still."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in found if b"refine_export" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def fake(place, version="11.4.0", code="", **behaviour):
    path = write_fake(place.parent / "fake", version, **behaviour)
    path.write_text(path.read_text() + MACHINE + code)


class Told(Silent):
    def __init__(self):
        self.steps = []

    @contextmanager
    def step(self, label):
        self.steps.append([label])
        yield self.steps[-1].append


def build(place, progress=None, *, canary=False, unfuse=False, phases=None, **options):
    request = BuildRequest(
        onnx=place / "m.onnx",
        options=BuildOptions(opt_size="32x32", **options),
        shapes=SHAPES,
        timing_cache=place / "cache",
        canary=canary,
        unfuse=unfuse,
    )
    return build_in_child(request, place / "m.plan", progress or Silent(), phases=phases)


@VERSIONS
def test_a_build_with_all_its_reports(place, version):
    fake(place, version, HOST)
    told, phases = Told(), []
    built = build(place, told, canary=True, phases=lambda *phase: phases.append(phase))
    assert plan_header(built.plan, Path("m.plan")).text.startswith(version.rpartition(".")[0])
    assert (built.machine.gpu, built.machine.compute_capability, built.machine.tensorrt) == (
        "NVIDIA H200",
        (9, 0),
        version,
    )
    assert built.onnx_sha256 == sha256_of_model((place / "m.onnx").read_bytes(), [])
    assert built.guard["layers"] == 1
    assert [repair["set"] for repair in built.guard["repairs"]] == ["LINEAR"]
    assert built.canary is not None
    assert (built.canary["passed"], built.canary["fault"]) == (True, None)
    assert built.precision["convolutions"] == {"Half": 1}
    assert built.precision["proven"] is True
    assert built.types == {"float": 3, "float16": 2}
    assert "no timing cache" in built.notes[0]
    assert [step[0] for step in told.steps] == ["canary", "build m.onnx", "prove the precision"]
    assert [len(step) for step in told.steps] == [2, 2, 2]
    assert ("Selecting tactics", 3, 3) in phases
    json.dumps([built.guard, built.canary, built.precision, built.types], allow_nan=False)


def test_the_timing_cache_is_written_and_read(place):
    fake(place)
    build(place)
    [path] = [path for path in (place / "cache").iterdir() if path.suffix == ".timing"]
    assert build(place).notes == ()
    path.write_bytes(b"rubbish")
    assert "is rebuilt" in build(place).notes[0]


def test_unfused(place):
    fake(place)
    assert build(place).unfused == ()
    assert build(place, unfuse=True).unfused == ("soft", "moved")


def test_a_canary_that_cant_run_is_said_and_fails_nothing(place):
    """Here for want of CUDA in torch."""
    fake(place, code="import torch\ntorch.cuda.is_available = lambda: False\n")
    built = build(place, canary=True)
    assert built.canary is not None
    assert built.canary["passed"] is None
    assert "torch" in built.canary["words"]


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        ({"parser_errors": [{"desc": "No importer for Foo", "operator": "Foo"}]}, GraphError, "No importer for Foo"),
        ({"failing": {"build_serialized_network"}}, UnavailableError, "could not build the engine: .*Fake Error"),
        ({"convolutions": "FLOAT"}, GraphError, "1 of 1 convolutions do not have their type"),
        ({"failing": {"deserialize_cuda_engine"}}, UnavailableError, "could not load the engine that it has built"),
        ({"failing": {"set_input_shape"}}, UnavailableError, "does not take image"),
        ({"gpu": False}, UnavailableError, "finds no GPU"),
    ],
)
def test_errors_come_back_with_their_class_and_words(place, behaviour, kind, words):
    fake(place, **behaviour)
    with pytest.raises(kind, match=words) as caught:
        build(place)
    assert type(caught.value) is kind


def test_what_nobody_foresaw_is_our_bug(place):
    fake(place, code="sys.modules[__name__].Runtime = lambda logger: 1 / 0\n")
    with pytest.raises(InternalError, match=r"ZeroDivisionError: division by zero \(tensorrt.py"):
        build(place)


def test_a_kill_is_named_with_the_last_lines(place):
    fake(place, dies_at_step=1, build_log=[("VERBOSE", "chatter"), ("WARNING", "running out of memory")])
    with pytest.raises(UnavailableError, match="in 'build m.onnx' was killed by SIGKILL.*\n  WARNING") as caught:
        build(place)
    assert "chatter" not in str(caught.value)


def test_a_crash_shows_what_was_printed(place):
    """To either stream: standard output is no progress."""
    crash = "import os\nprint('on standard output', flush=True)\nos.write(2, b'assertion failed\\n')\nos.abort()\n"
    fake(place, code=crash)
    with pytest.raises(UnavailableError, match="was killed by SIGABRT;(.|\n)*on standard output\n  assertion failed"):
        build(place)


def test_an_exit_without_an_answer(place):
    fake(place, code="import os\nos._exit(7)\n")
    with pytest.raises(UnavailableError, match="ended with exit code 7 and no answer.*last lines: nothing"):
        build(place)


def test_the_time_limit(place):
    fake(place, build_seconds=60, build_log=[("INFO", "this takes long")])
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="time_limit_s = 4; .*\n  INFO: this takes long"):
        build(place, time_limit_s=4)
    assert time.monotonic() - started < 8


def test_the_memory_limit(place):
    fake(place, code="import time\nhog = bytearray(600 << 20)\ntime.sleep(60)\n")
    with pytest.raises(UnavailableError, match="memory_limit_mib = 500 of host memory"):
        build(place, memory_limit_mib=500)


def test_a_memory_limit_that_cant_be_watched(place, monkeypatch):
    monkeypatch.setattr("refine_export.support.child_process._resident_mib", lambda pid: None)
    with pytest.raises(UnavailableError, match="needs /proc"):
        build(place, memory_limit_mib=500)


def test_ctrl_c_ends_the_child(place):
    fake(place, build_seconds=60)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background

    def interrupt(*phase):
        signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            build(place, phases=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_parent_that_is_killed_takes_the_child_with_it(place):
    fake(place, build_seconds=60)
    code = f"""
import sys
sys.path[:0] = {[str(place.parent / "fake"), *sys.path]!r}
from pathlib import Path
from tests.unit.engine import test_engine_child
test_engine_child.build(Path({str(place)!r}), phases=lambda *phase: print("begun", flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        assert [path for path in place.iterdir() if path.name.startswith(".m.plan.build-")]
        parent.kill()
    end = time.monotonic() + 10
    while [path for path in place.iterdir() if path.name.startswith(".")] and time.monotonic() < end:
        time.sleep(0.05)


def test_a_folder_that_cant_be_written(place, tmp_path):
    with (
        pytest.raises(RequestError, match="choose a folder that is writable"),
        run_child("refine_export.engine.build_process", {}, place / "m.onnx" / "m.plan", Silent(), time_limit_s=1),
    ):
        pass


def test_builds_of_one_output_do_not_meet(place):
    fake(place)
    found = []
    threads = [threading.Thread(target=lambda: found.append(build(place).plan)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert not re.findall("partial", " ".join(path.name for path in place.iterdir()))
