"""What is wrong with an engine file or its manifest is found before TensorRT sees it, and without TensorRT."""

import dataclasses
import json
import os
import struct
import sys

import pytest

from refine_export.engine.engine_manifest import (
    artifact_from_engine,
    check_engine,
    check_version,
    engine_bytes,
    engine_description,
    engine_details,
    engine_header,
    options_of,
    seems_engine,
)
from refine_export.errors import EngineError
from refine_export.support.manifest import manifest_path, read_manifest
from tests.support.engine_models import bare_module, machine_of, saved
from tests.support.gate_reports import artifact
from tests.support.refusals import refused

VERSION = "11.4.0.3"


def plan_content(version=VERSION, form=0, tag=b"ftrt"):
    numbers = [int(part) for part in version.split(".")]
    return tag + struct.pack("<I16x4B", form, *numbers) + b"engine" * 20


@pytest.fixture
def plan(tmp_path):
    return saved(tmp_path / "m.plan", plan_content(), VERSION)


def check(path, machine=None):
    return check_engine(path, engine_bytes(path), machine or machine_of(VERSION))


def test_a_whole_engine_of_this_machine_is_read_under_any_name(plan):
    moved = plan.with_name("other.plan")
    manifest_path(plan).rename(manifest_path(moved))
    plan.rename(moved)
    manifest = check_engine(moved, engine_bytes(moved), machine_of(VERSION))
    assert engine_details(manifest.details).key.gpu == "NVIDIA H200"
    assert seems_engine(moved)


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (plan_content(), ("trt", VERSION)),
        (plan_content("1.7.1.116", tag=b"vtrt"), ("rtx", "1.7.1.116")),
        (plan_content(form=1), ("trt", "not known")),
    ],
)
def test_the_header_tells_library_and_version(plan, content, header):
    found = engine_header(content, plan)
    assert (found.library, found.text) == header


def test_an_engine_of_another_machine_is_refused(plan):
    here = dataclasses.replace(machine_of("11.4.1.0"), gpu="NVIDIA L4", compute_capability=(8, 9))
    with refused("wrong-machine", EngineError):
        check(plan, here)


@pytest.mark.parametrize(
    ("content", "code", "hint"),
    [
        (b"", "not-an-engine", "nothing"),
        (b"ftrt" + bytes(10), "truncated", "14 bytes"),
        (b"not an engine at all, but long enough", "not-an-engine", "6e 6f 74 20"),
        (b"\x08\x09\x12\x07pytorch" * 5, "not-an-engine", "ONNX"),
        (struct.pack("<I", 9) + b'{"a": 12}' + plan_content(), "not-an-engine", "byte 13"),
    ],
)
def test_what_is_not_an_engine(plan, content, code, hint):
    plan.write_bytes(content)
    with refused(code, EngineError):
        check(plan)
    with refused(code, EngineError) as caught:
        engine_description(plan)
    assert hint in str(caught.value)


def test_no_file_a_folder_and_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "fifo.plan")  # reading it would wait without end
    for path in (tmp_path / "none.plan", tmp_path, tmp_path / "fifo.plan"):
        with refused("unreadable", EngineError):
            engine_bytes(path)
    assert not seems_engine(tmp_path / "none.plan")


def test_an_engine_cut_short_or_changed(plan):
    content = plan.read_bytes()
    plan.write_bytes(content[:-1])
    with refused("truncated", EngineError):
        check(plan)
    plan.write_bytes(content[:-1] + b"x")
    with refused("unknown-engine", EngineError):
        check(plan)


@pytest.mark.parametrize(
    "change",
    [
        None,
        {"kind": "onnx"},
        *({"details": details} for details in ({}, None, "x", {"key": None}, {"key": "x"})),
        *({name: value} for name in ("options", "inputs", "versions", "commands") for value in (None, "x")),
    ],
)
def test_without_a_manifest_of_ours_an_engine_is_unknown(plan, change):
    path = manifest_path(plan)
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with refused("unknown-engine", EngineError):
        check(plan)
    described = engine_description(plan)
    assert described["tensorrt"] == VERSION
    assert "unknown engine" in described["manifest"]


@pytest.mark.parametrize("value", [None, "x", 3, ["x"], {"x": "y"}])
@pytest.mark.parametrize("name", ["key", "artifact", "samplers", "inferred", "memory", "fallbacks", "proven", "notes"])
def test_a_manifest_that_was_edited_by_hand_is_refused(plan, name, value):
    fits = {"artifact": [None], "proven": ["x"], "fallbacks": [], "notes": [["x"]]}.get(name, [])
    path = manifest_path(plan)
    content = json.loads(path.read_text())
    content["details"][name] = value
    path.write_text(json.dumps(content))
    if value in fits:
        assert engine_description(plan)["manifest"] == "whole"
    else:
        with refused("unknown-engine", EngineError):
            check(plan)
        assert name in engine_description(plan)["manifest"]


