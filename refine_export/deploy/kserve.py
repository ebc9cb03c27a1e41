"""Write a KServe InferenceService for a model repository.

    service = inference_service(Path("models"), KServeOptions(storage_uri="s3://bucket/models"))
    service.text  # YAML, serving.kserve.io/v1beta1

The fields are those of pkg/apis/serving/v1beta1 of kserve/kserve; its runtime `kserve-tritonserver` (config/runtimes)
has the image, the ports and the path of the models, and `runtimeVersion` replaces the image's tag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from refine_export import __version__
from refine_export.deploy.kserve_options import KServeOptions
from refine_export.deploy.preflight.preflight import check_repository
from refine_export.deploy.preflight.repository_reader import Model, read_models
from refine_export.deploy.preflight.rules_engine import ServedEngine, served_engine
from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.deploy.triton.releases import FIND_OUT, NEWEST, RELEASES
from refine_export.errors import RepositoryError, RequestError
from refine_export.support.templates import template_environment
from refine_export.support.text import dict_from_result

_KIND_GPU: Final = 1  # of ModelInstanceGroup.Kind in model_config.proto
_KIND_CPU: Final = 2
_GIB: Final = 2**30
_SERVER_GIB: Final = {True: 4, False: 1}
"""Memory of the server itself: with CUDA and its libraries, and without."""
_COPIES: Final = 3
"""Copies of a model's file while it is loaded: the file, the bytes read from it, and the weights in the runtime."""
_PYTHON_GIB: Final = 2
"""Memory of each python model: its process, and its share of /dev/shm."""


@dataclass(frozen=True, kw_only=True)
class InferenceService:
    """A manifest for KServe."""

    text: str
    """YAML."""
    release: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return dict_from_result(self)


def inference_service(root: Path, options: KServeOptions) -> InferenceService:
    """Return the manifest for a repository that passes the pre-flight.

    Args:
        root: the repository, with the content that it has in the storage.
        options: options of the service.

    Raises:
        RepositoryError: `preflight-failed`.
        RequestError: `needs-gpu`, `no-release` or `plan-release`.
        UnavailableError: `missing-package`; tritonclient.
    """
    _require_preflight(root)
    _, models = read_models(root, [])
    engines = [
        served_engine(path, f"{model.name}/{model.where(path)}")
        for model in models
        if model.backend == "tensorrt"
        for path in model.readable_files()
    ]
    release, notes = _release(engines, options.release)
    notes += _gpu_notes(models, options)
    python = [model for model in models if model.backend == "python"]
    if bare := [model.name for model in python if "EXECUTION_ENV_PATH" not in model.config.parameters]:
        notes.append(
            f"{', '.join(bare)}: model.py runs in the Python of the image, which may lack packages that it imports, "
            "such as onnxruntime and numpy 1; give the service an image of your own, or the model an EXECUTION_ENV_PATH"
        )
    names = [model.name for model in models]
    # YAML: what comes from outside is written as JSON, which is YAML too.
    environment = template_environment("deploy", autoescape=False)
    environment.filters["json"] = json.dumps
    text = environment.get_template("kserve.yaml.j2").render(
        options=options,
        tool=__version__,
        notes=notes,
        name=options.name or _service_name(names),
        release=release,
        grpc=options.protocol == "grpc",
        builds_engines=any(model.builds_engines for model in models),
        capabilities=sorted({engine.capability for engine in engines if engine.capability and not engine.ampere_plus}),
        version_compatible=any(engine.version_compatible for engine in engines),
        memory=f"{_memory_gib(models, options, len(python))}Gi",
        shared_memory=f"{_PYTHON_GIB * len(python) // 2}Gi" if python else "",
        ready_path=f"/v2/models/{ENSEMBLE}/ready" if ENSEMBLE in names else "/v2/health/ready",
    )
    return InferenceService(text=text, release=release, notes=tuple(notes))


def _require_preflight(root: Path) -> None:
    # A bucket loses empty folders, so that warning is an error here.
    wrong = [one for one in check_repository(root).findings if one.severity == "error" or one.rule == "version-empty"]
    if wrong:
        first = wrong[0]
        where = "/".join(filter(None, (first.model, first.where)))
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        problem = (
            f"does not pass the pre-flight: {where}: {first.message}{more}; refine-export deploy check shows what to do"
        )
        raise RepositoryError.about(root, "preflight-failed", problem, rules=tuple(one.rule for one in wrong))


def _gpu_notes(models: Sequence[Model], options: KServeOptions) -> list[str]:
    """Refuse a service without the GPU that a model needs; note one whose GPU no model uses."""
    uses_gpu = False
    for model in models:
        kinds = [group.kind for group in model.config.instance_group]
        if not options.gpus and (model.backend == "tensorrt" or _KIND_GPU in kinds):
            raise RequestError(
                f"gpus is 0, and {model.name} runs only on a GPU; expected 1 or more, or a repository for CPUs: "
                "refine-export deploy triton --device cpu",
                code="needs-gpu",
                model=model.name,
            )
        # Without instance groups Triton decides by the machine.
        uses_gpu |= model.backend != "ensemble" and (not kinds or any(kind != _KIND_CPU for kind in kinds))
    if options.gpus and not uses_gpu:
        return [f"no model of the repository asks for a GPU, and each replica is given {options.gpus}: --gpu 0"]
    return []


def _release(engines: Sequence[ServedEngine], given: str | None) -> tuple[str, list[str]]:
    """Return the release that is asked for, or the newest that is known to run all engines; with notes."""
    if given is None:
        fitting = [one.name for one in RELEASES.values() if all(engine.runs_on(one) for engine in engines)]
        if fitting:
            return fitting[-1], []
        built = ", ".join(f"{engine.where} by TensorRT {engine.tensorrt}" for engine in engines)
        raise RequestError(
            f"no release of Triton from {next(iter(RELEASES))} to {NEWEST} is known to run these engines ({built}); "
            f"give the one that does with --triton-release: {FIND_OUT}",
            code="no-release",
        )
    if (release := RELEASES.get(given)) is None:
        return given, [f"Triton {given} is not known here: check that it runs the engines, {FIND_OUT}"]
    notes = []
    for engine in engines:
        runs = engine.runs_on(release)
        if runs is False:
            raise RequestError(
                f"{engine.where} was built by TensorRT {engine.tensorrt}, and Triton {given} has "
                f"{release.tensorrt}; expected the same: leave --triton-release out, or build the engine again",
                code="plan-release",
                engine=engine.where,
            )
        if runs is None:
            notes.append(f"it is not known whether Triton {given} runs {engine.where} ({engine.tensorrt}): {FIND_OUT}")
    return given, notes


def _service_name(names: Sequence[str]) -> str:
    """Return the ensemble's name, else the first model's, in the letters that a service may have."""
    name = re.sub(r"[^a-z0-9]+", "-", (ENSEMBLE if ENSEMBLE in names else names[0]).lower()).strip("-0123456789")
    return name[:50].rstrip("-") or "triton"


def _memory_gib(models: Sequence[Model], options: KServeOptions, python: int) -> int:
    """Estimate the memory of a replica in GiB."""
    folders = [folder for model in models for folder in model.versions.values()]
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    return _SERVER_GIB[options.gpus > 0] + -(-_COPIES * size // _GIB) + _PYTHON_GIB * python
