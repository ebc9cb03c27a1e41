"""Rules on TensorRT engines, checked without TensorRT or a GPU: header, manifest, profiles, and intended GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.deploy.preflight.findings import RepositoryFinding
from refine_export.deploy.preflight.repository_reader import Model
from refine_export.deploy.preflight.rules_config import full_dims
from refine_export.deploy.triton.releases import Release, releases_with
from refine_export.engine.engine_manifest import engine_description
from refine_export.engine.machine import numbers_of
from refine_export.errors import EngineError
from refine_export.support.manifest import manifest_path

Shapes = Mapping[str, Sequence[Sequence[int]]]
"""A profile: input -> its smallest, best and largest shape."""


@dataclass(frozen=True, kw_only=True)
class ServedEngine:
    """An engine as its header and its manifest describe it."""

    where: str
    """Its path in findings, such as `1/model.plan`."""
    tensorrt: str
    manifest_problem: str | None
    """Why the manifest cannot be used; the fields below are then empty."""
    capability: str
    """Compute capability that it was built for, such as `9.0`."""
    ampere_plus: bool
    """It runs on every capability from 8.0 on."""
    version_compatible: bool
    profiles: Sequence[Shapes]

    def runs_on(self, release: Release) -> bool | None:
        """Return whether a release of Triton runs it; None where that is not known."""
        return release.runs(self.tensorrt, version_compatible=self.version_compatible)


def served_engine(path: Path, where: str) -> ServedEngine:
    """Read an engine's header and manifest.

    Raises:
        EngineError: it is not an engine.
    """
    described = engine_description(path)
    key: Mapping[str, Any] = described.get("key", {})
    options = key.get("options", {})
    return ServedEngine(
        where=where,
        tensorrt=str(key.get("tensorrt") or described["tensorrt"]),
        manifest_problem=None if key else str(described["manifest"]),
        capability=str(key.get("compute_capability", "")),
        ampere_plus=options.get("hardware_compatibility") == "ampere_plus",
        version_compatible=options.get("version_compatible") is True,
        profiles=key.get("profiles", ()),
    )


def check_engines(model: Model, release: Release | None) -> Iterator[RepositoryFinding]:
    """Check each engine; whether Triton's TensorRT fits is checked only for a known release."""
    for path in model.readable_files() if model.backend == "tensorrt" else ():
        where = model.where(path)
        try:
            engine = served_engine(path, where)
        except EngineError as error:
            yield model.found("plan-file", where, str(error))
            continue
        if release is not None and numbers_of(engine.tensorrt):
            yield from _check_release(model, engine, release)
        if engine.manifest_problem is None:
            yield from _check_gpu(model, path.name, engine)
            yield from _check_profiles(model, where, engine.profiles)
        elif manifest_path(path).exists():
            yield model.found("plan-manifest", f"{where}.json", engine.manifest_problem)
        else:
            yield model.found("plan-unknown", where, f"there is no {path.name}.json beside it")


def _check_release(model: Model, engine: ServedEngine, release: Release) -> Iterator[RepositoryFinding]:
    runs = engine.runs_on(release)
    known = f"Triton {release.name} has TensorRT {release.tensorrt or '(not known)'}"
    message = f"built by TensorRT {engine.tensorrt}; {known}"
    if runs is False:
        fitting = ", ".join(one.name for one in releases_with(engine.tensorrt)) or "none that is known"
        yield model.found("plan-release", engine.where, f"{message}; releases that fit: {fitting}")
    elif runs is None:
        yield model.found("plan-release-unknown", engine.where, message)


def _check_gpu(model: Model, name: str, engine: ServedEngine) -> Iterator[RepositoryFinding]:
    for capability in model.capabilities:
        if model.config.cc_model_filenames[capability] != name:
            continue
        field = f"cc_model_filenames {capability!r}"
        if not re.fullmatch(r"[0-9]{1,2}\.[0-9]", capability):
            yield model.in_config("plan-gpu", field, 'it is not a compute capability; expected one such as "8.9"')
        elif capability != engine.capability and not (engine.ampere_plus and float(capability) >= 8):
            message = f"{engine.where} was built for compute capability {engine.capability}"
            yield model.in_config("plan-gpu", field, message)


def _check_profiles(model: Model, where: str, profiles: Sequence[Shapes]) -> Iterator[RepositoryFinding]:
    count = max(1, len(profiles))  # an engine of fixed sizes has one, which a manifest leaves out
    fields = [(f"instance_group {at}", group.profile) for at, group in enumerate(model.config.instance_group)]
    for field, given in fields or [("instance_group", [])]:
        # Without a profile an instance takes the first; Triton refuses what is not a number.
        numbers = [int(number) for number in given or ["0"] if re.fullmatch(r"[0-9]{1,9}", number)]
        for number in numbers:
            if number >= count:
                yield model.in_config("plan-profile", field, f"profile {number}; {where} has {count}, counted from 0")
        used = {number: profiles[number] for number in numbers if number < len(profiles)}
        for number, profile in used.items():
            yield from _check_sizes(model, f"{where}: profile {number}", profile)
        yield from _check_warm_ups(model, where, list(used.values()))


def _check_sizes(model: Model, where: str, profile: Shapes) -> Iterator[RepositoryFinding]:
    largest = model.config.max_batch_size
    for tensor in model.config.input:
        if tensor.name not in profile:
            continue
        low, _, high = profile[tensor.name]
        if model.batched and not low[0] <= 1 <= largest <= high[0]:
            message = f"max_batch_size is {largest}; {where} takes batches from {low[0]} to {high[0]}"
            yield model.in_config("plan-profile", "max_batch_size", message)
        dims = full_dims(tensor, model)
        if _is_outside(dims, low, high):
            message = f"dims are {list(dims)}; {where} takes {list(low)} to {list(high)}"
            yield model.in_config("plan-profile", f"input {tensor.name!r}", message)


def _check_warm_ups(model: Model, where: str, used: Sequence[Shapes]) -> Iterator[RepositoryFinding]:
    """Each sample has to fit one of the profiles that an instance uses."""
    for sample in model.config.model_warmup:
        for name, given in sample.inputs.items():
            shape = (*([sample.batch_size or 1] if model.batched else []), *given.dims)
            ranges = [(profile[name][0], profile[name][2]) for profile in used if name in profile]
            if ranges and all(_is_outside(shape, low, high) for low, high in ranges):
                low, high = ranges[0]
                message = f"{list(shape)}; {where} takes {list(low)} to {list(high)}"
                yield model.in_config("plan-profile", f"model_warmup {sample.name}: {name!r}", message)


def _is_outside(dims: Sequence[int], low: Sequence[int], high: Sequence[int]) -> bool:
    """Return whether dims of the profile's rank leave its range; Triton refuses another rank."""
    return len(dims) == len(low) and any(
        dim != -1 and not a <= dim <= b for dim, a, b in zip(dims, low, high, strict=True)
    )
