"""Rules on what is said of files: manifests beside them, parameters in configs, and the repository's own manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from refine_export.deploy.preflight.repository_reader import MODEL_BYTES, Model, text_of, unreadable
from refine_export.deploy.preflight.rules_files import files_of
from refine_export.deploy.preflight.rules_onnx import loaded_onnx, onnx_files
from refine_export.deploy.preflight.rules_text import Finding, finding
from refine_export.deploy.triton.names import (
    ARTIFACT_PARAMETER,
    CHECKPOINT_PARAMETER,
    CONFIG_FILE,
    DEPLOYMENT_FILE,
    GRAPH_PARAMETER,
    PRECISION_PARAMETER,
)
from refine_export.engine.machine import numbers_of
from refine_export.engine.plan import HEADER_BYTES, plan_header
from refine_export.errors import GraphError
from refine_export.graph.model_file import external_files, model_from_file, sha256_of_model
from refine_export.support.manifest import manifest_path, sha256_of_file
from refine_export.validate.runtimes import artifact_of


def check_manifests(model: Model) -> Iterator[Finding]:
    """A manifest beside an ONNX file is of that file; plans have rules of their own."""
    for path in onnx_files(model):
        beside = manifest_path(path)
        text, problem = text_of(beside, model.root)
        if problem == "it is missing":
            continue
        where = model.where(beside)
        said = None if problem else _json(text)
        if problem or not isinstance(said, Mapping) or not isinstance(said.get("sha256"), str):
            yield model.found("manifest", where, problem or "it is no manifest: JSON with the sha256 of the file")
            continue
        if not _is_onnx(path):
            continue  # `onnx-file` says it
        sha256 = sha256_of_model(path.read_bytes(), external_files(model_from_file(path), path.parent))
        if said["sha256"] not in (sha256, sha256_of_file(path)):
            yield model.found("manifest", where, f"{path.name} has the SHA-256 {sha256}, not {said['sha256']}")


def check_parameters(model: Model) -> Iterator[Finding]:
    """What `parameters` say of the newest version is so."""
    names = (GRAPH_PARAMETER, PRECISION_PARAMETER, CHECKPOINT_PARAMETER, ARTIFACT_PARAMETER)
    said = {name: model.config.parameters[name].string_value for name in names if name in model.config.parameters}
    if not said or not model.versions:
        return
    newest = list(model.versions.values())[-1]
    known: dict[str, set[str | None]] = {name: set() for name in names}
    for path in _artifacts(model, newest):
        if model.backend != "tensorrt" and not _is_onnx(path):
            return  # `onnx-file` says it
        try:
            artifact = artifact_of(path)
        except GraphError as error:
            if model.backend != "tensorrt":  # of a plan, rules of its own say it
                yield model.found("parameters", f"{CONFIG_FILE}: parameters", str(error))
            return
        values = (artifact.graph, artifact.precision, artifact.checkpoint_sha256, artifact.sha256)
        for name, value in zip(names, values, strict=True):
            known[name].add(value)
    for name, value in said.items():
        if known[name] and value not in known[name]:
            there = " or ".join(sorted(str(one) for one in known[name]))
            yield model.found("parameters", f"{CONFIG_FILE}: parameters {name!r}", f"it is {value!r}; expected {there}")


def _artifacts(model: Model, folder: Path) -> list[Path]:
    if model.backend == "tensorrt":
        return [path for path in files_of(model, folder) if unreadable(path, model.root, MODEL_BYTES) is None]
    return [path for path in onnx_files(model) if path.is_relative_to(folder)]


def _is_onnx(path: Path) -> bool:
    try:
        loaded_onnx(path)
    except GraphError:
        return False
    return True


def check_deployment(root: Path) -> Iterator[Finding]:
    """The repository's own manifest, where it has one: every file that it lists is there, and is the one."""
    text, problem = text_of(root / DEPLOYMENT_FILE, root)
    if problem == "it is missing":
        return
    said = None if problem else _json(text)
    files = said.get("files") if isinstance(said, Mapping) else None
    if problem or not isinstance(said, Mapping) or not isinstance(files, Mapping):
        yield finding("deployment", "", DEPLOYMENT_FILE, problem or "it is no manifest of a repository")
        return
    for name, file in files.items():
        path = root / name
        if problem := unreadable(path, root, MODEL_BYTES):
            yield finding("deployment", "", DEPLOYMENT_FILE, f"{name}: {problem}")
        elif not isinstance(file, Mapping) or sha256_of_file(path) != file.get("sha256"):
            yield finding("deployment", "", DEPLOYMENT_FILE, f"{name} was changed: its SHA-256 is another")
    yield from _engines(root, said)


def _engines(root: Path, said: Mapping[str, Any]) -> Iterator[Finding]:
    """What it says of a plan's TensorRT is what the plan itself says."""
    for model, artifact in _artifacts_in(said):
        engine, names = artifact.get("engine"), (str(artifact.get("version")), str(artifact.get("file")))
        path = root.joinpath(model, *names)
        if not isinstance(engine, Mapping) or unreadable(path, root, MODEL_BYTES) is not None:
            continue
        try:
            with path.open("rb") as file:
                built_by = plan_header(file.read(HEADER_BYTES), path)
        except GraphError:  # `plan-file` says it
            continue
        told = str(engine.get("tensorrt"))
        if built_by.version and numbers_of(told)[:3] != built_by.version[:3]:
            message = (
                f"{'/'.join((model, *names))} was built by TensorRT {told}, it says; the plan says {built_by.text}"
            )
            yield finding("deployment", "", DEPLOYMENT_FILE, message)


def _artifacts_in(said: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    models = said.get("models")
    for model in models if isinstance(models, list) else []:
        artifacts = model.get("artifacts") if isinstance(model, Mapping) else None
        for artifact in artifacts if isinstance(artifacts, list) else []:
            if isinstance(artifact, Mapping):
                yield str(model.get("name")), artifact


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
