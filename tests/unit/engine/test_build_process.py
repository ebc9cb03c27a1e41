"""A build in a child process: its reports, errors, crashes, limits and Ctrl-C, none of which leave anything behind.

Against the fake, in a real child process.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.build_process import BuildRequest, build_in_child
from refine_export.engine.output_files import folder_beside
from refine_export.engine.plan import plan_header
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import EngineError, GraphError, InternalError, RequestError, UnavailableError
from refine_export.graph.model_file import sha256_of_model
from refine_export.support.progress import Silent
from tests.support.engine_models import error_code, model
from tests.support.fake_tensorrt import write_fake

SHAPES = (
    InputShapes(name="image", minimum=(1, 4, 32, 32), optimum=(1, 4, 32, 32), maximum=(1, 4, 64, 64), dynamic=True),
)
HOST = """
from tests.support import host_trt
host_trt.runner_module.CudaDevice = host_trt.HostDevice
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model and an old engine: a test must leave no folder, no touched engine and no child."""
    (tmp_path / "fake").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "fake")
    out = tmp_path / "out"
    out.mkdir()
    (out / "m.onnx").write_bytes(model().SerializeToString())
    (out / "m.plan").write_bytes(b"the old one")
    yield out
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".timing") == ["m.onnx", "m.plan"]
    assert (out / "m.plan").read_bytes() == b"the old one"
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if b"refine_export" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def fake(place, version="11.4.0", code=HOST, **behaviour):
    path = write_fake(place.parent / "fake", version, **behaviour)
    path.write_text(path.read_text() + code)


class Recorded(Silent):
    def __init__(self, on_phase=None):
        self.steps, self.phases, self.on_phase = [], [], on_phase

    def within(self, *phase):
        self.phases.append(phase)
        if self.on_phase:
            self.on_phase()

    @contextmanager
    def step(self, label):
        self.steps.append([label])
        yield self.steps[-1].append


def build(place, progress=None, *, unfuse=False, executes=True, **options):
    request = BuildRequest(
        onnx=place / "m.onnx",
        options=BuildOptions(opt_size="32x32", target="trt", **options),
        shapes=SHAPES,
        timings=place / "a.timing",
        executes=executes,
        unfuse=unfuse,
    )
    with folder_beside(place / "m.plan") as folder:
        return build_in_child(request, folder, progress or Silent())


@pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
def test_a_build_with_all_its_reports(place, version):
    fake(place, version)
    progress = Recorded()
    built = build(place, progress)
    assert plan_header(built.plan, Path("m.plan")).text.startswith(version.rpartition(".")[0])
    assert built.onnx_sha256 == sha256_of_model((place / "m.onnx").read_bytes(), [])
    assert [repair["set"] for repair in built.samplers["repairs"]] == ["LINEAR"]
    assert built.inferred["types"]["CONVOLUTION HALF HALF -> HALF"] == 1
    assert (built.probed, built.types, built.unfused) == (True, {"float": 3, "float16": 2}, [])
    assert built.precision is not None
    assert (built.precision["convolutions"], built.precision["proven"]) == ({"Half": 1}, True)
    assert [step[0] for step in progress.steps] == ["probe the sampler", "build m.onnx", "prove the precision"]
    assert ("Selecting tactics", 3, 3) in progress.phases
    assert len(built.notes) == 1  # no timings yet
    assert build(place).notes == []
    json.dumps([built.samplers, built.precision, built.inferred], allow_nan=False)


def test_without_a_gpu_it_is_neither_probed_nor_loaded(place):
    fake(place, failing={"deserialize_cuda_engine"})
    built = build(place, executes=False)
    assert (built.probed, built.precision) == (False, None)


def test_unfused(place):
    fake(place)
    assert build(place, unfuse=True, executes=False).unfused == ["soft", "moved"]


@pytest.mark.parametrize(
    ("behaviour", "kind", "code"),
    [
        ({"parser_errors": [{"desc": "No importer for Foo", "operator": "Foo"}]}, GraphError, "parser-refused"),
        ({"failing": {"build_serialized_network"}}, UnavailableError, "tensorrt-failed"),
        ({"convolutions": "FLOAT"}, GraphError, "engine-types"),
        ({"failing": {"create_execution_context"}}, UnavailableError, "tensorrt-failed"),
        ({"wrong": "grid_sample"}, EngineError, "sampler-wrong"),
        ({"gpu": False}, UnavailableError, "no-gpu"),
    ],
)
def test_errors_come_back_with_class_code_and_fields(place, behaviour, kind, code):
    fake(place, **behaviour)
    with pytest.raises(kind) as caught:
        build(place)
    assert (type(caught.value), caught.value.code) == (kind, code)
    if code == "parser-refused":
        assert "No importer for Foo" in caught.value.fields["errors"][0]


def test_an_unforeseen_error_is_our_bug(place):
    fake(place, code="sys.modules[__name__].Builder = lambda logger: 1 / 0\n")
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        build(place)


@pytest.mark.parametrize("file", ["plan", "answer.json.partial"])
def test_a_full_disk_in_the_child(place, file):
    fake(
        place,
        code=f"""
