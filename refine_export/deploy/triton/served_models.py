"""Sources to models: files of one graph become versions of one model, with the limits that all of them keep.

networks = networks_from_sources([read_source(path, None) for path in paths], options)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from refine_export.artifacts import Sizes
from refine_export.deploy.triton.deploy_options import (
    DEFAULT_BATCH,
    DEFAULT_SIZES,
    MOST_BATCH,
    TritonOptions,
    size_from_text,
)
from refine_export.deploy.triton.names import ONNX_FILE, PLAN_FILE, Backend
from refine_export.deploy.triton.served_artifacts import BuiltFor, Source
from refine_export.errors import RequestError
from refine_export.signature import LARGEST_SIDE, SIGNATURES, GraphName


@dataclass(frozen=True, kw_only=True)
class Network:
    """A model of a repository, with all its versions."""

    graph: GraphName
    backend: Backend
    versions: tuple[Mapping[str, Source], ...]
    """From version 1 on: name of a file in its folder -> what it is."""
    by_capability: Mapping[str, str]
    """Compute capability -> name of its plan; where there is but one plan, nothing."""
    types: Mapping[str, str]
    fixed: tuple[int | None, int | None, int | None]
    """Batch, height and width; None where requests may choose."""
    profile: tuple[Sizes, Sizes, Sizes] | None
    """What every plan takes."""
    largest_batch: int
    """`max_batch_size`: 0 where requests can't be joined."""
    sizes: tuple[tuple[int, int], ...]
    """That ship: height and width."""

    @property
    def newest(self) -> Source:
        """An artifact of the last version."""
        return next(iter(self.versions[-1].values()))

    @property
    def plans(self) -> list[BuiltFor]:
        """What the plans are built for."""
        return [one.built_for for version in self.versions for one in version.values() if one.built_for is not None]


def networks_from_sources(sources: Sequence[Source], options: TritonOptions) -> list[Network]:
    """One model for each graph, in the order of `SIGNATURES`.

    Several files of one graph are its versions 1, 2, … in the order given; plans for GPUs of different compute
    capability are one version, in which each GPU takes its own.

    Raises:
        RequestError: files that can't be served together, or options that do not fit them.
    """
    seen: dict[str, Source] = {}
    for source in sources:
        other = seen.setdefault(source.artifact.sha256, source)
        if other is not source:
            raise RequestError(f"{source.path} is the same file as {other.path}; give each file once")
    _check_plans([source for source in sources if source.built_for is not None], options)
    groups = {graph: [one for one in sources if one.artifact.graph == graph] for graph in SIGNATURES}
    return [_network(graph, group, options) for graph, group in groups.items() if group]


def _check_plans(plans: Sequence[Source], options: TritonOptions) -> None:
    """One server has one TensorRT, and runs plans on GPUs alone."""
    if plans and options.backend == "python":
        raise RequestError(f"{plans[0].path} is an engine, which the python backend can't serve; give the ONNX file")
    if plans and options.device == "cpu":
        raise RequestError(f"{plans[0].path} is an engine, and device is cpu; expected a GPU, or give the ONNX file")
    versions: dict[str, Source] = {}
    for plan in plans:
        assert plan.built_for is not None
        versions.setdefault(plan.built_for.tensorrt, plan)
    if len(versions) > 1:
        said = ", ".join(f"{plan.path} for {version}" for version, plan in versions.items())
        raise RequestError(
            f"the engines are built for several TensorRT versions ({said}), and a server has one; build them with the "
            "same, or make a repository for each"
        )


def _network(graph: GraphName, sources: Sequence[Source], options: TritonOptions) -> Network:
    first = sources[0]
    for other in sources[1:]:
        _check_alike(graph, first, other)
    backend: Backend = "tensorrt" if first.built_for else "onnxruntime" if options.backend == "auto" else "python"
    versions, by_capability = _versions(sources)
    if options.version_policy.isdecimal() and int(options.version_policy) > len(versions):
        raise RequestError(
            f"version_policy is {options.version_policy}, and {graph} has {len(versions)} versions; expected one of "
            "them, latest or all"
        )
    profile = _common_profile(graph, sources)
    fixed = first.artifact.fixed
    largest = _largest_batch(graph, fixed[0], profile, options)
    return Network(
        graph=graph,
        backend=backend,
        versions=versions,
        by_capability=by_capability,
        types=first.types,
        fixed=fixed,
        profile=profile,
        largest_batch=largest,
        sizes=tuple(dict.fromkeys(_sizes(graph, fixed, profile, options))),
    )


