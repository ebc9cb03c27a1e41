"""Group artifacts into the models of a repository: files of one graph are versions of one model.

sources = [read_model_source(path) for path in paths]
models = network_models(sources, options)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from refine_export.artifacts import Artifact, Sizes, io_description
from refine_export.deploy.triton.deploy_options import DEFAULT_BATCH, DEFAULT_SIZES, MAX_BATCH, TritonOptions
from refine_export.deploy.triton.names import ONNX_FILE, PLAN_FILE, Backend
from refine_export.engine.engine_manifest import (
    artifact_from_path,
    engine_bytes,
    engine_details,
    engine_header,
    meant_as_engine,
    read_engine_manifest,
    seems_engine,
)
from refine_export.errors import EngineError, GraphError, RequestError
from refine_export.graph.model_file import external_files, model_from_file
from refine_export.signature import LARGEST_SIDE, SIGNATURES, GraphName, Signature, fitting_size
from refine_export.support.text import size_text

Profile = tuple[Sizes, Sizes, Sizes]
_TYPES = {"float": "TYPE_FP32", "float16": "TYPE_FP16"}
"""ONNX's name of a type -> Triton's."""
_SEPARATE = "make a repository for each"


@dataclass(frozen=True, kw_only=True)
class BuiltFor:
    """TensorRT, GPU and profiles that an engine was built for."""

    tensorrt: str
    """Full version."""
    gpu: str
    compute_capability: str
    version_compatible: bool
    profiles: int
    """Number of optimization profiles; 0 for an engine of fixed sizes."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """An ONNX file or an engine that becomes a version of a model."""

    path: Path
    artifact: Artifact
    types: Mapping[str, str]
    """Tensor -> Triton's name of its type."""
    external_data: tuple[Path, ...] = ()
    engine: BuiltFor | None = None
    """None for an ONNX file."""


@dataclass(frozen=True, kw_only=True)
class NetworkModel:
    """A network's model in a repository, with all its versions."""

    graph: GraphName
    backend: Backend
    versions: tuple[Mapping[str, ModelSource], ...]
    """From version 1 on: file name in the version's folder -> source."""
    engine_by_capability: Mapping[str, str]
    """Compute capability -> file name of its engine; empty unless there are several."""
    types: Mapping[str, str]
    fixed: tuple[int | None, int | None, int | None]
    """Batch, height and width; None where a request may choose."""
    profile: Profile
    """Smallest, best and largest batch, height and width that all versions take."""
    max_batch_size: int
    """0 where requests cannot be batched."""
    sizes: tuple[tuple[int, int], ...]
    """Heights and widths to warm up at."""

    @property
    def newest(self) -> ModelSource:
        """An artifact of the last version."""
        return next(iter(self.versions[-1].values()))

    @property
    def engine_targets(self) -> list[BuiltFor]:
        """Targets of all engines."""
        return [one.engine for version in self.versions for one in version.values() if one.engine is not None]

    @property
    def smallest_batch(self) -> int:
        """The smallest batch that a request may have."""
        return self.profile[0][0]

    @property
    def signature(self) -> Signature:
        """Inputs and outputs of all versions."""
        return self.newest.artifact.signature

    @property
    def takes_timestep(self) -> bool:
        """True where the network takes a timestep."""
        return self.signature.takes_timestep


def read_model_source(path: Path) -> ModelSource:
    """Read an ONNX file, or an engine with its manifest beside it.

    Raises:
        GraphError: the file is neither, or not one of the graphs; or `bf16-not-supported` or `not-deployable`.
    """
    _refuse_rtx(path)
    artifact = artifact_from_path(path)
    if artifact.stacked is not None:
        problem = "takes both frames in one input; expected img0, img1 and timestep: export it with --layout pair"
        raise GraphError.about(path, "not-deployable", problem)
    signature = artifact.signature
    names = signature.input_names + signature.output_names
    if meant_as_engine(path):
        manifest = read_engine_manifest(path)
        key = engine_details(manifest.details).key
        target = BuiltFor(
            tensorrt=key.tensorrt,
            gpu=key.gpu,
            compute_capability=key.compute_capability,
            version_compatible=key.options.get("version_compatible") is True,
            profiles=len(key.profiles),
        )
        types = manifest.signature["types"]
        return ModelSource(
            path=path, artifact=artifact, types={name: _TYPES[types[name]] for name in names}, engine=target
        )
    if artifact.precision == "bf16":
        problem = "holds BF16, which ONNX Runtime has no kernels for on a CPU and few on a GPU; expected FP32 or FP16"
        raise GraphError.about(path, "bf16-not-supported", f"{problem}: build an engine of it, or lower it to FP16")
    model = model_from_file(path)
    types = io_description(model)["types"]
    return ModelSource(
        path=path,
        artifact=artifact,
        types={name: _TYPES[types[name]] for name in names},
        external_data=tuple(external_files(model, path.parent)),
    )


