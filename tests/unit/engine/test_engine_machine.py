"""What the driver says of itself, and which CUDA TensorRT was installed for."""

from __future__ import annotations

import ctypes
from importlib import metadata
from types import SimpleNamespace

import pytest

from refine_export.engine import machine


def library(monkeypatch, version=0, init=0, failing=False):
    """A libcuda whose newest CUDA is `version`, as cuDriverGetVersion tells it: 1000 * major + 10 * minor."""

    def version_into(value):
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = version
        return 3 if failing else 0

    driver = SimpleNamespace(cuInit=lambda flags: init, cuDriverGetVersion=version_into)
    monkeypatch.setattr(machine, "_library", {machine.DRIVER_LIBRARY: driver}.get)


def test_the_drivers_newest_cuda_is_told(monkeypatch):
    for number, version in ((12040, (12, 4)), (13000, (13, 0)), (12090, (12, 9)), (13010, (13, 1))):
        library(monkeypatch, number)
        assert machine.driver_cuda() == version
    library(monkeypatch, 13000, failing=True)
    assert machine.driver_cuda() is None


def test_the_drivers_answer_is_told(monkeypatch):
    for status in (0, 100, 803):
        library(monkeypatch, init=status)
        assert machine.driver_status() == status


def test_without_a_driver_there_is_no_answer(monkeypatch):
    monkeypatch.setattr(machine, "_library", lambda name: None)
    assert machine.driver_status() is None
    assert machine.driver_cuda() is None


@pytest.mark.parametrize(
    ("packages", "majors"),
    [
        ((), ()),
        (("tensorrt-cu12",), (12,)),
        (("tensorrt-cu13-libs",), (13,)),
        (("tensorrt-cu13", "tensorrt-cu13-libs"), (13,)),
        (("tensorrt-cu12", "tensorrt-cu13"), (13, 12)),
    ],
)
def test_wheels_tell_their_cuda(monkeypatch, packages, majors):
    def version(name):
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return "11.4.0"

    monkeypatch.setattr(machine.metadata, "version", version)
    assert machine.tensorrt_cudas() == majors
