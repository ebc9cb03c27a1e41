"""Artifacts to a model repository of Triton: whole or not there, and with a record of all that is in it.

    made = deploy_triton([Path("interpolator_m.onnx")], Path("models"), TritonOptions())

    models/
      README.md, deployment.json
      interpolator_m/config.pbtxt, interpolator_m/1/model.onnx (and model.onnx.json, the artifact's own manifest)
      interpolate_pre/…, interpolate_post/…, interpolate/… where there is an interpolator

deployment.json: `schema`, `tool`, `options`, `models` (each with its backend, versions, sizes and artifacts) and
`files` (path -> sha256 and size_bytes of every file but itself).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export import __version__
from refine_export.deploy.triton.config_text import ModelConfig
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.frame_models import ImageType, post_model, pre_model
from refine_export.deploy.triton.model_config import ensemble_config, frame_configs, network_config, why_no_ensemble
from refine_export.deploy.triton.names import (
    CONFIG_FILE,
    DEPLOYMENT_FILE,
    ENSEMBLE,
    FRAME,
    IMG0,
    NETWORKS_OF_ENSEMBLE,
    ONNX_FILE,
    POST,
    PRE,
    PYTHON_FILE,
    README_FILE,
    TIMESTEP,
)
from refine_export.deploy.triton.replace_folder import check_output, folder_in_place
from refine_export.deploy.triton.repository_readme import readme_text
from refine_export.deploy.triton.served_artifacts import Source, read_source
from refine_export.deploy.triton.served_models import Network, networks_from_sources
from refine_export.errors import GraphError, RequestError
from refine_export.support.files import make_folder
from refine_export.support.manifest import manifest_path, sha256_of_file
from refine_export.support.text import size_text
from refine_export.validate.runtimes import artifact_of

SCHEMA = 1
"""Of deployment.json."""
PYTHON_MODEL = Path(__file__).parent / "python_model" / PYTHON_FILE
"""What serves ONNX by the python backend, copied as it is."""
_IMAGES: Mapping[str, ImageType] = {"TYPE_FP32": "float", "TYPE_FP16": "float16"}
_WHY_A_FILE = "An ensemble has no file, and neither git nor object stores keep an empty folder.\n"


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What was made."""

    path: Path
    deployment: Mapping[str, Any]
    """As deployment.json has it."""
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"path": str(self.path), "notes": list(self.notes), **self.deployment}


def deploy_triton(paths: Sequence[Path], output: Path, options: TritonOptions, *, force: bool = False) -> Deployed:
    """Write the repository; one that is there stays as it is until the new one is whole.

    Args:
        paths: ONNX files and plans of the five graphs; several of one graph are its versions.
        output: the repository.
        options: how they are served.
        force: replace a repository that is there.

    Raises:
        GraphError: a file is none of the graphs, or not the one that its manifest is of.
        RequestError: files or options that do not go together, or an output that may not be replaced.
    """
    check_output(output, force=force)
    if not paths:
        raise RequestError("no artifact is given; expected ONNX files or engines of the graphs")
    networks = networks_from_sources([read_source(path, options.io) for path in paths], options)
    notes: list[str] = []
    interpolator = _interpolator(networks, options, notes)
    make_folder(output.parent)
    with folder_in_place(output) as folder:
        for network in networks:
            _write_config(folder, network_config(network, options))
            _write_versions(folder, network)
        if interpolator is not None:
            _write_ensemble(folder, interpolator, options)
        (folder / README_FILE).write_text(readme_text(networks, interpolator, options, output.name), encoding="utf-8")
        deployment = _deployment(folder, networks, interpolator, options)
        text = json.dumps(deployment, indent=2, allow_nan=False) + "\n"
        (folder / DEPLOYMENT_FILE).write_text(text, encoding="utf-8")
    return Deployed(path=output, deployment=deployment, notes=tuple(notes))


def _interpolator(networks: Sequence[Network], options: TritonOptions, notes: list[str]) -> Network | None:
    """What the ensemble is made over."""
    if not options.ensemble:
        return None
    found = {network.graph: network for network in networks}
    for name in NETWORKS_OF_ENSEMBLE:
        if name in found:
            if reason := why_no_ensemble(found[name]):
                notes.append(f"no ensemble: {reason}")
                continue
            return found[name]
    return None


def _write_config(folder: Path, config: ModelConfig) -> None:
    model = folder / config.name
    model.mkdir()
    (model / CONFIG_FILE).write_text(config.text(), encoding="ascii")


