"""The manifest beside every artifact: what it was made from, so that it can be reused, checked and traced.

`refine.onnx` has `refine.onnx.json`, `refine.engine` has `refine.engine.json`; the schema is the same.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

import rife
from refine_export import __version__
from refine_export.errors import RequestError
from refine_export.support.files import atomic_path
from refine_export.support.text import json_text

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Inputs, options and versions of one artifact."""

    artifact: str
    """Name of the file beside the manifest."""
    kind: str
    """`onnx` or `engine`."""
    sha256: str
    """Hash of the artifact."""
    size_bytes: int
    inputs: Mapping[str, Any]
    """Hashes of the files that went in, such as the checkpoint's."""
    options: Mapping[str, Any]
    """Options of the stage that made it, by name."""
    versions: Mapping[str, str]
    """Versions of the packages that made it."""
    signature: Mapping[str, Any]
    """Names and shapes of inputs and outputs; units are in the file's metadata."""
    fingerprint: str
    """Hash of inputs, options and versions: where it is equal, making the artifact again would change nothing."""
    seconds: float
    """Time that making it took."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further facts from the stage that made it."""
    commands: Sequence[Mapping[str, Any]] = ()
    """Commands that lead from the weights to the artifact, its own last (`jobs.commands`)."""
    schema: int = SCHEMA


def fingerprint(*parts: Any) -> str:
    """Return the SHA-256 of JSON values and of this package's source code; the order of keys does not matter."""
    content = [SCHEMA, __version__, _source_sha256(), *parts]
    text = json.dumps(content, sort_keys=True, allow_nan=False, default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _source_sha256() -> str:
    """Hash the code that makes and judges artifacts, so that changed code never presents an old verdict."""
    digest = hashlib.sha256()
    for package in (Path(__file__).parent.parent, Path(rife.__file__).parent):
        for source in sorted((*package.rglob("*.py"), *package.rglob("*.j2"))):
            digest.update(source.relative_to(package).as_posix().encode() + source.read_bytes())
    return digest.hexdigest()


def manifest_path(artifact: Path) -> Path:
    """Return the path of an artifact's manifest."""
    return Path(f"{artifact}.json")


def check_foreign(path: Path, *, force: bool) -> None:
    """Refuse to overwrite a file that this tool did not write: one that has no manifest.

    Raises:
        RequestError: `output-exists`.
    """
    if force or not os.path.lexists(path):
        return
    try:
        read_manifest(path)
    except RequestError as error:
        problem = "is there and was not made by this tool; choose another name, or overwrite it with --force"
        raise RequestError.about(path, "output-exists", problem) from error


def write_with_manifest(artifact: Path, content: bytes, manifest: Manifest) -> None:
    """Write an artifact and its manifest; errors as in `atomic_path`.

    The manifest takes its place first: a process that is killed between the two leaves no artifact without one, which
    would look like another tool's. The next run makes the artifact that the manifest does not fit.
    """
    with atomic_path(artifact) as new, atomic_path(manifest_path(artifact)) as new_manifest:
        new.write_bytes(content)
        new_manifest.write_text(json_text(dataclasses.asdict(manifest)), encoding="utf-8")


def read_manifest(artifact: Path) -> Manifest:
    """Read the manifest beside an artifact; the artifact itself is not looked at.

    Raises:
        RequestError: `missing-manifest` or `damaged-manifest`.
    """
    path = manifest_path(artifact)
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a regular file")
        manifest = pydantic.TypeAdapter(Manifest).validate_json(path.read_bytes(), strict=True)
        # Refuses NaN and infinite numbers, which no JSON that is made of it can have.
        json_text(dataclasses.asdict(manifest))
        return manifest
    except FileNotFoundError as error:
        problem = f"is missing; copy the manifest of {artifact.name} there, or make {artifact.name} again"
        raise RequestError.about(path, "missing-manifest", problem) from error
    except (OSError, ValueError) as error:  # not JSON, or not the fields of a manifest
        problem = f"cannot be read as a manifest ({' '.join(str(error).split())[:300]}); make {artifact.name} again"
        raise RequestError.about(path, "damaged-manifest", problem) from error


def reusable(artifact: Path, expected: str) -> Manifest | None:
    """Return the manifest of an artifact that need not be made again, else None.

    Args:
        artifact: the file; it has to be there, with the hash that its manifest gives.
        expected: fingerprint of what it would be made from now.
    """
    try:
        manifest = read_manifest(artifact)
        complete = manifest.fingerprint == expected and manifest.sha256 == sha256_of_file(artifact)
    except (OSError, RequestError):
        return None
    return manifest if complete else None
