"""An engine's key changes with all that changes the engine; differences and mismatches are named."""

import dataclasses
import json
from typing import Any

import pytest

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.identity import NOT_IN_THE_ENGINE, EngineKey, describe_mismatch, differences, engine_key
from refine_export.engine.machine import Machine, rtx_gpus

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


def key(machine=H200, fallback="native", sha="a" * 64, profiles=(PROFILE,), **options):
    return engine_key(machine, onnx_sha256=sha, profiles=profiles, options=BuildOptions(**options), fallback=fallback)


CHANGED: dict[str, dict[str, Any]] = {
    "tensorrt": {"machine": dataclasses.replace(H200, tensorrt="11.4.1")},
    "gpu": {"machine": dataclasses.replace(H200, gpu="NVIDIA H100")},
    "compute_capability": {"machine": dataclasses.replace(H200, compute_capability=(9, 1))},
    "cuda": {"machine": dataclasses.replace(H200, cuda=12)},
    "onnx_sha256": {"sha": "b" * 64},
    "fallback": {"fallback": "gather"},
    "optimization_level": {"optimization_level": 5},
    "workspace_mib": {"workspace_mib": 512},
}


def test_each_field_is_in_the_fingerprint_and_named():
    for name, change in CHANGED.items():
        new = key(**change)
        assert new.fingerprint() != key().fingerprint(), name
        assert [line.partition(":")[0] for line in differences(key(), new)] == [name]
    assert differences(key(), key(optimization_level=5)) == ["optimization_level: was 3, is 5"]
    assert differences(key(), key(workspace_mib=512)) == ["workspace_mib: was not set, is 512"]


def test_every_option_is_in_the_key_except_those_that_leave_the_engine_alone():
    names = {field.name for field in dataclasses.fields(BuildOptions)}
    assert set(key().options) == names - set(NOT_IN_THE_ENGINE)
    assert set(NOT_IN_THE_ENGINE) <= names
    same = key(time_limit_s=5, memory_limit_mib=7, timing_cache="elsewhere", target="trt")
    assert same.fingerprint() == key().fingerprint()
    other_driver = dataclasses.replace(H200, driver="999.1")
    assert key(other_driver).fingerprint() == key().fingerprint()


def test_a_key_outlives_its_json():
    """Tuples become lists, names change order: still the same key."""
    stored = EngineKey(**json.loads(json.dumps(key().described(), sort_keys=True)))
    assert differences(stored, key()) == []


def test_profiles_differ_by_input():
    wider = {"img0": ((1, 3, 32, 32), (1, 3, 64, 64), (1, 3, 128, 128))}
    assert differences(key(), key(profiles=(wider,))) == [
        "profile 0 of img0: was 1x3x32x32 / 1x3x64x64 / 1x3x96x96, is 1x3x32x32 / 1x3x64x64 / 1x3x128x128"
    ]
    assert differences(key(), key(profiles=())) == [
        "profile 0 of img0: was 1x3x32x32 / 1x3x64x64 / 1x3x96x96, is not there"
    ]
    assert len(differences(key(), key(profiles=(PROFILE, wider)))) == 1


def test_the_mismatch_names_both_machines():
    expected = "built for TensorRT 10.16.1 on L4 (8.9), this is TensorRT 11.4.0 on H200 (9.0)"
    assert describe_mismatch(key(L4), H200) == expected
    assert describe_mismatch(key(), H200) is None


@pytest.mark.parametrize(
    ("options", "machine", "runs"),
    [
        ({}, {"tensorrt": "11.4.1"}, False),
        ({}, {"gpu": "NVIDIA H100"}, False),
        ({}, {"cuda": 12, "driver": None}, True),
        ({"version_compatible": True}, {"tensorrt": "11.4.1"}, True),
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
    mismatch = describe_mismatch(key(**options), dataclasses.replace(H200, **machine))
    assert (mismatch is None) == runs


def test_another_system_is_named():
    windows = dataclasses.replace(H200, system="Windows", architecture="AMD64")
    assert str(describe_mismatch(key(), windows)).endswith("under Windows AMD64")


RTX = rtx_gpus("1.7.1.116", ())
GEFORCE = dataclasses.replace(
    H200, library="rtx", tensorrt="1.7.1.116", gpu="NVIDIA GeForce RTX 4090", compute_capability=(8, 9), cuda=None
)


@pytest.mark.parametrize(
    ("capabilities", "machine", "runs"),
    [
        ((), {}, True),
        ((), {"system": "Windows"}, True),
        ((), {"compute_capability": (7, 5)}, False),
        ((), {"compute_capability": (9, 0)}, False),
        (("sm86", "sm120"), {}, False),
        (("sm86", "sm89"), {}, True),
        ((), {"tensorrt": "1.6.1.120"}, False),
        ((), {"library": "trt"}, False),
        ((), {"architecture": "other"}, False),
    ],
)
def test_rtx_engines_run_on_the_gpus_that_they_are_for(capabilities, machine, runs):
    described = key(dataclasses.replace(rtx_gpus("1.7.1.116", capabilities), architecture="x86_64"))
    assert (describe_mismatch(described, dataclasses.replace(GEFORCE, **machine)) is None) == runs


def test_an_rtx_key_names_its_gpus():
    assert (key(RTX).compute_capability, key(RTX).system, key(RTX).gpu) == ("Ampere and newer", "any", "RTX GPUs")
    assert key(rtx_gpus("1.7.1.116", ("sm89",))).fingerprint() != key(RTX).fingerprint()