def _refuse_rtx(path: Path) -> None:
    """Refuse an engine of TensorRT for RTX by its first bytes, whatever its manifest says."""
    if not seems_engine(path) or engine_header(engine_bytes(path), path).library != "rtx":
        return
    problem = "is an engine of TensorRT for RTX, which Triton has no backend for; deploy the ONNX file that it was "
    problem += "built from"
    source = None
    with suppress(EngineError):
        source = read_engine_manifest(path).inputs.get("source")
        problem += f", {source}"
    raise GraphError.about(path, "not-deployable", problem, source=source)


def network_models(sources: Sequence[ModelSource], options: TritonOptions) -> list[NetworkModel]:
    """Return one model for each graph, in the order of `SIGNATURES`.

    Several files of one graph are its versions 1, 2, ... in the order given; engines for GPUs of different compute
    capability are one version, in which each GPU takes its own.

    Raises:
        RequestError: files that cannot be served together, or options that do not fit them.
    """
    seen: dict[str, ModelSource] = {}
    for source in sources:
        other = seen.setdefault(source.artifact.sha256, source)
        if other is not source:
            raise RequestError(
                f"{source.path} is the same file as {other.path}; give each file once", code="duplicate-artifact"
            )
    _check_engines(sources, options)
    groups = {graph: [one for one in sources if one.artifact.graph == graph] for graph in SIGNATURES}
    return [_network_model(graph, group, options) for graph, group in groups.items() if group]


def _check_engines(sources: Sequence[ModelSource], options: TritonOptions) -> None:
    """Refuse engines on a CPU or the python backend, and engines of several TensorRT versions for one server."""
    by_tensorrt: dict[str, Path] = {}
    for source in sources:
        if source.engine is None:
            continue
        advice = "give the ONNX file, or leave the option out"
        if options.backend == "python":
            problem = f"is an engine, and backend is python; {advice}"
            raise RequestError.about(source.path, "engine-needs-tensorrt-backend", problem)
        if options.device == "cpu":
            problem = f"is an engine, and device is cpu; {advice}"
            raise RequestError.about(source.path, "engine-needs-gpu", problem)
        by_tensorrt.setdefault(source.engine.tensorrt, source.path)
    if len(by_tensorrt) > 1:
        versions = ", ".join(f"{path} for {version}" for version, path in by_tensorrt.items())
        raise RequestError(
            f"the engines are built for several TensorRT versions ({versions}), and a server has one; build them with "
            f"the same, or {_SEPARATE}",
            code="tensorrt-versions-differ",
            versions=tuple(by_tensorrt),
        )


def _network_model(graph: GraphName, sources: Sequence[ModelSource], options: TritonOptions) -> NetworkModel:
    first = sources[0]
    for other in sources[1:]:
        _check_same_interface(graph, first, other)
    versions, engine_by_capability = _versions(sources)
    if options.version_policy.isdecimal() and int(options.version_policy) > len(versions):
        raise RequestError(
            f"version_policy is {options.version_policy}, and {graph} has {len(versions)} versions; expected one of "
            "them, latest or all",
            code="no-such-version",
        )
    profile = _common_profile(graph, sources)
    return NetworkModel(
        graph=graph,
        backend="tensorrt" if first.engine else "onnxruntime" if options.backend == "auto" else "python",
        versions=versions,
        engine_by_capability=engine_by_capability,
        types=first.types,
        fixed=first.artifact.fixed,
        profile=profile,
        max_batch_size=_max_batch_size(graph, first, profile, options),
        sizes=_warm_up_sizes(graph, first, profile, options),
    )


def _check_same_interface(graph: GraphName, first: ModelSource, other: ModelSource) -> None:
    """Versions of a model share its config."""
    for what, one, two in (
        ("backends", first.engine is None, other.engine is None),
        ("types", first.types, other.types),
        ("sizes", first.artifact.fixed, other.artifact.fixed),
        ("paddings", first.artifact.multiple_of, other.artifact.multiple_of),
        ("profiles", bool(first.artifact.profile), bool(other.artifact.profile)),
    ):
        if one != two:
            raise RequestError(
                f"{first.path} and {other.path} are both {graph}, with different {what} ({first.artifact.sizes} and "
                f"{other.artifact.sizes}); expected the same inputs, outputs and backend in all versions of a model: "
                f"{_SEPARATE}",
                code="versions-differ",
                graph=graph,
                what=what,
            )


