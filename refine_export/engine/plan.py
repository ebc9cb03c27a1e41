"""Plan files without TensorRT: what a file is, what its manifest says, and whether this machine can run it.

The manifest beside `m.plan` is `m.plan.json`: kind `engine`, fingerprint and details of its `EngineKey`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.artifacts import Artifact
from refine_export.engine.build_options import LARGEST_BATCH
from refine_export.engine.engine_manifest import KIND as KIND
from refine_export.engine.engine_manifest import SEAL, read_engine_manifest
from refine_export.engine.identity import Machine, describe_mismatch, described_machine, fingerprint_of_key
from refine_export.engine.machine import numbers_of
from refine_export.errors import GraphError
from refine_export.signature import LARGEST_SIDE, SIGNATURES
from refine_export.support.manifest import Manifest, manifest_path

KEY = "key"
"""Where `Manifest.details` has `EngineKey.described`."""
ARTIFACT = "artifact"
"""Where it has the `onnx_file.Artifact` of the file that the engine was built from."""
HEADER_BYTES = 28
_MAGIC = 0x74727466
_BUILD = "build it again: refine-export build FILE.onnx -o {}"


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a plan's first 28 bytes say."""

    version: tuple[int, ...] | None
    """Of the TensorRT that built it: four numbers; None in a header of a form that is not known."""

    @property
    def text(self) -> str:
        """`10.16.1.11`"""
        return ".".join(str(number) for number in self.version) if self.version else "not known"


def plan_header(content: bytes, path: Path) -> Header:
    """What a plan begins with: a tag, the form of the header, and for form 0 the version in bytes 24 to 27.

    As `trtexec --getPlanVersionOnly` reads it in samples/common/sampleEngines.cpp of TensorRT 10.14; the later ones to
    11.4 were not seen to differ.

    Args:
        content: the file, or its first 28 bytes.
        path: what errors call it.

    Raises:
        GraphError: empty, truncated, or no plan.
    """
    if not content:
        raise GraphError(f"{path} is empty; expected a TensorRT plan: {_BUILD.format(path.name)}")
    if int.from_bytes(content[:4], "little") != _MAGIC:
        raise GraphError(
            f"{path} is no TensorRT plan: it begins with {content[:4].hex(' ')}, expected 66 74 72 74{_guess(content)}"
        )
    if len(content) < HEADER_BYTES:
        raise GraphError(
            f"{path} is truncated: {len(content)} bytes, expected a header of {HEADER_BYTES} and the engine; "
            + _BUILD.format(path.name)
        )
    form, *version = struct.unpack_from("<4xI16x4B", content)
    return Header(version=tuple(version) if form == 0 else None)


