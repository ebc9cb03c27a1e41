"""Shared fixtures: weights, reference networks, upstream's outputs; what the tests that need a GPU lack."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from refine_export.checkpoint.checkpoint import Checkpoint, seeded_checkpoint
from refine_export.checkpoint.checkpoint_options import Architecture
from refine_export.cli.main import main
from refine_export.data.frame_options import SceneOptions
from refine_export.data.images import FramePair
from refine_export.data.sample_scene import Scene
from refine_export.export.reference_network import reference_network
from tests.support.exports import Exports
from tests.support.real_tensorrt import Workshop

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as the command line sets it; tests import ONNX Runtime without it too

pytest_plugins = ["tests.support.triton_fixture"]

GOLDEN = Path(__file__).parent / "golden" / "upstream_64x96.npz"


def pytest_addoption(parser):
    parser.addoption(
        "--require-tensorrt",
        action="store_true",
        help="end with an error where no engine can be run, in place of skipping the tests that run them",
    )


def pytest_configure(config):
    if config.getoption("require_tensorrt") and (missing := missing_for_engines()) and missing_for_rtx():
        raise pytest.UsageError(f"--require-tensorrt: {missing}")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(items):
    for item in items:
        folder = item.path.relative_to(GOLDEN.parents[1]).parts[0]
        if marker := {"integration": "slow", "triton": "triton"}.get(folder):
            item.add_marker(marker)
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.no_cover)  # coverage makes torch's tracing a third slower
    for marker, what_is_missing in (("tensorrt", missing_for_engines), ("rtx_gpu", missing_for_rtx)):
        marked = [item for item in items if item.get_closest_marker(marker)]
        missing = what_is_missing() if marked else None
        for item in marked:
            item.add_marker(pytest.mark.filterwarnings("default"))  # NVIDIA's Python layers warn of their own affairs
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


def pytest_terminal_summary(terminalreporter):
    """What tests have recorded with `record_property`: a run that nobody watches leaves its numbers in the log."""
    reports = [report for kind in ("passed", "failed", "xfailed") for report in terminalreporter.stats.get(kind, [])]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {name}: {value}"
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
    ]
    if lines:
        terminalreporter.section("recorded")
        terminalreporter.write("".join(f"{line}\n" for line in lines))


@functools.cache
def missing_for_engines() -> str | None:
    """Return a sentence on what the tests marked `tensorrt` lack on this machine; None where they lack nothing."""
    from refine_export.engine.build_options import BuildOptions
    from refine_export.engine.engine_file import engine_target
    from refine_export.errors import UnavailableError
    from refine_export.runners import cuda_device as trt_device

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first import of tensorrt, and CUDA's start
        try:
            engine_target(BuildOptions(target="trt"))
            trt_device.CudaDevice()
        except UnavailableError as error:
            return str(error)
    return None


@functools.cache
def missing_for_rtx() -> str | None:
    """Return a sentence on what the tests marked `rtx_gpu` lack on this machine; None where they lack nothing."""
    from refine_export.engine import machine
    from refine_export.engine.bindings import load_library
    from refine_export.errors import UnavailableError
    from refine_export.runners.cuda_device import CudaDevice

    try:
        library = load_library("rtx")
        if not machine.has_gpu_of(machine.rtx_gpus(library.version, ())):
            return "no GPU is found that engines of TensorRT for RTX run on"
        CudaDevice()
    except UnavailableError as error:
        return str(error)
    return None


@pytest.fixture(autouse=True)
def nothing_is_fetched(request, tmp_path_factory, monkeypatch):
    """Unit and contract tests have no network, and no cache that happens to be full."""
    if request.path.relative_to(GOLDEN.parents[1]).parts[0] in ("unit", "contract"):
        monkeypatch.setenv("REFINE_EXPORT_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache"))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def command(capfd) -> Callable[..., tuple[int, str, str]]:
    """Call the command line as a user does, and return the exit code, the output and the messages."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words)])
        return ended.value.code or 0, *capfd.readouterr()

    return call


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return seeded_checkpoint("IFNet")


@pytest.fixture(scope="session")
def references() -> Callable[[Architecture], nn.Module]:
    known: dict[Architecture, nn.Module] = {}

    def get(architecture: Architecture) -> nn.Module:
        if architecture not in known:
            known[architecture] = reference_network(seeded_checkpoint(architecture))
        return known[architecture]

    return get


@pytest.fixture(scope="session")
def pair_at() -> Callable[[int, int], FramePair]:
    """Frames with real content: a procedural scene at any size."""
    known: dict[tuple[int, int], FramePair] = {}

    def get(height: int, width: int) -> FramePair:
        if (height, width) not in known:
            motion = min(12.0, height / 8)
            scene = Scene(SceneOptions(height=height, width=width, motion_px=motion))
            known[height, width] = FramePair("scene", scene.frame(0.0), scene.frame(1.0), scene.frame(0.5))
        return known[height, width]

    return get


@pytest.fixture(scope="session")
def exports(tmp_path_factory, worker_id) -> Exports:
    """Exported and lowered files of seeded weights, shared by all workers of this session; not to be modified."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "exports"
    folder.mkdir(exist_ok=True)
    return Exports(folder)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    """Files and engines of the real TensorRT, each made once in a run."""
    return Workshop(tmp_path_factory.mktemp("engines"))
