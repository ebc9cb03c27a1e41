"""Videos through a real server, which is killed and started again meanwhile."""

import itertools
import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.repository import deploy_triton
from refine_export.errors import UnavailableError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolation_options import ComputeOptions
from refine_export.runners.triton.connection_options import ServerOptions
from tests.support.deploy_files import write_average
from tests.support.interpolation_clips import assert_frames, numbered, read_clip, run, write_clip
from tests.support.refusals import refused

COUNT = 24
TIRING = """

class TritonPythonModel(TritonPythonModel):
    asked = 0

    def execute(self, requests):
        import time

        self.asked += 1
        time.sleep(1 if self.asked > 5 else 0)
        return super().execute(requests)
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_average(tmp_path_factory.mktemp("network") / "interpolator.onnx")


@pytest.fixture(scope="module")
def server(network, triton_server):
    repository = network.parent / "models"
    deploy_triton([network], repository, TritonOptions(device="cpu", sizes=("64x96",), threads=1))
    return triton_server(repository, ["interpolate"])


@pytest.fixture(scope="module")
def tired_server(network, triton_server):
    """Its network answers some times, and then takes longer than anyone waits."""
    repository = network.parent / "tired"
    deploy_triton(
        [network], repository, TritonOptions(device="cpu", sizes=("64x96",), threads=1, backend="python", delay_us=0)
    )
    with (repository / "interpolator" / "1" / "model.py").open("a") as file:
        file.write(TIRING)
    made = triton_server(repository)
    yield made
    made.kill()  # an orderly end waits for what is under way


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "in.mp4"
    return write_clip(path, [numbered(number) for number in range(COUNT)], options={"crf": "8", "bf": "2"})


def compute_of(server, protocol="grpc", **options):
    return ComputeOptions(server=ServerOptions(url=server.url(protocol), protocol=protocol, **options), concurrency=3)


class Watched(Backend):
    """Calls `at` once, after so many requests."""

    def __init__(self, options, after, at):
        super().__init__(options)
        self.after, self.at, self.count = after, at, itertools.count()

    @contextmanager
    def open(self, stop=None):
        with super().open(stop) as interpolator:
            compute = interpolator.interpolate

            def counted(*arguments):
                if next(self.count) == self.after:
                    self.at()
                return compute(*arguments)

            interpolator.interpolate = counted
            yield interpolator


def kill_server(server):
    server.kill()
    return server.start


def kill_stub(server):
    [stub] = server.stubs("interpolator")
    os.kill(stub, signal.SIGKILL)
    return lambda: server.reload("interpolator")


def unload_model(server):
    server.unload("interpolate")
    return lambda: server.load("interpolate")


@pytest.mark.parametrize(
    ("fault", "protocol"),
    [(kill_server, "grpc"), (kill_stub, "grpc"), (unload_model, "http")],
)
def test_what_breaks_in_the_middle_and_is_mended(server, source, tmp_path, fault, protocol):
    """No frame is lost, doubled or out of order; requests of other threads are under way when it breaks."""
    output, waited, mending = tmp_path / "out.mp4", [], []

    def break_it():
        mending.append(threading.Thread(target=mend_later, args=(fault(server),)))
        mending[0].start()

    def mend_later(mend):
        time.sleep(0.3)
        waited.append(not output.exists())
        mend()

    backend = Watched(compute_of(server, protocol, timeout_s=10, patience_s=300), 12, break_it)
    try:
        result = run(source, output, backend, times=3)
    finally:
        mending[0].join()
    assert waited == [True]
    assert "triton" in result.computed_by
    assert_frames(read_clip(output).pictures, COUNT, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_model_that_is_slow_ends_a_video(tired_server, source, tmp_path, command):
    """With exit code 3 and what to do; nothing but the input stays."""
    shutil.copy(source, tmp_path / "in.mp4")
    arguments = ["interpolate", str(tmp_path / "in.mp4"), "-o", str(tmp_path / "out.mp4"), "--quiet"]
    server = ["--server", tired_server.grpc_url, "--timeout", "0.4", "--patience", "0.2"]
    code, _, err = command(*arguments, *server)
    assert (code, tired_server.grpc_url in err) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_server_that_is_killed_and_stays_away(server, source, tmp_path):
    """The last test: it leaves no server."""
    backend = Watched(compute_of(server, timeout_s=30, patience_s=0.5), 8, server.kill)
    with refused("server-away", UnavailableError):
        run(source, tmp_path / "out.mp4", backend)
    assert list(tmp_path.iterdir()) == []