def _write_versions(folder: Path, network: Network) -> None:
    for number, files in enumerate(network.versions, start=1):
        version = folder / network.graph / str(number)
        version.mkdir()
        if network.backend == "python":
            shutil.copyfile(PYTHON_MODEL, version / PYTHON_FILE)
        for name, source in files.items():
            _copy(source, version / name)


def _copy(source: Source, target: Path) -> None:
    """The artifact, its external data and its manifest; what arrived is what was looked at."""
    beside = {path: target.parent / path.relative_to(source.path.parent) for path in source.data}
    if manifest_path(source.path).is_file():
        beside[manifest_path(source.path)] = manifest_path(target)
    taken = {path.name for path in (target, manifest_path(target), target.with_name(PYTHON_FILE))}
    for path in source.data:
        if str(path.relative_to(source.path.parent)) in taken:
            raise RequestError(
                f"{source.path} has its weights in {path.name}, a name that the repository needs itself; store them "
                "under another one"
            )
    for file, copy in {source.path: target, **beside}.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    if artifact_of(target).sha256 != source.artifact.sha256:
        raise GraphError(f"{source.path} changed while it was copied; run it again when nothing writes to it")
    _check_manifest(source, target)


def _check_manifest(source: Source, target: Path) -> None:
    """Of an ONNX file; that of a plan is checked whenever the plan is read."""
    path = manifest_path(target)
    if source.built_for is not None or not path.is_file():
        return
    try:
        said = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise GraphError(
            f"{manifest_path(source.path)} is damaged ({error!r}); expected the manifest of {source.path.name}: make "
            "both again, or delete it"
        ) from error
    if said not in (source.artifact.sha256, sha256_of_file(target)):
        raise GraphError(
            f"{manifest_path(source.path)} is of another file than {source.path.name}, which was changed or replaced; "
            "make both again, or delete the manifest"
        )


def _write_ensemble(folder: Path, network: Network, options: TritonOptions) -> None:
    types = {name: _IMAGES[kind] for name, kind in network.types.items()}
    contents = pre_model(types[IMG0], types.get(TIMESTEP)), post_model(types[FRAME])
    for config, content in zip(frame_configs(network, options), contents, strict=True):
        _write_config(folder, config)
        version = folder / config.name / "1"
        version.mkdir()
        (version / ONNX_FILE).write_bytes(content)
        if config.backend == "python":
            shutil.copyfile(PYTHON_MODEL, version / PYTHON_FILE)
    _write_config(folder, ensemble_config(network))
    version = folder / ENSEMBLE / "1"
    version.mkdir()
    (version / "README.txt").write_text(_WHY_A_FILE, encoding="ascii")


def _deployment(
    folder: Path, networks: Sequence[Network], interpolator: Network | None, options: TritonOptions
) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    models = [_described(network) for network in networks]
    if interpolator is not None:
        around = "python" if options.backend == "python" else "onnxruntime"
        backends = {PRE: around, POST: around, ENSEMBLE: "ensemble"}
        models += [{"name": name, "backend": backend, "versions": [1]} for name, backend in backends.items()]
    return {
        "schema": SCHEMA,
        "tool": f"refine-export {__version__}",
        "options": json.loads(json.dumps(dataclasses.asdict(options))),
        "ensemble_over": interpolator.graph if interpolator else None,
        "models": models,
        "files": {
            path.relative_to(folder).as_posix(): {"sha256": sha256_of_file(path), "size_bytes": path.stat().st_size}
            for path in files
        },
    }


def _described(network: Network) -> dict[str, Any]:
    artifacts = [
        {
            "version": number,
            "file": name,
            "graph": network.graph,
            "sha256": source.artifact.sha256,
            "precision": source.artifact.precision,
            "sizes": source.artifact.sizes,
            "profile": source.artifact.profile,
            "checkpoint": source.artifact.checkpoint,
            "checkpoint_sha256": source.artifact.checkpoint_sha256,
            "engine": dataclasses.asdict(source.built_for) if source.built_for else None,
        }
        for number, files in enumerate(network.versions, start=1)
        for name, source in files.items()
    ]
    return {
        "name": network.graph,
        "backend": network.backend,
        "versions": list(range(1, len(network.versions) + 1)),
        "max_batch_size": network.largest_batch,
        "warmed_up_at": [size_text(size) for size in network.sizes],
        "artifacts": json.loads(json.dumps(artifacts)),
    }
