"""Rules on hashes: manifests beside files, parameters in configs, and the repository's own deployment.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from refine_export.deploy.preflight.findings import RepositoryFinding, finding
from refine_export.deploy.preflight.repository_reader import MISSING, Model, read_text, why_unreadable
from refine_export.deploy.preflight.rules_onnx import onnx_files
from refine_export.deploy.triton.names import DEPLOYMENT_FILE, parameters_of
from refine_export.engine.engine_manifest import artifact_from_path
from refine_export.errors import RequestError
from refine_export.graph.model_file import external_files, model_from_file, sha256_of_model
from refine_export.signature import OLD_NAMES
from refine_export.support.manifest import manifest_path, sha256_of_file


def check_manifests(model: Model) -> Iterator[RepositoryFinding]:
    """Check that a manifest beside an ONNX file is of that file; `check_engines` does it for engines."""
    for path in onnx_files(model):
        beside = manifest_path(path)
        text, problem = read_text(beside, model.root)
        if problem == MISSING:
            continue
        try:
            recorded = json.loads(text)["sha256"]
        except (ValueError, TypeError, KeyError, RecursionError):
            yield model.found("manifest", model.where(beside), problem or "it is not JSON with the sha256 of the file")
            continue
        sha256 = sha256_of_model(path.read_bytes(), external_files(model_from_file(path), path.parent))
        if recorded not in (sha256, sha256_of_file(path)):
            message = f"{path.name} has the SHA-256 {sha256}, not {recorded}"
            yield model.found("manifest", model.where(beside), message)


def check_parameters(model: Model) -> Iterator[RepositoryFinding]:
    """Check what `parameters` has of the newest version: graph, precision, weights, padding and the rest."""
    given = {name: value.string_value for name, value in model.config.parameters.items()}
    if not given or not model.versions:
        return
    newest = list(model.versions.values())[-1]
    files = model.readable_files() if model.backend == "tensorrt" else onnx_files(model)
    known: dict[str, set[str | None]] = {}
    for path in (path for path in files if path.is_relative_to(newest)):
        try:
            artifact = artifact_from_path(path)
        except RequestError as error:  # it is complete, so it is not one of the graphs
            if model.backend != "tensorrt":  # the rules on engines report it
                yield model.in_config("parameters", "parameters", str(error))
            return
        for name, value in parameters_of(artifact).items():
            known.setdefault(name, set()).add(value)
    for name, value in given.items():
        if name in known and OLD_NAMES.get(value, value) not in known[name]:
            expected = " or ".join(sorted(map(str, known[name])))
            yield model.in_config("parameters", f"parameters {name!r}", f"it is {value!r}; expected {expected}")


def check_deployment(root: Path) -> Iterator[RepositoryFinding]:
    """Check that every file in deployment.json, where there is one, exists and is unchanged."""
    text, problem = read_text(root / DEPLOYMENT_FILE, root)
    if problem == MISSING:
        return
    try:
        for name, file in json.loads(text)["files"].items():
            if problem := why_unreadable(root / name, root):
                yield finding("deployment", "", DEPLOYMENT_FILE, f"{name}: {problem}")
            elif sha256_of_file(root / name) != file["sha256"]:
                yield finding("deployment", "", DEPLOYMENT_FILE, f"{name} was changed: its SHA-256 differs")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        yield finding("deployment", "", DEPLOYMENT_FILE, problem or "it is not the manifest of a repository")
