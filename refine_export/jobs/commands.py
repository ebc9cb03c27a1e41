"""Commands that lead from the weights to a file, for its manifest: `reproduce` prints and runs them.

In a manifest a command is JSON with the fields of `Command`; the last one has only those up to `options`, since the
others are the manifest's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from refine_export.errors import RequestError
from refine_export.jobs.job_options import select
from refine_export.jobs.recipe import Recipe
from refine_export.support.manifest import Manifest, read_manifest, sha256_of_file
from refine_export.support.text import json_safe

MadeBy = Literal["export", "lower", "build", "refit"]
_REFERENCE: Final = ("checkpoint", "frames", "scene")
_OPTIONS: Final[Mapping[MadeBy, tuple[str, ...]]] = {
    "export": ("export", "checkpoint"),
    "lower": ("lower", *_REFERENCE),
    "build": ("build", *_REFERENCE),
    "refit": _REFERENCE,
}
"""Sections and options of a recipe that what a verb makes depends on."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, and what it made."""

    verb: MadeBy
    files: Mapping[str, str]
    """Argument of the verb's function -> an ONNX file or engine that it is made from."""
    arguments: Mapping[str, Any]
    """The other arguments."""
    options: Mapping[str, Any]
    """Options that differ from the default, by keyword."""
    artifact: str
    """Name of the file; this and the rest are as the file's manifest has them."""
    sha256: str
    inputs: Mapping[str, Any]
    versions: Mapping[str, str]
    fingerprint: str
    proof: Mapping[str, Any]
    """Types and samplers of an engine."""


def commands_of(
    verb: MadeBy, recipe: Recipe, files: Mapping[str, Path | None], **arguments: Any
) -> list[dict[str, Any]]:
    """Return the commands that lead to a file that is made now.

    Args:
        verb: that makes it.
        recipe: its options.
        files: what it is made from, by argument; their manifests have the commands before this one.
        arguments: the other arguments of the verb's function; those that are empty are left out.
    """
    before: dict[str, dict[str, Any]] = {}
    for path in filter(None, files.values()):
        before |= {one["sha256"]: one for one in _commands_before(path)}
    options = {
        option.keyword: value
        for option in select(*_OPTIONS[verb])
        if (value := getattr(getattr(recipe, option.section), option.name)) != option.default
    }
    command = {
        "verb": verb,
        "files": {name: str(path) for name, path in files.items() if path is not None},
        "arguments": {name: value for name, value in arguments.items() if value},
        "options": options,
    }
    return [*before.values(), json_safe(command)]


def made(manifest: Manifest) -> dict[str, Any]:
    """Return the command that made an artifact, and what was made."""
    names = ("artifact", "sha256", "inputs", "versions", "fingerprint")
    proof = {name: manifest.details[name] for name in ("inferred", "samplers") if name in manifest.details}
    return {**manifest.commands[-1], **{name: getattr(manifest, name) for name in names}, "proof": proof}


def _commands_before(path: Path) -> list[dict[str, Any]]:
    """Return the commands that made a file; none for one of another tool."""
    try:
        manifest = read_manifest(path)
    except RequestError:
        return []
    if not manifest.commands or manifest.sha256 != sha256_of_file(path):
        return []
    return [*map(dict, manifest.commands[:-1]), made(manifest)]