def _versions(
    sources: Sequence[ModelSource],
) -> tuple[tuple[Mapping[str, ModelSource], ...], Mapping[str, str]]:
    """Return the files of each version, and the engine of each compute capability where one version has several."""
    capabilities = [source.engine.compute_capability for source in sources if source.engine is not None]
    different = len(set(capabilities))
    if 1 < different == len(sources):
        names = {capability: f"model.sm{capability.replace('.', '')}.plan" for capability in sorted(capabilities)}
        by_name = {names[one]: source for one, source in zip(capabilities, sources, strict=True)}
        return ({name: by_name[name] for name in names.values()},), names
    if different > 1:
        raise RequestError(
            f"{len(sources)} engines are given, for the GPUs {', '.join(capabilities)}; expected one for each GPU, or "
            f"versions for one GPU: {_SEPARATE}",
            code="gpus-ambiguous",
        )
    name = PLAN_FILE if capabilities else ONNX_FILE
    return tuple({name: source} for source in sources), {}


def _common_profile(graph: GraphName, sources: Sequence[ModelSource]) -> Profile:
    """Return what all versions take: from the largest of their minima to the smallest of their maxima."""
    profiles = [source.artifact.profile or _profile_of_file(source.artifact) for source in sources]
    low = tuple(map(max, zip(*(profile[0] for profile in profiles), strict=True)))
    high = tuple(map(min, zip(*(profile[2] for profile in profiles), strict=True)))
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise RequestError(
            f"the engines of {graph} have no size in common; build them with profiles that overlap",
            code="no-common-profile",
        )
    best = tuple(min(max(a, b), c) for a, b, c in zip(low, profiles[0][1], high, strict=True))
    return cast("Profile", (low, best, high))


def _profile_of_file(artifact: Artifact) -> Profile:
    """Return the sizes that an ONNX file, or an engine of fixed sizes, takes."""
    batch, height, width = artifact.fixed
    low = (batch or 1, height or artifact.multiple_of, width or artifact.multiple_of)
    return low, low, (batch or MAX_BATCH, height or LARGEST_SIDE, width or LARGEST_SIDE)


def _max_batch_size(graph: GraphName, first: ModelSource, profile: Profile, options: TritonOptions) -> int:
    """Return `max_batch_size`: 0 where the artifact does not take a single pair, because Triton's batches do."""
    smallest, largest = profile[0][0], profile[2][0]
    if first.artifact.fixed[0] is not None or smallest > 1:
        if options.max_batch not in (None, 1):
            raise RequestError(
                f"max_batch is {options.max_batch}, and {graph} takes batches of {smallest} to {largest} as they are "
                "sent; leave it out, or give an artifact that takes 1 and more",
                code="batch-not-supported",
            )
        return 0
    chosen = options.max_batch or (DEFAULT_BATCH if first.engine is None else largest)
    if chosen > largest:
        message = f"max_batch is {chosen}; expected 1 to {largest}, which {graph} takes"
        raise RequestError(message, code="batch-not-supported")
    return chosen


def _warm_up_sizes(
    graph: GraphName, first: ModelSource, profile: Profile, options: TritonOptions
) -> tuple[tuple[int, int], ...]:
    """Return the sizes that were asked for, which have to fit; else the defaults that fit, or the profile's best."""
    (_, *low), (_, *best), (_, *high) = profile
    _, height, width = first.artifact.fixed
    unit = first.artifact.multiple_of
    sizes = dict.fromkeys(fitting_size(text, unit) for text in options.sizes)
    defaults = (fitting_size(text, unit, default=True) for text in DEFAULT_SIZES)
    wanted = sizes or {(height or size[0], width or size[1]): None for size in defaults}
    fitting = [size for size in wanted if all(a <= side <= b for a, side, b in zip(low, size, high, strict=True))]
    if len(fitting) < len(sizes):
        wrong = next(size for size in sizes if size not in fitting)
        raise RequestError(
            f"size {size_text(wrong)} is asked for, and {graph} takes {size_text(low)} to {size_text(high)}: leave it "
            "out, or give another artifact",
            code="size-not-supported",
            size=wrong,
        )
    return tuple(fitting) or ((best[0], best[1]),)
