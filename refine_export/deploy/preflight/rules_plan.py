"""Rules on TensorRT plans: header, manifest, profiles, and where they are to run; without TensorRT and a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from refine_export.deploy.preflight.repository_reader import MODEL_BYTES, Model, unreadable
from refine_export.deploy.preflight.rules_config import full_dims
from refine_export.deploy.preflight.rules_files import capabilities, files_of
from refine_export.deploy.preflight.rules_tensors import Artifact, Tensor, compare
from refine_export.deploy.preflight.rules_text import Finding
from refine_export.deploy.triton.names import CONFIG_FILE
from refine_export.deploy.triton.releases import Release, releases_with
from refine_export.engine.machine import numbers_of
from refine_export.engine.plan import describe
from refine_export.errors import GraphError
from refine_export.support.manifest import manifest_path

Shapes = Mapping[str, Sequence[Sequence[int]]]
"""Of a profile: input -> its smallest, best and largest shape."""

_TYPES: Final = {"float": "TYPE_FP32", "float16": "TYPE_FP16"}
"""What tensors of the five graphs can be. A manifest that does not say which leaves both open."""


def check_plans(model: Model, release: Release | None) -> Iterator[Finding]:
    """All of these, for each plan.

    Args:
        model: of any backend; others than TensorRT have no plans.
        release: of Triton that is to run them; None to leave that out.
    """
    if model.backend != "tensorrt":
        return
    for folder in model.versions.values():
        for path in files_of(model, folder):
            if unreadable(path, model.root, MODEL_BYTES) is None:
                yield from _plan(model, path, release)


def _plan(model: Model, path: Path, release: Release | None) -> Iterator[Finding]:
    where = model.where(path)
    try:
        known = describe(path)
    except GraphError as error:
        yield model.found("plan-file", where, str(error))
        return
    key: Mapping[str, Any] = known.get("key", {})
    options = key.get("options", {})
    built_by = str(key.get("tensorrt") or known["tensorrt"])
    if release is not None and numbers_of(built_by):
        yield from _release(model, where, built_by, release, newer=options.get("version_compatible") is True)
    if not key:
        if manifest_path(path).exists():
            yield model.found("plan-manifest", f"{where}.json", str(known["manifest"]))
        else:
            yield model.found("plan-unknown", where, f"there is no {path.name}.json beside it")
        return
    yield from _gpu(model, path, str(key["compute_capability"]), str(options.get("hardware_compatibility")))
    shapes = _signature(known["signature"])
    profiles: list[Shapes] = key["profiles"]
    if shapes is None or not _consistent(shapes["inputs"], profiles):
        yield model.found("plan-manifest", f"{where}.json", "its signature and profiles are of no engine")
        return
    types = known["signature"].get("types")
    yield from compare(model, _artifact(where, shapes, types, known["details"].get("artifact")))
    yield from _profiles(model, where, profiles)


def runs_on(release: Release, built_by: str, *, version_compatible: bool) -> bool | None:
    """Whether a release runs a plan by its TensorRT; None where that is not known.

    Args:
        release: of Triton.
        built_by: the plan's TensorRT, such as `11.0.0.114`.
        version_compatible: whether it was built to run on newer ones too.
    """
    if version_compatible and release.tensorrt is not None:
        plan, there = numbers_of(built_by), numbers_of(release.tensorrt)
        digits = min(len(plan), len(there))
        if plan[:digits] != there[:digits]:
            return plan[:digits] < there[:digits]
        return plan <= there if len(there) >= len(plan) else None
    return release.runs(built_by)


def _release(model: Model, where: str, built_by: str, release: Release, *, newer: bool) -> Iterator[Finding]:
    runs = runs_on(release, built_by, version_compatible=newer)
    has = f"Triton {release.name} has TensorRT {release.tensorrt or '(not known here)'}"
    if runs is False:
        fitting = ", ".join(one.name for one in releases_with(built_by)) or "none that is known"
        message = f"built by TensorRT {built_by}; {has}; releases that fit: {fitting}"
        yield model.found("plan-release", where, message)
    elif runs is None:
        yield model.found("plan-release-unknown", where, f"built by TensorRT {built_by}; {has}")


def _gpu(model: Model, path: Path, built_for: str, compatibility: str) -> Iterator[Finding]:
    for capability in capabilities(model):
        if model.config.cc_model_filenames[capability] != path.name:
            continue
        where = f"{CONFIG_FILE}: cc_model_filenames {capability!r}"
        if not re.fullmatch(r"[0-9]{1,2}\.[0-9]", capability):
            yield model.found("plan-gpu", where, 'it is no compute capability; expected one such as "8.9"')
        elif capability != built_for and not (compatibility == "ampere_plus" and float(capability) >= 8):
            yield model.found("plan-gpu", where, f"{model.where(path)} was built for compute capability {built_for}")


def _signature(given: Any) -> dict[str, dict[str, list[int | str]]] | None:
    """Inputs and outputs with their shapes, if it has that form: nothing else has checked it."""
    if not isinstance(given, Mapping):
        return None
    sides = {side: given.get(side) for side in ("inputs", "outputs")}
    for shapes in sides.values():
        if not isinstance(shapes, Mapping):
            return None
        for shape in shapes.values():
            if not isinstance(shape, list) or not all(isinstance(size, int | str) for size in shape):
                return None
    return {side: dict(shapes) for side, shapes in sides.items() if shapes is not None}


def _consistent(inputs: Mapping[str, Sequence[int | str]], profiles: Sequence[Shapes]) -> bool:
    """Whether each profile has three shapes for some of the inputs, each of the input's rank."""
    return all(
        name in inputs and len(shapes) == 3 and all(len(shape) == len(inputs[name]) for shape in shapes)
        for profile in profiles
        for name, shapes in profile.items()
    )


