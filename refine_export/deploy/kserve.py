"""A model repository to a KServe InferenceService: what a cluster has to know to serve it.

    made = inference_service(Path("models"), KServeOptions(storage_uri="s3://bucket/models"))
    made.text  # YAML, serving.kserve.io/v1beta1

What fields mean is in pkg/apis/serving/v1beta1 of kserve/kserve; its runtime `kserve-tritonserver` (config/runtimes)
has the image, the ports and the path of the models, and `runtimeVersion` replaces the image's tag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from refine_export import __version__
from refine_export.deploy.preflight.preflight import Checked, check_repository
from refine_export.deploy.preflight.repository_reader import Model, read_model, repository_folders
from refine_export.deploy.preflight.rules_files import files_of
from refine_export.deploy.preflight.rules_plan import runs_on
from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.deploy.triton.releases import FIND_OUT, NEWEST, RELEASES, Release
from refine_export.engine.plan import describe
from refine_export.errors import RequestError

if TYPE_CHECKING:
    import jinja2

_SCHEMES: Final = ("s3", "gs", "pvc", "hdfs", "webhdfs", "http", "https", "oci", "hf")
"""Of storage that KServe's storage initializer reads (SupportedStorageURIPrefixList)."""
_KIND_GPU: Final = 1  # of ModelInstanceGroup.Kind in model_config.proto
_KIND_CPU: Final = 2
_GIB: Final = 2**30
_SERVER_GIB: Final = {True: 4, False: 1}
"""Memory of the server itself: with CUDA and its libraries, and without."""
_COPIES: Final = 3
"""Of a model's file, while it is loaded: the file, what is read of it, and the weights in the runtime."""
_PYTHON_GIB: Final = 2
"""For each python model: its process, and its share of /dev/shm."""
_STARTUP_S: Final = 600
_STARTUP_WITH_BUILDS_S: Final = 1800
"""ONNX Runtime's TensorRT accelerator builds an engine for each size before the server is ready."""