@pytest.mark.parametrize(
    "tried", [{}, {"numbers": 3}, {"numbers": [{}]}, {"numbers": [{"max_abs": "x", "psnr_db": None, "reasons": []}]}]
)
def test_fallbacks_that_were_edited_by_hand_are_refused(plan, tried):
    numbers = {"feed": "pair", "output": "out", "max_abs": None, "psnr_db": 60.0, "reasons": ["x"]}
    whole = {"fallback": "native", "status": "passed", "numbers": [numbers], "reason": None}
    for fallback, code in ((whole, None), ({**whole, **tried} if tried else {}, "unknown-engine")):
        path = manifest_path(plan)
        content = json.loads(path.read_text())
        content["details"]["fallbacks"] = [fallback]
        path.write_text(json.dumps(content))
        if code is None:
            assert engine_description(plan)["manifest"] == "whole"
        else:
            with refused(code, EngineError):
                check(plan)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"img1": [[1, 3, 64, 64]] * 3},
        *({"img0": shapes} for shapes in ([], [[1, 3, 64, 64]] * 2, [[1, 3, 64]] * 3, [[1, 3, 64, -64]] * 3)),
    ],
)
def test_profiles_that_were_edited_by_hand_are_refused(plan, profile):
    path = manifest_path(plan)
    content = json.loads(path.read_text())
    content["details"]["artifact"] = dataclasses.asdict(artifact(graph="interpolator"))
    for profiles, code in (([{"img0": [[1, 3, 64, 64]] * 3}], None), ([profile], "unknown-engine")):
        content["details"]["key"]["profiles"] = profiles
        path.write_text(json.dumps(content))
        if code is None:
            assert artifact_from_engine(plan).fixed == (1, 64, 64)
        else:
            with refused(code, EngineError):
                artifact_from_engine(plan)


@pytest.mark.parametrize(
    "options", [{}, {"gpu": None}, {"gpu": [], "exclude_lean_runtime": True}, {"gpu": [], "tiling_level": {}}]
)
def test_options_that_were_edited_by_hand_are_refused(plan, options):
    manifest = dataclasses.replace(read_manifest(plan), options=options)
    with refused("unknown-engine", EngineError):
        options_of(manifest)


def test_a_field_that_was_renamed_by_hand_is_refused(plan, tmp_path):
    """Checks of types pass what they do not know."""
    known = dataclasses.asdict(artifact(graph="unet"))
    path = manifest_path(plan)
    content = json.loads(path.read_text())
    content["details"]["artifact"] = {**known, "multiples_of": 32}
    path.write_text(json.dumps(content))
    with refused("unknown-engine", EngineError):
        artifact_from_engine(plan)


def installed(monkeypatch, **versions):
    """Make these versions of `tensorrt` and `tensorrt_rtx` the installed ones; None: not installed."""
    for name, version in versions.items():
        monkeypatch.setitem(sys.modules, name, version and bare_module(name, version))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("versions", [("11.4.1", None), (None, "1.7.1.116"), (None, None), (VERSION, "1.7.1.116")])
def test_another_version_or_library_is_refused_without_a_gpu(plan, monkeypatch, command, versions, whole):
    """`inspect` describes the engine first, and reads the header of one without a manifest."""
    installed(monkeypatch, tensorrt=versions[0], tensorrt_rtx=versions[1])
    if not whole:
        manifest_path(plan).unlink()
    code, out, error = command("inspect", plan, "--json")
    described = json.loads(out)
    assert ((described["manifest"] == "whole"), "key" in described) == (whole, whole)
    if versions in ((None, None), (VERSION, "1.7.1.116")):  # where none is installed, whoever runs the engine says so
        assert (code, described["mismatch"], error) == (0, None, "")
        return
    refusal = f"error: {described['mismatch']} [wrong-machine]\n"
    assert (code, error) == (2, refusal)
    assert ("--target rtx" in refusal, "run it where TensorRT is installed" in refusal) == (versions[0] is None,) * 2
    code, out, error = command("inspect", plan)
    assert (code, f"built by: TensorRT {VERSION}" in out, error) == (2, True, refusal)
    with refused("wrong-machine" if whole else "unknown-engine", EngineError) as caught:
        check_version(plan)
    assert not whole or str(caught.value) == described["mismatch"]
