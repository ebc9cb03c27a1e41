"""An engine's key changes with all that changes the engine, and tells differences and mismatches in words."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import platform
import sys
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from refine_export.engine import machine as machine_module
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.identity import (
    NOT_IN_THE_ENGINE,
    Machine,
    describe_mismatch,
    differences,
    engine_key,
    fingerprint_of_key,
    this_machine,
)
from refine_export.engine.machine import numbers_of
from refine_export.errors import UnavailableError
from tests.support.fake_tensorrt import make_fake

VERSIONS = ("10.16.1", "11.4.0")
H200 = Machine(
    tensorrt="11.4.0",
    gpu="NVIDIA H200",
    compute_capability=(9, 0),
    cuda=13,
    system="Linux",
    architecture="x86_64",
    driver="580.82.07",
)
L4 = dataclasses.replace(H200, tensorrt="10.16.1", gpu="NVIDIA L4", compute_capability=(8, 9), cuda=12)
PROFILE = {"img0": ((1, 3, 32, 32), (1, 3, 64, 64), (1, 3, 96, 96))}


def key(machine=H200, rung="native", sha="a" * 64, profiles=(PROFILE,), **options):
    return engine_key(machine, onnx_sha256=sha, profiles=profiles, options=BuildOptions(**options), rung=rung)


CHANGED: dict[str, dict[str, Any]] = {
    "tensorrt": {"machine": dataclasses.replace(H200, tensorrt="11.4.1")},
    "gpu": {"machine": dataclasses.replace(H200, gpu="NVIDIA H100")},
    "compute_capability": {"machine": dataclasses.replace(H200, compute_capability=(9, 1))},
    "system": {"machine": dataclasses.replace(H200, system="Windows")},
    "architecture": {"machine": dataclasses.replace(H200, architecture="aarch64")},
    "cuda": {"machine": dataclasses.replace(H200, cuda=12)},
    "onnx_sha256": {"sha": "b" * 64},
    "rung": {"rung": "gather"},
    "optimization_level": {"optimization_level": 5},
    "tf32": {"tf32": True},
    "workspace_mib": {"workspace_mib": 512},
    "hardware_compatibility": {"hardware_compatibility": "ampere_plus"},
    "version_compatible": {"version_compatible": True},
    "strip_weights": {"strip_weights": True},
    "refittable": {"refittable": True},
    "verbosity": {"verbosity": "layer_names_only"},
    "tiling_level": {"tiling_level": "fast"},
    "aux_streams": {"aux_streams": 0},
    "rung asked for": {"rung": "native"},
}


def test_each_field_is_in_the_fingerprint_and_named():
    for name, change in CHANGED.items():
        new = key(**change)
        if name == "rung asked for":
            new = engine_key(
                H200, onnx_sha256="a" * 64, profiles=(PROFILE,), options=BuildOptions(rung="native"), rung="native"
            )
        assert new.fingerprint() != key().fingerprint(), name
        assert [line.partition(":")[0] for line in differences(key().described(), new)] == [name]
    assert differences(key().described(), key(optimization_level=5)) == ["optimization_level: was 3, is 5"]
    assert differences(key().described(), key(workspace_mib=512)) == ["workspace_mib: was not set, is 512"]


def test_every_option_is_in_the_key_but_those_that_leave_the_engine_alone():
    names = {field.name for field in dataclasses.fields(BuildOptions)}
    assert set(key().options) == names - set(NOT_IN_THE_ENGINE)
    assert set(NOT_IN_THE_ENGINE) <= names
    same = key(time_limit_s=5, memory_limit_mib=7, timing_cache="elsewhere")
    assert same.fingerprint() == key().fingerprint()
    other_driver = dataclasses.replace(H200, driver="999.1")
    assert key(other_driver).fingerprint() == key().fingerprint()


def test_a_key_outlives_its_json():
    """Tuples become lists, names change order: still the same key."""
    stored = json.loads(json.dumps(key().described(), sort_keys=True))
    assert differences(stored, key()) == []
    assert fingerprint_of_key(stored) == key().fingerprint()


def test_profiles_differ_by_input():
    wider = {"img0": ((1, 3, 32, 32), (1, 3, 64, 64), (1, 3, 128, 128))}
    assert differences(key().described(), key(profiles=(wider,))) == [
        "profile 0 of img0: was 1x3x32x32 / 1x3x64x64 / 1x3x96x96, is 1x3x32x32 / 1x3x64x64 / 1x3x128x128"
    ]
    assert differences(key().described(), key(profiles=())) == [
        "profile 0 of img0: was 1x3x32x32 / 1x3x64x64 / 1x3x96x96, is not there"
    ]
    assert len(differences(key().described(), key(profiles=(PROFILE, wider)))) == 1


def test_an_old_key_may_lack_fields_and_have_others():
    old = key().described()
    del old["gpu"], old["options"]["tf32"]
    old["options"]["gone"] = 1
    assert differences(old, key()) == [
        "gpu: was not there, is NVIDIA H200",
        "tf32: was not there, is False",
        "gone: was 1, is not there",
    ]
    assert len(differences({"options": 3, "profiles": "x"}, key())) > 10
    assert describe_mismatch({"options": 3}, H200) is not None


def test_the_mismatch_is_told_in_this_form():
    told = "built for TensorRT 10.16.1 on L4 (8.9), this is 11.4.0 on H200 (9.0)"
    assert describe_mismatch(key(L4).described(), H200) == told
    assert describe_mismatch(key().described(), H200) is None


@pytest.mark.parametrize(
    ("options", "machine", "runs"),
    [
        ({}, {"tensorrt": "11.4.1"}, False),
        ({}, {"gpu": "NVIDIA H100"}, False),
        ({}, {"cuda": 12, "driver": None}, True),
        ({"version_compatible": True}, {"tensorrt": "11.4.1"}, True),
        ({"version_compatible": True}, {"tensorrt": "12.0.0"}, True),
        ({"version_compatible": True}, {"tensorrt": "11.3.0"}, False),
        ({"version_compatible": True}, {"gpu": "NVIDIA H100"}, False),
        ({"hardware_compatibility": "ampere_plus"}, {"gpu": "NVIDIA L4", "compute_capability": (8, 9)}, True),
        ({"hardware_compatibility": "ampere_plus"}, {"gpu": "Tesla T4", "compute_capability": (7, 5)}, False),
        ({"hardware_compatibility": "ampere_plus"}, {"tensorrt": "11.4.1"}, False),
        ({"hardware_compatibility": "same_compute_capability"}, {"gpu": "NVIDIA H100"}, True),
        ({"hardware_compatibility": "same_compute_capability"}, {"compute_capability": (9, 1)}, False),
        ({"hardware_compatibility": "ampere_plus"}, {"system": "Windows"}, False),
    ],
)
def test_compatibility_is_what_the_engine_was_built_for(options, machine, runs):
    told = describe_mismatch(key(**options).described(), dataclasses.replace(H200, **machine))
    assert (told is None) == runs


def test_another_system_is_named():
    told = describe_mismatch(key().described(), dataclasses.replace(H200, system="Windows", architecture="AMD64"))
    assert told == (
        "built for TensorRT 11.4.0 on H200 (9.0) under Linux x86_64, this is 11.4.0 on H200 (9.0) under Windows AMD64"
    )


def test_versions_are_read_as_numbers():
    assert numbers_of("10.16.1.11") == (10, 16, 1, 11)
    assert numbers_of("11.4.0.post1") == (11, 4, 0)
    assert numbers_of("None") == numbers_of("") == ()


# ------------------------------------------------------------------------------------------- this machine


class Driver:
    """libcuda with a GPU, or with an error in one of its calls."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing

    def cuInit(self, flags):
        return 100 if self.failing == "cuInit" else 0

    def cuDeviceGet(self, device, ordinal):
        return 101 if self.failing == "cuDeviceGet" else 0

    def cuDeviceGetName(self, buffer, size, device):
        buffer.value = b"NVIDIA L4"
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = {75: 8, 76: 9}[attribute]
        return 0

    def cudaRuntimeGetVersion(self, value):
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = 12090
        return 0


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Neither torch, nor wheels of TensorRT, nor libraries of NVIDIA: then add what the test has."""
    libraries: dict[str, Any] = {}

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine_module, "installed", lambda name: None)
    monkeypatch.setattr(machine_module.metadata, "version", missing)
    monkeypatch.setattr(machine_module, "_library", libraries.get)
    monkeypatch.setattr(machine_module, "_DRIVER_FILE", tmp_path / "version")
    return libraries


def fake_torch(cuda: str | None) -> Any:
    return SimpleNamespace(
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: cuda is not None,
            current_device=lambda: 1,
            get_device_name=lambda index: f"NVIDIA H200 no. {index}",
            get_device_capability=lambda index: (9, index),
        ),
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_torch_tells_the_gpu_and_cuda(bare, monkeypatch, tmp_path, version):
    monkeypatch.setattr(machine_module, "installed", lambda name: fake_torch("13.0"))
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\nGCC version 13.2.0\n"
    )
    assert this_machine(make_fake(version)) == Machine(
        tensorrt=version,
        gpu="NVIDIA H200 no. 1",
        compute_capability=(9, 1),
        cuda=13,
        system=platform.system(),
        architecture=platform.machine(),
        driver="580.82.07",
    )


@pytest.mark.parametrize("torch", [None, fake_torch(None)], ids=["without torch", "torch for the CPU"])
def test_without_torch_the_driver_tells_it(bare, monkeypatch, torch):
    monkeypatch.setattr(machine_module, "installed", lambda name: torch)
    bare["nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"] = bare["libcudart.so.12"] = Driver()
    found = this_machine(make_fake())
    assert (found.gpu, found.capability, found.cuda, found.driver) == ("NVIDIA L4", "8.9", 12, None)


def test_tensorrts_own_wheel_tells_its_cuda(bare, monkeypatch):
    """Torch may be of another CUDA than TensorRT."""
    monkeypatch.setattr(machine_module, "installed", lambda name: fake_torch("12.8"))

    def version(name):
        if name != "tensorrt-cu13":
            raise metadata.PackageNotFoundError(name)
        return "11.4.0"

    monkeypatch.setattr(machine_module.metadata, "version", version)
    assert this_machine(make_fake()).cuda == 13


def test_no_gpu_is_said_with_what_to_do(bare):
    with pytest.raises(UnavailableError, match=r"libcuda\) is missing; install the driver, or start .* --gpus all"):
        this_machine(make_fake())
    for call, status in (("cuInit", 100), ("cuDeviceGet", 101)):
        bare["libcuda.so.1"] = Driver(call)
        with pytest.raises(UnavailableError, match=f"{call} of NVIDIA's driver failed with CUresult {status}"):
            this_machine(make_fake())
    bare["libcuda.so.1"] = Driver()
    with pytest.raises(UnavailableError, match="CUDA version is not known.*pip install"):
        this_machine(make_fake())