@dataclass(frozen=True, kw_only=True)
class KServeOptions:
    """How a cluster serves a repository."""

    storage_uri: str
    """Where the repository was copied to, such as `s3://bucket/models`."""
    name: str | None = None
    """Of the service. Default: `interpolate`, or the first model's."""
    release: str | None = None
    """Of Triton, such as `26.06`. Default: the newest that is known to run all plans."""
    gpus: int = 1
    """Of each replica; 0 for none."""
    min_replicas: int = 1
    """0 for none while nobody asks."""
    max_replicas: int = 4
    concurrency: int = 4
    """Requests under way at a replica before there is one more."""
    protocol: Literal["grpc", "http"] = "grpc"

    def __post_init__(self) -> None:
        scheme, separator, rest = self.storage_uri.partition("://")
        if scheme not in _SCHEMES or not separator or not re.fullmatch(r"[!-~]+", rest):
            raise RequestError(
                f"storage_uri is {self.storage_uri!r}; expected a place that KServe reads, such as s3://bucket/models "
                f"({', '.join(_SCHEMES)})"
            )
        if self.name is not None and not re.fullmatch(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?", self.name):
            raise RequestError(
                f"name is {self.name!r}; expected at most 50 small letters, digits and dashes, with a letter first"
            )
        if self.release is not None and not re.fullmatch(r"[0-9]{2}\.(0[1-9]|1[0-2])", self.release):
            raise RequestError(f"triton_release is {self.release!r}; expected a year and a month, such as 26.06")
        checks = {
            "gpus": (0 <= self.gpus <= 16, "0 to 16"),
            "min_replicas": (0 <= self.min_replicas <= self.max_replicas, f"0 to max_replicas, {self.max_replicas}"),
            "max_replicas": (1 <= self.max_replicas <= 1000, "1 to 1000"),
            "concurrency": (1 <= self.concurrency <= 1000, "1 to 1000"),
            "protocol": (self.protocol in ("grpc", "http"), "grpc or http"),
        }
        for name, (right, expected) in checks.items():
            if not right:
                raise RequestError(f"{name} is {getattr(self, name)!r}; expected {expected}")


@dataclass(frozen=True, kw_only=True)
class InferenceService:
    """What was made."""

    text: str
    """YAML."""
    release: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a plan needs."""

    where: str
    tensorrt: str
    capability: str | None
    """Such as `9.0`; None where it runs on others too, or its manifest is missing."""
    version_compatible: bool

    def runs_on(self, release: Release) -> bool | None:
        return runs_on(release, self.tensorrt, version_compatible=self.version_compatible)


def inference_service(root: Path, options: KServeOptions) -> InferenceService:
    """The manifest for a repository that passes the pre-flight.

    Args:
        root: the repository, as it will lie in the storage.
        options: of the service.

    Raises:
        RequestError: the repository has errors, or needs a GPU that there is none of, or no release of Triton is known
            to run its plans.
        UnavailableError: tritonclient is missing.
    """
    _refuse_errors(root, check_repository(root))
    read = (read_model(folder, root, []) for folder in repository_folders(root))
    models = [model for model in read if model is not None]
    plans = [plan for model in models for plan in _plans(model)]
    _refuse_without_gpu(models, options)
    notes: list[str] = []
    release = _release(plans, options.release, notes)
    accelerated = any(_accelerated(model) for model in models)
    python = [model for model in models if model.backend == "python"]
    if bare := [model.name for model in python if "EXECUTION_ENV_PATH" not in model.config.parameters]:
        notes.append(
            f"{', '.join(bare)}: model.py runs in the Python of the image, which may lack what it imports, such as "
            "onnxruntime and numpy 1; give the service an image of your own, or the model an EXECUTION_ENV_PATH"
        )
    if options.gpus and not any(_wants_gpu(model) for model in models):
        notes.append(f"no model of the repository asks for a GPU, and each replica is given {options.gpus}: --gpu 0")
    names = [model.name for model in models]
    is_grpc = options.protocol == "grpc"
    compatible = any(plan.version_compatible for plan in plans)
    text = _template().render(
        tool=__version__,
        notes=notes,
        name=options.name or _service_name(names),
        startup_s=_STARTUP_WITH_BUILDS_S if accelerated else _STARTUP_S,
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        concurrency=options.concurrency,
        capabilities=sorted({plan.capability for plan in plans if plan.capability}),
        image=RELEASES[release].image if release in RELEASES else f"nvcr.io/nvidia/tritonserver:{release}-py3",
        tag=f"{release}-py3",
        protocol_version="grpc-v2" if is_grpc else "v2",
        storage_uri=options.storage_uri.rstrip("/"),
        arguments=[
            "--disable-auto-complete-config",
            "--exit-timeout-secs=30",
            *(["--backend-config=tensorrt,version-compatible=true"] if compatible else []),
        ],
        environment={"NVIDIA_TF32_OVERRIDE": "0"} if accelerated else {},
        port_name="h2c" if is_grpc else "http1",
        port=9000 if is_grpc else 8080,
        cpu="4",
        memory=f"{_memory_gib(models, options, len(python))}Gi",
        gpus=options.gpus,
        ready_path=f"/v2/models/{ENSEMBLE}/ready" if ENSEMBLE in names else "/v2/health/ready",
        shared_memory=f"{_PYTHON_GIB * len(python) // 2}Gi" if python else "",
    )
    return InferenceService(text=text, release=release, notes=tuple(notes))


def _refuse_errors(root: Path, checked: Checked) -> None:
    wrong = [one for one in checked.findings if one.severity == "error" or one.rule == "version-empty"]
    if wrong:
        first = wrong[0]
        where = "/".join(filter(None, (first.model, first.where)))
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise RequestError(
            f"{root} does not pass the pre-flight: {where}: {first.message}{more}; expected a repository that does: "
            "refine-export deploy check says what to do"
        )


def _plans(model: Model) -> list[_Plan]:
    if model.backend != "tensorrt":
        return []
    plans = []
    for path in (path for folder in model.versions.values() for path in files_of(model, folder)):
        known = describe(path)
        key = known.get("key", {})
        built = key.get("options", {})
        capability = str(key.get("compute_capability"))
        here_alone = built.get("hardware_compatibility") != "ampere_plus" and re.fullmatch(r"\d+\.\d", capability)
        plans.append(
            _Plan(
                where=f"{model.name}/{model.where(path)}",
                tensorrt=str(key.get("tensorrt") or known["tensorrt"]),
                capability=capability if here_alone else None,
                version_compatible=built.get("version_compatible") is True,
            )
        )
    return plans


def _refuse_without_gpu(models: Sequence[Model], options: KServeOptions) -> None:
    for model in models:
        kinds = [group.kind for group in model.config.instance_group]
        if not options.gpus and (model.backend == "tensorrt" or _KIND_GPU in kinds):
            raise RequestError(
                f"gpus is 0, and {model.name} runs on a GPU alone; expected 1 or more, or a repository for CPUs: "
                "refine-export deploy triton --device cpu"
            )


def _wants_gpu(model: Model) -> bool:
    """Whether it would use a GPU; without instance groups Triton decides by the machine."""
    kinds = [group.kind for group in model.config.instance_group]
    return model.config.platform != "ensemble" and (not kinds or any(kind != _KIND_CPU for kind in kinds))


def _accelerated(model: Model) -> bool:
    accelerators = model.config.optimization.execution_accelerators.gpu_execution_accelerator
    return any(accelerator.name == "tensorrt" for accelerator in accelerators)


def _release(plans: Sequence[_Plan], given: str | None, notes: list[str]) -> str:
    """The release that is asked for, or the newest that is known to run all plans."""
    if given is None:
        fitting = [one.name for one in RELEASES.values() if all(plan.runs_on(one) for plan in plans)]
        if fitting:
            return fitting[-1]
        built = ", ".join(f"{plan.where} by TensorRT {plan.tensorrt}" for plan in plans)
        raise RequestError(
            f"no release of Triton from {next(iter(RELEASES))} to {NEWEST} is known to run these plans ({built}); give "
            f"the one that does with --triton-release: {FIND_OUT}"
        )
    known = RELEASES.get(given)
    if known is None:
        notes.append(f"Triton {given} is not known here: see that it runs the plans, {FIND_OUT}")
        return given
    for plan in plans:
        runs = plan.runs_on(known)
        if runs is False:
            raise RequestError(
                f"{plan.where} was built by TensorRT {plan.tensorrt}, and Triton {given} has {known.tensorrt}; "
                "expected the same: leave --triton-release out, or build the plan again"
            )
        if runs is None:
            notes.append(
                f"whether Triton {given} runs {plan.where} (TensorRT {plan.tensorrt}) is not known: {FIND_OUT}"
            )
    return given


def _service_name(names: Sequence[str]) -> str:
    """As the ensemble; else as the first model, in the letters that a service has."""
    name = re.sub(r"[^a-z0-9]+", "-", (ENSEMBLE if ENSEMBLE in names else names[0]).lower()).strip("-0123456789")
    return name[:50].rstrip("-") or "triton"


def _memory_gib(models: Sequence[Model], options: KServeOptions, python: int) -> int:
    """Of a replica, in GiB."""
    folders = [folder for model in models for folder in model.versions.values()]
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    return _SERVER_GIB[options.gpus > 0] + -(-_COPIES * size // _GIB) + _PYTHON_GIB * python


def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refine_export", "deploy"),
        autoescape=False,  # YAML: what comes from outside is written as JSON, which is YAML too
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json"] = json.dumps
    environment.filters["seconds"] = lambda number: f"{number}s"
    return environment.get_template("kserve.yaml.j2")
