"""What is wrong with a plan or its manifest is said before TensorRT sees it, and without TensorRT."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct

import pytest

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_manifest import sealed
from refine_export.engine.identity import Machine, engine_key
from refine_export.engine.plan import KEY, KIND, describe, key_of, plan_header, read_plan, seems_plan
from refine_export.errors import GraphError
from refine_export.support.manifest import Manifest, manifest_path, reusable, write_manifest

VERSIONS = ("10.16.1.11", "11.4.0.3")


def machine_of(version="11.4.0.3"):
    return Machine(
        tensorrt=version, gpu="NVIDIA H200", compute_capability=(9, 0), cuda=13, system="Linux", architecture="x86_64"
    )


def plan_content(version="11.4.0.3", form=0):
    numbers = [int(part) for part in version.split(".")]
    return struct.pack("<II16x4B", 0x74727466, form, *numbers) + b"engine" * 20


def save(path, content, machine, **options):
    """A plan and its manifest, as a build leaves them."""
    key = engine_key(machine, onnx_sha256="a" * 64, profiles=(), options=BuildOptions(**options), rung="native")
    path.write_bytes(content)
    manifest = Manifest(
        artifact=path.name,
        kind=KIND,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        inputs={"onnx_sha256": "a" * 64},
        options=dataclasses.asdict(BuildOptions(**options)),
        versions={"tensorrt": machine.tensorrt},
        signature={},
        fingerprint=key.fingerprint(),
        seconds=1.0,
        details={KEY: key.described(), "notes": ["right"]},
    )
    manifest = sealed(manifest)
    write_manifest(path, manifest)
    return manifest


@pytest.fixture(params=VERSIONS)
def plan(request, tmp_path):
    path = tmp_path / "m.plan"
    save(path, plan_content(request.param), machine_of(request.param))
    return path


def version_in(path):
    return json.loads(manifest_path(path).read_text())["versions"]["tensorrt"]


def edit(path, change):
    content = json.loads(manifest_path(path).read_text())
    change(content)
    manifest_path(path).write_text(json.dumps(content))


def refusal(path, machine=None):
    with pytest.raises(GraphError) as caught:
        read_plan(path, machine or machine_of(version_in(path)))[1]
    return str(caught.value)


def test_a_whole_plan_of_this_machine_is_read(plan):
    content, manifest = read_plan(plan, machine_of(version_in(plan)))
    assert content == plan.read_bytes()
    assert manifest == read_plan(plan, machine_of(version_in(plan)))[1]
    assert key_of(manifest)["gpu"] == "NVIDIA H200"
    assert reusable(plan, manifest.fingerprint) == manifest
    assert plan_header(content, plan).text == version_in(plan)
    assert seems_plan(plan)


def test_a_renamed_pair_is_the_same_plan(plan):
    moved = plan.with_name("other.plan")
    manifest_path(plan).rename(manifest_path(moved))
    plan.rename(moved)
    read_plan(moved, machine_of(version_in(moved)))[1]


def test_a_plan_of_another_machine_is_told_by_name(plan):
    here = dataclasses.replace(machine_of("11.4.1.0"), gpu="NVIDIA L4", compute_capability=(8, 9))
    assert (
        f"built for TensorRT {version_in(plan)} on H200 (9.0), this is 11.4.1.0 on L4 (8.9); on this machine, build it "
        "again: refine-export build" in refusal(plan, here)
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"ftrt" + bytes(10), "is truncated: 14 bytes, expected a header of 28"),
        (
            b"not a plan at all, but long enough",
            "is no TensorRT plan: it begins with 6e 6f 74 20, expected 66 74 72 74",
        ),
        (b"\x08\x09\x12\x07pytorch" * 5, "seems to be ONNX: refine-export build makes a plan"),
        (
            struct.pack("<I", 9) + b'{"a": 12}' + plan_content(),
            "a plan begins at byte 13, behind the header of another",
        ),
    ],
)
def test_what_is_no_plan(plan, content, words):
    machine = machine_of(version_in(plan))
    plan.write_bytes(content)
    assert words in refusal(plan, machine)
    with pytest.raises(GraphError):
        describe(plan)


def test_no_file_and_a_folder(plan, tmp_path):
    machine = machine_of(version_in(plan))
    assert "No such file" in refusal(tmp_path / "none.plan", machine)
    assert "is a directory" in refusal(tmp_path, machine)
    assert not seems_plan(tmp_path / "none.plan")


def test_a_plan_cut_short_or_changed(plan):
    content = plan.read_bytes()
    plan.write_bytes(content[:-1])
    assert f"truncated: {len(content) - 1} bytes, its manifest says {len(content)}" in refusal(plan)
    plan.write_bytes(content[:-1] + b"x")
    assert "is of another file, or m.plan was changed" in refusal(plan)


def test_a_manifest_of_another_file(plan, tmp_path):
    other = tmp_path / "other.plan"
    save(other, plan.read_bytes() + b"more", machine_of(version_in(plan)))
    manifest_path(plan).write_text(manifest_path(other).read_text())
    assert "truncated" in refusal(plan)
    manifest_path(other).write_text(json.dumps(dataclasses.asdict(save(plan, plan.read_bytes(), machine_of()))))
    assert "is of another file" in refusal(other, machine_of())


def test_no_manifest(plan):
    machine = machine_of(version_in(plan))
    manifest_path(plan).unlink()
    assert "m.plan.json is missing; expected the manifest that the build wrote beside m.plan" in refusal(plan, machine)
    assert "is missing" in describe(plan)["manifest"]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"artifact": "m.plan"}', "\udcff", "[" * 100_000])
def test_a_damaged_manifest(plan, text):
    machine = machine_of(version_in(plan))
    manifest_path(plan).write_bytes(text.encode(errors="surrogateescape"))
    assert "is damaged" in refusal(plan, machine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["details"][KEY].update(gpu="NVIDIA L4"), "was altered"),
        (lambda content: content["details"][KEY]["options"].update(tf32=True), "was altered"),
        (lambda content: content["details"][KEY].update(cuda=float("nan")), "is damaged (NaN is no JSON)"),
        (lambda content: content.update(fingerprint="0" * 64), "was altered"),
        (lambda content: content.update(sha256="0" * 64), "was altered"),
        (lambda content: content.update(kind="onnx"), "is of kind 'onnx'; expected an engine's"),
        (lambda content: content.update(details={}), "is damaged (details.key: Field required)"),
        (lambda content: content.update(details=3), "is damaged (details: "),
        (lambda content: content.update(size_bytes="many", sha256=""), "is damaged (size_bytes: "),
    ],
)
def test_an_altered_manifest(plan, change, words):
    machine = machine_of(version_in(plan))
    edit(plan, change)
    assert words in refusal(plan, machine)
    assert words in describe(plan)["manifest"]


def test_a_manifest_that_lies_about_the_version(tmp_path):
    """Key and fingerprint agree, but the plan's own header says another TensorRT."""
    path = tmp_path / "m.plan"
    save(path, plan_content("10.16.1.11"), machine_of("11.4.0.3"))
    assert "was altered: it says TensorRT 11.4.0.3, the plan itself says 10.16.1.11" in refusal(path, machine_of())


def test_a_header_of_an_unknown_form_says_nothing(tmp_path):
    path = tmp_path / "m.plan"
    save(path, plan_content("10.16.1.11", form=1), machine_of())
    read_plan(path, machine_of())[1]
    assert describe(path)["tensorrt"] == "not known"


def test_inspect_shows_the_key_on_any_machine(plan):
    told = describe(plan)
    assert told["tensorrt"] == version_in(plan)
    assert told["manifest"] == "whole"
    assert told["key"]["compute_capability"] == "9.0"
    assert told["details"] == {"notes": ["right"]}
    json.dumps(told)
