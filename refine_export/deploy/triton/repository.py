"""Write artifacts as a model repository of Triton, complete or not at all, with a record of every file in it.

    deployed = deploy_triton([Path("interpolator.onnx")], Path("models"), TritonOptions())

    models/
      README.md, deployment.json
      interpolator/config.pbtxt, interpolator/1/model.onnx (and model.onnx.json, the artifact's own manifest)
      interpolate_pre/..., interpolate_post/..., interpolate/... where there is an interpolator

deployment.json: `schema`, `tool`, `options`, `models` (each with its backend, versions, sizes and artifacts) and
`files` (path -> sha256 and size_bytes of every file but itself).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export import __version__
from refine_export.deploy.triton import names
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.frame_models import ImageType, post_model, pre_model
from refine_export.deploy.triton.model_config import (
    Config,
    ensemble_config,
    network_config,
    post_config,
    pre_config,
    text_from_config,
    why_no_ensemble,
)
from refine_export.deploy.triton.network_models import ModelSource, NetworkModel, network_models, read_model_source
from refine_export.deploy.triton.repository_readme import readme_text
from refine_export.errors import GraphError, RepositoryError, RequestError
from refine_export.support.files import replace_folder, write_text
from refine_export.support.manifest import manifest_path, read_manifest, sha256_of_file
from refine_export.support.text import dict_from_result, json_safe, json_text, size_text

SCHEMA = 1
"""Version of the form of deployment.json."""
PYTHON_MODEL = Path(__file__).parent / "python_model" / names.PYTHON_FILE
"""Code that serves ONNX by the python backend; it is copied unchanged."""
_IMAGE_TYPES: Mapping[str, ImageType] = {"TYPE_FP32": "float", "TYPE_FP16": "float16"}
_WHY_A_FILE = "An ensemble needs no file, but neither git nor object stores keep an empty folder.\n"


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A model repository that was written."""

    path: Path
    deployment: Mapping[str, Any]
    """Content of deployment.json."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"path": str(self.path), "notes": list(self.notes), **self.deployment}


def deploy_triton(paths: Sequence[Path], output: Path, options: TritonOptions, *, force: bool = False) -> Deployed:
    """Write a model repository; one that is there stays as it is until the new one is complete.

    Args:
        paths: ONNX files and engines of the graphs; several of one graph are its versions.
        output: the repository's folder.
        options: how they are served.
        force: replace a repository that is there.

    Raises:
        GraphError: a file is not one of the graphs, or not the one that its manifest is of.
        RequestError: files or options that do not go together, or an output that may not be replaced.
        UnavailableError: `missing-package`; tritonclient.
    """
    _check_output(output, force=force)
    if not paths:
        raise RequestError("no artifact is given; expected ONNX files or engines of the graphs", code="no-artifact")
    networks = network_models([read_model_source(path) for path in paths], options)
    interpolator, notes = _network_of_ensemble(networks) if options.ensemble else (None, ())
    with replace_folder(output) as folder:
        for network in networks:
            _write_config(folder, network_config(network, options))
            _write_versions(folder, network)
        if interpolator is not None:
            _write_ensemble(folder, interpolator, options)
        models = _model_records(networks, interpolator, options)
        text = readme_text(networks, interpolator, models, options, output.name)
        write_text(folder / names.README_FILE, text)
        deployment = {
            "schema": SCHEMA,
            "tool": f"refine-export {__version__}",
            "options": dict_from_result(options),
            "ensemble_over": interpolator.graph if interpolator else None,
            "models": models,
            "files": _file_records(folder),
        }
        text = json_text(deployment)
        (folder / names.DEPLOYMENT_FILE).write_text(text, encoding="utf-8")
    return Deployed(path=output, deployment=deployment, notes=notes)


def _check_output(output: Path, *, force: bool) -> None:
    """Refuse to replace anything but a repository of this tool, before any work is done."""
    if not output.name or not output.name.encode(errors="replace").decode().isprintable():
        raise RepositoryError(f"output is {str(output)!r}; expected the name of a folder to write", code="bad-path")
    if not os.path.lexists(output) or (output.is_dir() and not output.is_symlink() and not any(output.iterdir())):
        return
    if output.is_symlink() or not (output / names.DEPLOYMENT_FILE).is_file():
        problem = f"exists and is not a repository of this tool (a folder with {names.DEPLOYMENT_FILE}); choose another"
        raise RepositoryError.about(output, "not-a-repository", problem)
    if not force:
        problem = "exists already; replace it with --force, or choose another folder"
        raise RepositoryError.about(output, "output-exists", problem)
    files = {path for path in output.rglob("*") if not path.is_dir() and "__pycache__" not in path.parts}
    if foreign := sorted(files - _recorded_files(output)):
        problem = f"has {len(foreign)} files that this tool did not write, such as {foreign[0]}, and --force would "
        problem += "delete them; move them away, or choose another folder"
        raise RepositoryError.about(output, "foreign-files", problem, files=tuple(map(str, foreign)))


def _recorded_files(repository: Path) -> set[Path]:
    """Return the files in deployment.json and itself; a damaged one records nothing else, so nothing is deleted."""
    files = {repository / names.DEPLOYMENT_FILE}
    try:
        content = json.loads((repository / names.DEPLOYMENT_FILE).read_text(encoding="utf-8"))
        return files | {repository / name for name in content["files"]}
    except (RecursionError, ValueError, TypeError, KeyError):
        return files


def _network_of_ensemble(networks: Sequence[NetworkModel]) -> tuple[NetworkModel | None, tuple[str, ...]]:
    """Return the network that the ensemble is made over; where there is one that does not fit, a note on it."""
    network = next((one for one in networks if one.graph == "interpolator"), None)
    reason = None if network is None else why_no_ensemble(network)
    return (network, ()) if reason is None else (None, (f"no ensemble: {reason}",))


def _write_config(folder: Path, config: Config) -> None:
    (folder / config["name"]).mkdir()
    (folder / config["name"] / names.CONFIG_FILE).write_text(text_from_config(config), encoding="utf-8")


def _write_versions(folder: Path, network: NetworkModel) -> None:
    for number, files in enumerate(network.versions, start=1):
        version = folder / network.graph / str(number)
        version.mkdir()
        for name, source in files.items():
            _copy(source, version / name)
        if network.backend == "python":
            shutil.copyfile(PYTHON_MODEL, version / names.PYTHON_FILE)


def _copy(source: ModelSource, target: Path) -> None:
    """Copy an artifact, its external data and its manifest."""
    copies = {source.path: target}
    if manifest_path(source.path).is_file():
        copies[manifest_path(source.path)] = manifest_path(target)
    reserved = {target, manifest_path(target), target.with_name(names.PYTHON_FILE)}
    for path in source.external_data:
        # The ONNX file refers to its data by these names.
        copies[path] = target.parent / path.relative_to(source.path.parent)
        if copies[path] in reserved:
            raise RequestError(
                f"{source.path} has its weights in {path.name}, a name that the repository needs itself; store them "
                "under another one",
                code="reserved-name",
                path=str(path),
            )
    for path, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    # The manifest of an engine is checked whenever the engine is read.
    if source.engine is None and manifest_path(target).is_file():
        hashes = source.artifact.sha256, sha256_of_file(target)  # with external data, and of the file alone
        if read_manifest(source.path).sha256 not in hashes:
            problem = "is not the file of its manifest: it was changed or replaced; make both again, or delete that"
            raise GraphError.about(source.path, "hash-differs", problem)


def _write_ensemble(folder: Path, network: NetworkModel, options: TritonOptions) -> None:
    types = {name: _IMAGE_TYPES[kind] for name, kind in network.types.items()}
    unit = network.signature.multiple_of
    for config, content in (
        (pre_config(network, options), pre_model(types[names.IMG0], types.get(names.TIMESTEP), unit)),
        (post_config(network, options), post_model(types[names.FRAME])),
    ):
        _write_config(folder, config)
        version = folder / config["name"] / "1"
        version.mkdir()
        (version / names.ONNX_FILE).write_bytes(content)
        if options.backend == "python":
            shutil.copyfile(PYTHON_MODEL, version / names.PYTHON_FILE)
    _write_config(folder, ensemble_config(network))
    version = folder / names.ENSEMBLE / "1"
    version.mkdir()
    (version / "README.txt").write_text(_WHY_A_FILE, encoding="ascii")


def _model_records(
    networks: Sequence[NetworkModel], interpolator: NetworkModel | None, options: TritonOptions
) -> list[dict[str, Any]]:
    records = [_network_record(network) for network in networks]
    if interpolator is not None:
        outer = "python" if options.backend == "python" else "onnxruntime"
        backends = {names.PRE: outer, names.POST: outer, names.ENSEMBLE: "ensemble"}
        records += [{"name": name, "backend": backend, "versions": [1]} for name, backend in backends.items()]
    return records


def _file_records(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of_file(path), "size_bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _network_record(network: NetworkModel) -> dict[str, Any]:
    fields = ("graph", "sha256", "precision", "sizes", "profile", "checkpoint", "checkpoint_sha256")
    record = {
        "name": network.graph,
        "backend": network.backend,
        "versions": list(range(1, len(network.versions) + 1)),
        "max_batch_size": network.max_batch_size,
        "warmed_up_at": [size_text(size) for size in network.sizes],
        "artifacts": [
            {"version": number, "file": name}
            | {field: getattr(source.artifact, field) for field in fields}
            | {"engine": dataclasses.asdict(source.engine) if source.engine else None}
            for number, files in enumerate(network.versions, start=1)
            for name, source in files.items()
        ],
    }
    return dict(json_safe(record))
