"""The side-car of every artifact: what it was made from, so that it can be reused, checked and traced.

`refine.onnx` has `refine.onnx.json` beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export import __version__
from refine_export.support.files import write_text

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Inputs, options and versions of one artifact."""

    artifact: str
    """Name of the file beside the manifest."""
    kind: str
    """`onnx`, or `engine` of a TensorRT plan"""
    sha256: str
    """Of the artifact."""
    size_bytes: int
    inputs: Mapping[str, Any]
    """Hashes of what went in, such as the checkpoint's."""
    options: Mapping[str, Any]
    """Of the stage that made it, by name."""
    versions: Mapping[str, str]
    """Of the packages that made it."""
    signature: Mapping[str, Any]
    """Names and shapes of inputs and outputs; units are in the file's metadata."""
    fingerprint: str
    """Of inputs, options and versions; equal fingerprints mean that making it again would change nothing."""
    seconds: float
    """That making it took."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else the stage that made it has to say."""
    schema: int = SCHEMA


def fingerprint(*parts: Any) -> str:
    """SHA-256 of anything that is JSON, and of this tool's own source; the order of keys does not matter."""
    content = [SCHEMA, __version__, _source_sha256(), *parts]
    text = json.dumps(content, sort_keys=True, allow_nan=False, default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _source_sha256() -> str:
    """Of the code that makes and judges artifacts, so that a changed tool never shows an old proof."""
    import rife

    digest = hashlib.sha256()
    for package in (Path(__file__).parent.parent, Path(rife.__file__).parent):
        for source in sorted((*package.rglob("*.py"), *package.rglob("*.j2"))):
            digest.update(source.relative_to(package).as_posix().encode() + source.read_bytes())
    return digest.hexdigest()


def manifest_path(artifact: Path) -> Path:
    """Where an artifact's manifest lies."""
    return artifact.with_name(f"{artifact.name}.json")


def write_manifest(artifact: Path, manifest: Manifest) -> None:
    """Write the side-car of an artifact; to be called after the artifact is in place."""
    write_text(manifest_path(artifact), text_of_manifest(manifest))


def text_of_manifest(manifest: Manifest) -> str:
    """What the side-car says: JSON, one line per value."""
    return json.dumps(dataclasses.asdict(manifest), indent=2, allow_nan=False) + "\n"


def reusable(artifact: Path, expected: str) -> Manifest | None:
    """The manifest, if the artifact beside it is whole and was made from what `expected` is the fingerprint of.

    Anything else is None: no file, no manifest or a damaged one, another fingerprint, changed bytes.
    """
    try:
        content = json.loads(manifest_path(artifact).read_text(encoding="utf-8"))
        manifest = Manifest(**content)
        whole = manifest.fingerprint == expected and manifest.sha256 == sha256_of_file(artifact)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return manifest if whole else None