def _check_alike(graph: GraphName, first: Source, other: Source) -> None:
    """Versions of a model share its config."""
    both = f"{first.path} and {other.path} are both {graph}"
    if (first.built_for is None) != (other.built_for is None):
        raise RequestError(
            f"{both}, one an engine and one ONNX; expected one kind, because the versions of a model share a backend: "
            "make a repository for each"
        )
    for what, one, two in (
        ("types", first.types, other.types),
        ("sizes", first.artifact.fixed, other.artifact.fixed),
        ("profiles", bool(first.artifact.profile), bool(other.artifact.profile)),
    ):
        if one != two:
            shown = f"{first.artifact.sizes} and {other.artifact.sizes}" if what != "types" else f"{one} and {two}"
            raise RequestError(
                f"{both}, of different {what} ({shown}); expected the same inputs and outputs in all versions of a "
                "model: make a repository for each"
            )


def _versions(sources: Sequence[Source]) -> tuple[tuple[Mapping[str, Source], ...], Mapping[str, str]]:
    built_for = [source.built_for for source in sources]
    capabilities = [one.compute_capability for one in built_for if one is not None]
    if len(sources) > 1 and len(set(capabilities)) == len(sources):
        names = {capability: f"model.sm{capability.replace('.', '')}.plan" for capability in sorted(capabilities)}
        files = {names[one.compute_capability]: source for source, one in zip(sources, built_for, strict=True) if one}
        return ({name: files[name] for name in names.values()},), names
    if 1 < len(set(capabilities)) < len(sources):
        raise RequestError(
            f"{len(sources)} engines are given, for the GPUs {', '.join(capabilities)}; expected one for each GPU, or "
            "versions for one GPU alone: make a repository for each version"
        )
    name = PLAN_FILE if capabilities else ONNX_FILE
    return tuple({name: source} for source in sources), {}


def _common_profile(graph: GraphName, sources: Sequence[Source]) -> tuple[Sizes, Sizes, Sizes] | None:
    """What all take: the largest of the smallest sizes to the smallest of the largest."""
    profiles = [source.artifact.profile for source in sources if source.artifact.profile]
    if not profiles:
        return None
    low = cast("Sizes", tuple(max(sizes) for sizes in zip(*(profile[0] for profile in profiles), strict=True)))
    high = cast("Sizes", tuple(min(sizes) for sizes in zip(*(profile[2] for profile in profiles), strict=True)))
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise RequestError(f"the engines of {graph} have no size in common; build them with profiles that overlap")
    best = cast("Sizes", tuple(min(max(a, b), c) for a, b, c in zip(low, profiles[0][1], high, strict=True)))
    return low, best, high


def _largest_batch(
    graph: GraphName, fixed: int | None, profile: tuple[Sizes, Sizes, Sizes] | None, options: TritonOptions
) -> int:
    """`max_batch_size`; Triton's counts from 1, so what takes no single pair has none."""
    smallest, largest = (profile[0][0], profile[2][0]) if profile else (fixed or 1, fixed or MOST_BATCH)
    if fixed is not None or smallest > 1:
        if options.max_batch not in (None, 1):
            takes = fixed or f"{smallest} to {largest}"
            raise RequestError(
                f"max_batch is {options.max_batch}, and {graph} takes batches of {takes} as they are sent; leave it "
                "out, or give a file or an engine that takes 1 and more"
            )
        return 0
    if options.max_batch is not None and options.max_batch > largest:
        raise RequestError(f"max_batch is {options.max_batch}, and the engine of {graph} takes at most {largest}")
    if wrong := [size for size in options.preferred if not 1 <= size <= (options.max_batch or largest)]:
        raise RequestError(f"preferred batch {wrong[0]}; expected 1 to {options.max_batch or largest}, for {graph}")
    return options.max_batch or (largest if profile else DEFAULT_BATCH)


def _sizes(
    graph: GraphName,
    fixed: tuple[int | None, int | None, int | None],
    profile: tuple[Sizes, Sizes, Sizes] | None,
    options: TritonOptions,
) -> Iterator[tuple[int, int]]:
    """Those asked for must fit; of the defaults those that do, else the profile's best."""
    low, best, high = profile or ((1, 1, 1), (1, 1, 1), (MOST_BATCH, LARGEST_SIDE, LARGEST_SIDE))
    found = False
    for text in options.sizes or DEFAULT_SIZES:
        height, width = size_from_text(text)
        if not options.sizes:
            height, width = fixed[1] or height, fixed[2] or width
        fits = low[1] <= height <= high[1] and low[2] <= width <= high[2]
        if fits and (height, width) == (fixed[1] or height, fixed[2] or width):
            found = True
            yield height, width
        elif options.sizes:
            takes = (
                f"{low[1]}x{low[2]} to {high[1]}x{high[2]}" if profile else f"{fixed[1] or 'any'}x{fixed[2] or 'any'}"
            )
            raise RequestError(f"size {text}; {graph} takes {takes}: leave it out, or give another file")
    if not found:
        yield best[1], best[2]