def _artifact(
    where: str, shapes: Mapping[str, Mapping[str, Sequence[int | str]]], types: Any, made_of: Any
) -> Artifact:
    said = types if isinstance(types, Mapping) else {}
    fp32 = isinstance(made_of, Mapping) and made_of.get("precision") == "fp32"

    def type_of(name: str) -> tuple[str, ...]:
        told = said.get(name)
        if isinstance(told, str) and told in _TYPES:
            return (_TYPES[told],)
        return (_TYPES["float"],) if fp32 else tuple(_TYPES.values())

    def tensors(side: str) -> dict[str, Tensor]:
        return {
            name: Tensor(types=type_of(name), shape=tuple(size if isinstance(size, int) else None for size in shape))
            for name, shape in shapes[side].items()
        }

    return Artifact(where=where, inputs=tensors("inputs"), outputs=tensors("outputs"))


def _profiles(model: Model, where: str, profiles: Sequence[Shapes]) -> Iterator[Finding]:
    groups = list(model.config.instance_group)
    wanted = [(f"instance_group {at}", list(group.profile) or ["0"]) for at, group in enumerate(groups)]
    for place, numbers in wanted or [("instance_group", ["0"])]:
        at = [int(number) for number in numbers if re.fullmatch(r"[0-9]{1,9}", number)]
        for number in at:
            if number >= max(1, len(profiles)):
                message = f"profile {number}; {where} has {max(1, len(profiles))}, counted from 0"
                yield model.found("plan-profile", f"{CONFIG_FILE}: {place}", message)
        used = [profiles[number] for number in at if number < len(profiles)]
        for number, profile in enumerate(used):
            yield from _sizes(model, f"{where}: profile {at[number]}", profile)
        if used:
            yield from _warmups(model, where, used)


def _sizes(model: Model, where: str, profile: Shapes) -> Iterator[Finding]:
    batched = model.config.max_batch_size > 0
    for tensor in model.config.input:
        if tensor.name not in profile:
            continue
        low, _, high = profile[tensor.name]
        field = f"{CONFIG_FILE}: input {tensor.name!r}"
        dims = full_dims(tensor, batched)
        if batched and not low[0] <= 1 <= model.config.max_batch_size <= high[0]:
            largest = model.config.max_batch_size
            message = f"max_batch_size is {largest}; {where} takes batches from {low[0]} to {high[0]}"
            yield model.found("plan-profile", f"{CONFIG_FILE}: max_batch_size", message)
        if len(dims) == len(low) and _outside(dims, low, high):
            yield model.found(
                "plan-profile", field, f"dims are {list(dims)}; {where} takes {list(low)} to {list(high)}"
            )


def _warmups(model: Model, where: str, used: Sequence[Shapes]) -> Iterator[Finding]:
    """Each sample fits one of the profiles that an instance has."""
    batched = model.config.max_batch_size > 0
    for sample in model.config.model_warmup:
        for name, given in sample.inputs.items():
            shape = (*([sample.batch_size or 1] if batched else []), *given.dims)
            ranges = [(profile[name][0], profile[name][2]) for profile in used if name in profile]
            if ranges and all(len(shape) == len(low) and _outside(shape, low, high) for low, high in ranges):
                low, high = ranges[0]
                message = f"{list(shape)}; {where} takes {list(low)} to {list(high)}"
                yield model.found("plan-profile", f"{CONFIG_FILE}: model_warmup {sample.name}: {name!r}", message)


def _outside(dims: Sequence[int], low: Sequence[int], high: Sequence[int]) -> bool:
    return any(dim != -1 and not at <= dim <= to for dim, at, to in zip(dims, low, high, strict=True))
