"""A build in a child process: its reports, errors, crashes, limits and Ctrl-C, none of which leave anything behind.

The child is real, and so is TensorRT for RTX in it; only what executes is fake.
"""

import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.build_process import BuildRequest, build_in_child
from refine_export.engine.engine_manifest import engine_header
from refine_export.engine.grid_sample_check import GridSampleReport
from refine_export.engine.output_files import folder_beside
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import EngineError, GraphError, InternalError, RequestError, UnavailableError
from refine_export.graph.model_file import sha256_of_model
from refine_export.support.progress import Silent
from tests.support.engine_models import model, needs_rtx
from tests.support.fake_tensorrt import write_fake, write_real
from tests.support.refusals import refused

pytestmark = needs_rtx
SHAPES = (
    InputShapes(name="image", minimum=(1, 4, 32, 32), optimum=(1, 4, 32, 32), maximum=(1, 4, 64, 64), dynamic=True),
)
HOST = """
from tests.support import host_trt
host_trt.runner_module.CudaDevice = host_trt.HostDevice
"""


@functools.cache
def slow_model() -> bytes:
    """A chain of convolutions that takes TensorRT for RTX many seconds."""
    names = ["x", *(f"t{index}" for index in range(2499)), "y"]
    nodes = [helper.make_node("Conv", [one, "w"], [other]) for one, other in itertools.pairwise(names)]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4, 32, 32]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")
    graph = helper.make_graph(nodes, "slow", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def children():
    pids = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids if b"refine_export" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model and an old engine: a test must leave no folder, no touched engine and no child."""
    (tmp_path / "first").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "first")
    out = tmp_path / "out"
    out.mkdir()
    (out / "m.onnx").write_bytes(model().SerializeToString())
    (out / "m.plan").write_bytes(b"the old one")
    yield out
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".timing") == ["m.onnx", "m.plan"]
    assert (out / "m.plan").read_bytes() == b"the old one"
    assert not children()


@pytest.fixture
def slow(place):
    """The same, with a model that takes many seconds to build."""
    (place / "m.onnx").write_bytes(slow_model())
    return place


def fake(place, **behaviour):
    write_fake(place.parent / "first", code=HOST, **behaviour)


def real(place, code):
    write_real(place.parent / "first", code)


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


def build(place, progress=None, *, target="rtx", unfuse=False, shapes=SHAPES, **options):
    request = BuildRequest(
        onnx=place / "m.onnx",
        options=BuildOptions(opt_size="32x32", target=target, **options),
        shapes=shapes,
        timings=place / "a.timing",
        executes=target == "trt",
        unfuse=unfuse,
    )
    with folder_beside(place / "m.plan") as folder:
        return build_in_child(request, folder, progress or Silent())


def test_a_build_with_all_its_reports(place):
    progress = Recorded()
    built = build(place, progress, unfuse=True)
    assert engine_header(built.engine, Path("m.plan")).library == "rtx"
    assert built.onnx_sha256 == sha256_of_model((place / "m.onnx").read_bytes(), [])
    assert built.samplers == GridSampleReport(layers=1, sampling={"LINEAR CLAMP aligned": 1}, repairs=())
    assert built.inferred.types["CONVOLUTION HALF -> HALF"] == 1
    assert (built.unfused, built.notes) == (("soft", "moved"), ())
    assert (built.probed, built.precision) == (False, None)  # what is not executed
    assert [step[0] for step in progress.steps] == ["build m.onnx"]
    assert progress.phases[0][:2] == ("Building engine", 0)


def test_a_build_of_enterprise_tensorrt_is_probed_loaded_and_timed(place):
    fake(place)
    progress = Recorded()
    built = build(place, progress, target="trt")
    assert engine_header(built.engine, Path("m.plan")).text.startswith("11.4")
    assert built.precision is not None
    assert (built.probed, built.precision.convolutions, built.precision.proven) == (True, {"Half": 1}, True)
    assert [step[0] for step in progress.steps] == ["probe the sampler", "build m.onnx", "prove the precision"]
    assert (len(built.notes), (place / "a.timing").is_file()) == (1, True)  # no timings yet


@pytest.mark.parametrize(
    ("old", "new", "shapes", "kind", "code"),
    [
        (b"Relu", b"Zelu", SHAPES, GraphError, "parser-refused"),
        (b"warped", b"\xff\xff\xff\xff\xff\xff", SHAPES, GraphError, "not-onnx"),
        (b"border", b"nicest", SHAPES, GraphError, "bad-attribute"),  # the parser takes it
        (b"", b"", (), UnavailableError, "tensorrt-failed"),  # a dynamic input needs a profile
    ],
)
def test_errors_come_back_with_class_code_and_fields(place, old, new, shapes, kind, code):
    (place / "m.onnx").write_bytes(model().SerializeToString().replace(old, new, 1))
    with pytest.raises(kind) as caught:
        build(place, shapes=shapes)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert ("errors" in caught.value.fields) == (code == "parser-refused")


def test_a_sampler_that_computes_something_else_is_found_before_the_build(place):
    fake(place, error=0.25)
    with refused("sampler-wrong", EngineError):
        build(place, target="trt")


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        ("TypeError('factory function returned nullptr')", UnavailableError, "no-gpu"),
        ("MemoryError()", UnavailableError, "out-of-memory"),
        ("ZeroDivisionError()", InternalError, "child-bug"),
    ],
)
def test_what_a_constructor_raises(place, raised, kind, code):
    real(place, f"def raises(logger):\n    raise {raised}\ntrt.Builder = raises\n")
    with refused(code, kind):
        build(place)


@pytest.mark.parametrize("file", ["engine", "answer.json.partial"])
def test_a_full_disk_in_the_child(place, file):
    real(
        place,
        f"""
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
    with refused("unwritable", RequestError):
        build(place)


@pytest.mark.parametrize(("end", "last"), [("os.abort()", "SIGABRT"), ("os._exit(7)", "exit code 7")])
def test_a_child_that_dies_is_named_with_its_last_lines(place, end, last):
    real(place, f"import os\nprint('printed', flush=True)\nos.write(2, b'assertion failed\\n')\n{end}\n")
    with refused("child-ended", UnavailableError) as caught:
        build(place)
    for part in (last, "printed", "assertion failed"):
        assert part in str(caught.value)


def test_a_child_that_is_killed_in_a_build(slow):
    """As the kernel does where memory runs out; TensorRT's last lines are kept, without its chatter."""
    with pytest.raises(UnavailableError, match="SIGKILL") as caught:
        build(slow, Recorded(lambda: [os.kill(pid, signal.SIGKILL) for pid in children()]))
    assert (caught.value.code, caught.value.fields["stage"]) == ("child-ended", "build m.onnx")
    assert "INFO: " in str(caught.value)
    assert "VERBOSE" not in str(caught.value)


def test_the_time_limit(slow):
    with pytest.raises(UnavailableError, match="time_limit_s = 2"):
        build(slow, time_limit_s=2)
    assert children() == []


def test_the_memory_limit(slow, monkeypatch):
    with pytest.raises(UnavailableError, match="memory_limit_mib = 100"):
        build(slow, memory_limit_mib=100)
    monkeypatch.setattr("refine_export.support.child_process._resident_mib", lambda pid: None)
    with refused("memory-limit-unsupported", UnavailableError):
        build(slow, memory_limit_mib=500)


def test_ctrl_c_ends_the_child(slow, monkeypatch):
    class Hasty(subprocess.Popen):
        """After Ctrl-C `with` waits 0.25 s for a child, which is not enough where the machine is slow."""

        def __exit__(self, *error):
            self._sigint_wait_secs = 0
            super().__exit__(*error)

    monkeypatch.setattr(subprocess, "Popen", Hasty)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    try:
        with pytest.raises(KeyboardInterrupt):
            build(slow, Recorded(lambda: signal.raise_signal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_parent_that_is_killed_takes_the_child_with_it(slow):
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from tests.unit.engine import test_build_process as tests
tests.build(Path({str(slow)!r}), tests.Recorded(lambda: print("begun", flush=True)))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        parent.kill()
    end = time.monotonic() + 60
    while [path for path in slow.iterdir() if path.name.startswith(".")] and time.monotonic() < end:
        time.sleep(0.05)


def test_a_child_that_nobody_reads_ends_and_removes_its_folder(tmp_path):
    """A report may be the first to meet the end of the parent."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "request.json").write_text("{}")
    code = "from refine_export.support.child_process import serve; serve(lambda *given: given[2]('stage', 'it') or {})"
    words = [sys.executable, "-c", code, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=writing, env=environment) as child:
        os.close(writing)
        assert child.wait(60) == 1
    assert not folder.exists()
