"""Backends: weights and files that make frames, and servers that are waited for."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from onnx.parser import parse_model
from safetensors.torch import save_file

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.errors import RequestError, UnavailableError
from refine_export.interpolation import backends
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolation_options import ComputeOptions
from refine_export.interpolation.stream import Stopped
from refine_export.runners.open_onnx_runner import open_onnx_runner
from refine_export.runners.triton.connection_options import ServerOptions
from tests.support.deploy_files import write_average
from tests.support.refusals import refused
from tests.support.stacks import stacked_file

pytest.importorskip("tritonclient.grpc")


def nobody(**options):
    """A server that is not there."""
    return ComputeOptions(server=ServerOptions(url="127.0.0.1:9", **options), concurrency=3)


@pytest.mark.parametrize("channels", [7, 11])
def test_a_stack_is_fed(tmp_path, channels):
    a, b = np.full((50, 70, 3), 40, np.uint8), np.full((50, 70, 3), 80, np.uint8)
    options = ComputeOptions(file=stacked_file(tmp_path / "net.onnx", channels))
    with Backend(options).open() as interpolator:
        assert interpolator.takes_timestep
        assert np.array_equal(interpolator.interpolate(a, b, 0.25), np.full_like(a, 50))
        deep = interpolator.interpolate(np.float32(a / 255), np.float32(b / 255), 0.25)
        assert deep == pytest.approx(50 / 255, abs=1e-6)


def test_a_stack_of_another_size_is_refused(tmp_path):
    frame = np.zeros((50, 70, 3), np.uint8)
    options = ComputeOptions(file=stacked_file(tmp_path / "net.onnx", 7, "64, 64"))
    with Backend(options).open() as interpolator, refused("size-not-taken", RequestError, size=(64, 96)):
        interpolator.interpolate(frame, frame, 0.5)


def test_weights_and_files_that_make_no_frames_are_refused(tmp_path):
    save_file(dict(seeded_checkpoint("refinement").state_dict), tmp_path / "refinement.safetensors")
    with pytest.raises(RequestError), Backend(ComputeOptions(checkpoint=tmp_path / "refinement.safetensors")).open():
        pass
    body = " ".join(f"f{k} = Identity (image)" for k in (1, 2, 3, 4))
    outputs = ", ".join(f"float[1, 3, 32, 32] f{k}" for k in (1, 2, 3, 4))
    inputs = "float[1, 3, 32, 32] image, float[1, 2, 32, 32] flow"
    text = f'<ir_version: 9, opset_import: ["" : 18]> contextnet ({inputs}) => ({outputs}) {{ {body} }}'
    onnx.save(parse_model(text), tmp_path / "contextnet.onnx")
    with refused("makes-no-frames"), Backend(ComputeOptions(file=tmp_path / "contextnet.onnx")).open():
        pass


@pytest.mark.parametrize("option", ["checkpoint", "file"])
def test_files_that_are_not_there_are_missed_before_anything_starts(tmp_path, option):
    with refused("not-found", RequestError, path=tmp_path / "nope.onnx"):
        Backend(ComputeOptions(**{option: tmp_path / "nope.onnx"}))


def test_weights_are_named(tmp_path):
    save_file(dict(seeded_checkpoint("IFNet_m").state_dict), tmp_path / "own.safetensors")
    with Backend(ComputeOptions(checkpoint=tmp_path / "own.safetensors")).open() as interpolator:
        assert interpolator.takes_timestep
        assert "own.safetensors" in interpolator.provider


@pytest.mark.parametrize(
    ("options", "size", "cores", "count"),
    [
        ({}, (256, 448), 2, 2),
        ({}, (256, 448), 64, backends.MOST_STREAMS),
        ({}, (1080, 1920), 64, 4),
        ({}, (2160, 3840), 64, 1),
        ({"tile": 512}, (2160, 3840), 4, 4),
        ({"concurrency": 3}, (2160, 3840), 2, 3),
        ({"device": "cuda:0"}, (256, 448), 8, 1),
        ({"file": "net.onnx"}, (256, 448), 2, 2),
        ({"file": "net.onnx", "runtime": "onnxruntime-cuda"}, (256, 448), 8, 1),
        ({"file": "net.plan"}, (256, 448), 8, 1),
        ({"file": "net.plan", "concurrency": 2}, (256, 448), 8, 2),
        ({"server": ServerOptions(url="127.0.0.1:9")}, (256, 448), 8, backends.SERVER_REQUESTS),
    ],
)
def test_pairs_computed_at_a_time(monkeypatch, tmp_path, options, size, cores, count):
    """One for each core of a CPU, as far as memory reaches; the cores are divided among them."""
    monkeypatch.setattr(backends, "cpu_cores", lambda: cores)
    if "file" in options:
        options["file"] = tmp_path / options["file"]
        options["file"].write_bytes(b"x")
    with Backend(ComputeOptions(**options)).share(size) as found:
        assert found == count


def test_a_file_is_computed_with_the_cores_that_are_its_share(monkeypatch, tmp_path):
    monkeypatch.setattr(backends, "cpu_cores", lambda: 6)
    opened = []

    def noted(model, runtime, *, threads):
        opened.append(threads)
        return open_onnx_runner(model, runtime, threads=threads)

    monkeypatch.setattr(backends, "open_onnx_runner", noted)
    backend = Backend(ComputeOptions(file=write_average(tmp_path / "net.onnx"), concurrency=2))
    with backend.share((64, 96)), backend.open():
        assert opened == [3]


def test_torch_has_the_cores_that_are_its_share_while_it_is_used(monkeypatch):
    monkeypatch.setattr(backends, "cpu_cores", lambda: 12)
    before = torch.get_num_threads()
    with Backend(ComputeOptions(concurrency=4)).share((64, 96)), ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3
    assert torch.get_num_threads() == before


def test_without_weights_the_released_ones_are_fetched():
    with refused("not-fetched", UnavailableError), Backend(ComputeOptions()).open():
        pass


def test_a_server_that_stays_away_is_an_error_of_the_machine():
    with refused("server-away", UnavailableError, url="127.0.0.1:9"), Backend(nobody(patience_s=0.3)).open():
        pass


def test_a_server_is_given_up_when_all_ends():
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    started = time.perf_counter()
    with pytest.raises(Stopped), Backend(nobody(patience_s=120)).open(stop):
        pass
    assert time.perf_counter() - started < 90  # the patience is 120


@pytest.mark.parametrize("limit", ["SILENCE_S", "LONG_PAUSE_S"])
def test_waiting_for_a_server_is_reported_once(monkeypatch, limit):
    """Before the first answer by a timer, and later by the pauses, which grow; by all threads together."""
    for name in ("SILENCE_S", "LONG_PAUSE_S"):
        monkeypatch.setattr(backends, name, 0.1 if name == limit else 1e6)
    messages, reported = [], threading.Event()

    def on_wait(message):
        messages.append(message)
        reported.set()

    backend = Backend(nobody(patience_s=60), on_wait)
    with pytest.raises(Stopped), backend.open(reported):
        pass
    assert "127.0.0.1:9" in messages[0]
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()  # a second report would come before
    with pytest.raises(Stopped), backend.open(stop):
        pass
    assert len(messages) == 1
