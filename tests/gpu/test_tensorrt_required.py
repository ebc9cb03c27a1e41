"""The tests marked `tensorrt` name what they lack, and are never green for want of it where they are required."""

import subprocess
import sys

import pytest
import torch

from refine_export.engine import machine
from refine_export.errors import UnavailableError
from refine_export.runners import cuda_device as trt_device
from tests.conftest import missing_for_engines
from tests.support.engine_models import bare_module
from tests.support.host_trt import HostDevice
from tests.support.paths import ROOT

MISSING = missing_for_engines()

without_engines = pytest.mark.skipif(MISSING is None, reason="this machine has all that the tests need")


def run_pytest(*arguments):
    words = [sys.executable, "-m", "pytest", "-m", "tensorrt", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@without_engines
def test_a_run_that_requires_them_ends_with_the_reason():
    done = run_pytest("--require-tensorrt")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip() == f"ERROR: --require-tensorrt: {MISSING}"


@without_engines
def test_another_run_skips_them_with_the_reason():
    done = run_pytest("tests/gpu/test_tensorrt_weights.py")
    assert done.returncode == 0
    assert f"tests/gpu/test_tensorrt_weights.py: {MISSING}\n" in done.stdout
    assert "passed" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_each_thing_that_may_be_missing_is_named(monkeypatch):
    def no_gpu():
        raise UnavailableError("no GPU is found: NVIDIA's driver library (libcuda) is missing")

    missing = missing_for_engines.__wrapped__
    monkeypatch.setitem(sys.modules, "tensorrt", bare_module("tensorrt", "11.4.0"))
    monkeypatch.setattr(machine, "current_gpu", no_gpu)
    assert missing() == "no GPU is found: NVIDIA's driver library (libcuda) is missing"
    monkeypatch.setattr(machine, "current_gpu", lambda: ("NVIDIA H200", (9, 0)))
    monkeypatch.setattr(machine, "_cuda_major", lambda: 13)
    assert "finds no CUDA device here, which TensorRT needs" in missing()
    monkeypatch.setattr(trt_device, "CudaDevice", HostDevice)
    assert missing() is None