import errno, pathlib
def with_full(inner):
    def full(self, *given, **named):
        if self.name == {file!r}:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return inner(self, *given, **named)
    return full
for name in ("write_bytes", "write_text"):
    setattr(pathlib.Path, name, with_full(getattr(pathlib.Path, name)))
""",
    )
    assert error_code(RequestError, lambda: build(place, executes=False)) == "unwritable"


@pytest.mark.parametrize(
    ("behaviour", "code", "last"),
    [
        (
            {"dies_at_step": 1, "build_log": [("VERBOSE", "chatter"), ("WARNING", "running out of memory")]},
            "",
            ["SIGKILL", "WARNING: running out of memory"],
        ),
        (
            {},
            "import os\nprint('printed', flush=True)\nos.write(2, b'assertion failed\\n')\nos.abort()\n",
            ["SIGABRT", "printed", "assertion failed"],
        ),
        ({}, "import os\nos._exit(7)\n", ["exit code 7"]),
    ],
)
def test_a_child_that_dies_is_named_with_its_last_lines(place, behaviour, code, last):
    fake(place, code=code, **behaviour)
    with pytest.raises(UnavailableError) as caught:
        build(place, executes=False)
    assert caught.value.code == "child-ended"
    for part in last:
        assert part in str(caught.value)
    assert "chatter" not in str(caught.value)


def test_the_time_limit(place):
    fake(place, build_seconds=60)
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="time_limit_s = 2"):
        build(place, executes=False, time_limit_s=2)
    assert time.monotonic() - started < 5


def test_the_memory_limit(place, monkeypatch):
    fake(place, code="import time\nhog = bytearray(600 << 20)\ntime.sleep(60)\n")
    with pytest.raises(UnavailableError, match="memory_limit_mib = 500"):
        build(place, executes=False, memory_limit_mib=500)
    monkeypatch.setattr("refine_export.support.child_process._resident_mib", lambda pid: None)
    assert error_code(UnavailableError, lambda: build(place, memory_limit_mib=500)) == "memory-limit-unsupported"


def test_ctrl_c_ends_the_child(place):
    fake(place, build_seconds=60)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    try:
        with pytest.raises(KeyboardInterrupt):
            build(place, Recorded(lambda: signal.raise_signal(signal.SIGINT)), executes=False)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_parent_that_is_killed_takes_the_child_with_it(place):
    fake(place, build_seconds=60)
    code = f"""
import sys
sys.path[:0] = {[str(place.parent / "fake"), *sys.path]!r}
from pathlib import Path
from tests.unit.engine import test_build_process as tests
tests.build(Path({str(place)!r}), tests.Recorded(lambda: print("begun", flush=True)), executes=False)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        parent.kill()
    end = time.monotonic() + 10
    while [path for path in place.iterdir() if path.name.startswith(".")] and time.monotonic() < end:
        time.sleep(0.05)