def seems_plan(path: Path) -> bool:
    """By its first four bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return int.from_bytes(file.read(4), "little") == _MAGIC


def meant_as_plan(path: Path) -> bool:
    """By its first four bytes, or by its name, so that errors on an empty or foreign file speak of plans."""
    return path.suffix.lower() == ".plan" or seems_plan(path)


def read_plan(path: Path, machine: Machine) -> tuple[bytes, Manifest]:
    """The bytes of a plan that this machine can run, and its manifest.

    Raises:
        GraphError: the file is missing, empty, truncated or no plan; its manifest is missing, damaged, altered or of
            another file; or it was built for another TensorRT, GPU or operating system.
    """
    content = plan_bytes(path)
    manifest, key = _checked_manifest(path, content)
    if mismatch := describe_mismatch(key, machine):
        raise GraphError(f"{path}: {mismatch}; on this machine, {_BUILD.format(path.name)}")
    return content, manifest


def plan_bytes(path: Path) -> bytes:
    """The bytes of a plan, its manifest left aside.

    Raises:
        GraphError: the file is missing, can't be read, is empty, truncated or no plan.
    """
    if path.is_dir():
        raise GraphError(f"{path} is a directory; expected a TensorRT plan: give the path of the file")
    try:
        if path.exists() and not path.is_file():
            raise GraphError(f"{path} is no regular file; expected a TensorRT plan: give the path of the file")
        content = path.read_bytes()
    except OSError as error:
        raise GraphError(f"can't read {path}: {error.strerror}; expected a TensorRT plan: check the path") from error
    plan_header(content, path)
    return content


def key_of(manifest: Manifest) -> Mapping[str, Any]:
    """The engine's key, as the manifest has it.

    Raises:
        GraphError: it has none, or one that its fingerprint is not of.
    """
    key = manifest.details.get(KEY) if isinstance(manifest.details, Mapping) else None
    if manifest.kind != KIND or not isinstance(key, Mapping):
        raise GraphError(f"the manifest of {manifest.artifact} is of kind {manifest.kind!r}; expected an engine's")
    if fingerprint_of_key(key) != manifest.fingerprint:
        raise GraphError(
            f"the manifest of {manifest.artifact} was altered: its key does not have the fingerprint that it says; "
            + _BUILD.format(manifest.artifact)
        )
    return key


def describe(path: Path) -> dict[str, Any]:
    """What `inspect` shows of a plan, on any machine; what is wrong with the manifest is shown, and no error.

    Returns:
        JSON: file, sha256, size_bytes, tensorrt (as the header has it), manifest (`whole`, or what is wrong), and of a
        whole one: key, inputs, versions, signature, seconds, details.

    Raises:
        GraphError: the file is missing, can't be read, is empty, truncated or no plan.
    """
    content = plan_bytes(path)
    found: dict[str, Any] = {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "tensorrt": plan_header(content, path).text,
    }
    try:
        manifest, key = _checked_manifest(path, content)
    except GraphError as error:
        return {**found, "manifest": str(error)}
    return {
        **found,
        "manifest": "whole",
        "key": dict(key),
        "inputs": manifest.inputs,
        "versions": manifest.versions,
        "signature": manifest.signature,
        "seconds": manifest.seconds,
        "details": {name: value for name, value in manifest.details.items() if name not in (KEY, SEAL)},
    }


def artifact_from_plan(path: Path) -> Artifact:
    """What an engine is, as its manifest has it; this needs neither TensorRT nor a GPU.

    Raises:
        GraphError: as `read_plan`, but for another machine; or the engine is none of the five graphs.
    """
    from pydantic import TypeAdapter, ValidationError

    manifest, key = _checked_manifest(path, plan_bytes(path))
    made_of = manifest.details.get(ARTIFACT)
    if made_of is None:
        raise GraphError(f"{path} is none of the graphs {', '.join(SIGNATURES)}; expected an engine of one of them")
    try:
        artifact = TypeAdapter(Artifact).validate_json(json.dumps(made_of), strict=True)
        image = SIGNATURES[artifact.graph].inputs[0].name
        ends = [(batch, height, width) for one in key["profiles"][:1] for batch, _, height, width in one[image]]
        low, best, high = ends or (None, None, None)
        for sizes in ends or [artifact.fixed]:
            if not _possible(sizes):
                raise ValueError(f"{sizes} is no batch, height and width")
    except (ValidationError, KeyError, ValueError) as error:
        said = " ".join(str(error).split())
        raise GraphError(f"the manifest of {path} was altered: {said}; {_BUILD.format(path.name)}") from error
    artifact = dataclasses.replace(
        artifact,
        file=str(path),
        sha256=manifest.sha256,
        size_bytes=manifest.size_bytes,
        profile=None,
        engine=f"{described_machine(key)}, rung {key.get('rung')}",
    )
    if low is None or best is None or high is None:
        return artifact
    batch, height, width = (size if size == other else None for size, other in zip(low, high, strict=True))
    return dataclasses.replace(
        artifact,
        profile=(low, best, high),
        fixed=(batch, height, width),
        sizes=" to ".join(dict.fromkeys(f"{size[0]}x3x{size[1]}x{size[2]}" for size in (low, high))),
    )


def _checked_manifest(path: Path, content: bytes) -> tuple[Manifest, Mapping[str, Any]]:
    """The manifest beside a plan, and the key in it, both of these very bytes."""
    manifest, beside = read_engine_manifest(path), manifest_path(path)
    key = key_of(manifest)
    if manifest.sha256 != hashlib.sha256(content).hexdigest():
        if len(content) < manifest.size_bytes:
            raise GraphError(
                f"{path} is truncated: {len(content)} bytes, its manifest says {manifest.size_bytes}; copy it again"
            )
        raise GraphError(
            f"{beside} is of another file, or {path.name} was changed: its SHA-256 is not the manifest's; copy both "
            f"again, or {_BUILD.format(path.name)}"
        )
    header, built_by = plan_header(content, path), numbers_of(key["tensorrt"])
    if header.version and header.version[:3] != built_by[:3]:
        raise GraphError(
            f"{beside} was altered: it says TensorRT {key['tensorrt']}, the plan itself says {header.text}; "
            + _BUILD.format(path.name)
        )
    return manifest, key


def _possible(sizes: tuple[int | None, ...]) -> bool:
    """A batch, a height and a width that an engine of the graphs can have; a lie may be too large to be drawn."""
    limits = (LARGEST_BATCH, LARGEST_SIDE, LARGEST_SIDE)
    return all(size is not None and 0 < size <= limit for size, limit in zip(sizes, limits, strict=True))


def _guess(content: bytes) -> str:
    if content[:1] == b"\x08":
        return "; it seems to be ONNX: refine-export build makes a plan of it"
    length = int.from_bytes(content[:4], "little")
    if int.from_bytes(content[4 + length : 8 + length], "little") == _MAGIC:
        return f"; a plan begins at byte {4 + length}, behind the header of another tool: cut that off"
    return "; check the path"
