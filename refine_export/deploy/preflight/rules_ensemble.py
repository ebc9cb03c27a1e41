"""Rules on ensembles: steps, the tensors between them, and the models they are made of.

As BuildEnsembleGraph and ValidateEnsembleConfig of Triton's core have them (src/model_config_utils.cc and
src/ensemble_utils.cc), and stricter in one place: they take [4] for [N, 4] where one side has a batch and the other has
not, and requests fail then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refine_export.deploy.preflight.repository_reader import Model
from refine_export.deploy.preflight.rules_config import full_dims, type_name
from refine_export.deploy.preflight.rules_text import Finding
from refine_export.deploy.triton.names import CONFIG_FILE


@dataclass(frozen=True)
class _End:
    """One side of a tensor: what it is there."""

    model: str
    type: int
    dims: tuple[int, ...]
    """With the batch in front, where there is one."""


def check_ensemble(model: Model, models: Mapping[str, Model], folders: Sequence[str]) -> Iterator[Finding]:
    """All of these.

    Args:
        model: of any platform.
        models: of the repository, those whose config could be read.
        folders: names of all models.
    """
    steps = list(model.config.ensemble_scheduling.step)
    if model.backend != "ensemble":
        if model.config.HasField("ensemble_scheduling"):
            yield model.found("ensemble", f"{CONFIG_FILE}: ensemble_scheduling", 'platform is not "ensemble"')
        return
    yield from _form(model, steps)
    yield from _flow(model, steps)
    ends: dict[str, list[_End]] = {}
    for kind in (model.config.input, model.config.output):
        for tensor in kind:
            ends.setdefault(tensor.name, []).append(_end(model, tensor))
    for number, step in enumerate(steps):
        where = f"{CONFIG_FILE}: step {number} ({step.model_name})"
        yield from _step_model(model, step, where, models, folders)
        if (part := models.get(step.model_name)) is not None:
            yield from _mapped(model, step, where, part)
            for name, end in _ends_of(step, part):
                ends.setdefault(name, []).append(end)
    for name in sorted({step.model_name for step in steps}):
        if _reaches(name, model.name, models):
            message = f"{name!r} leads back to {model.name!r}"
            yield model.found("ensemble-model", f"{CONFIG_FILE}: ensemble_scheduling", message)
    for name, sides in ends.items():
        yield from _agree(model, name, sides)


def _form(model: Model, steps: Sequence[Any]) -> Iterator[Finding]:
    if not steps:
        yield model.found("ensemble", f"{CONFIG_FILE}: ensemble_scheduling", "it has no steps")
    given = {
        "instance_group": bool(model.config.instance_group),
        "optimization": model.config.HasField("optimization"),
        "model_warmup": bool(model.config.model_warmup),
    }
    for field in (name for name, there in given.items() if there):
        yield model.found("ensemble", f"{CONFIG_FILE}: {field}", "an ensemble has none")


def _flow(model: Model, steps: Sequence[Any]) -> Iterator[Finding]:
    """Every tensor is written once, before it is read, and read by something."""
    where = f"{CONFIG_FILE}: ensemble_scheduling"
    inputs = {tensor.name for tensor in model.config.input}
    outputs = {tensor.name for tensor in model.config.output}
    written, read = set(inputs), {name for step in steps for name in step.input_map.values()}
    for step in steps:
        for name in step.output_map.values():
            if name in written:
                yield model.found("ensemble-tensor", where, f"{name!r} is written more than once")
            written.add(name)
    for name in sorted((read | outputs) - written):
        yield model.found("ensemble-tensor", where, f"{name!r} is read, and nothing writes it")
    for name in sorted(written - read - outputs):
        yield model.found("ensemble-tensor", where, f"{name!r} is written, and nothing reads it")
    for step in _stuck(steps, inputs, written):
        yield model.found("ensemble-tensor", where, f"the step {step.model_name!r} waits for its own output")


def _stuck(steps: Sequence[Any], inputs: set[str], written: set[str]) -> list[Any]:
    """The steps that can never run, though something writes each of their inputs."""
    missing = [set(step.input_map.values()) & written - inputs for step in steps]
    readers: dict[str, list[int]] = {}
    for number, names in enumerate(missing):
        for name in names:
            readers.setdefault(name, []).append(number)
    ready = [number for number, names in enumerate(missing) if not names]
    ran = set(ready)
    while ready:
        for name in steps[ready.pop()].output_map.values():
            for number in readers.pop(name, []):
                missing[number].discard(name)
                if not missing[number] and number not in ran:
                    ran.add(number)
                    ready.append(number)
    return [step for number, step in enumerate(steps) if number not in ran]


def _step_model(
    model: Model, step: Any, where: str, models: Mapping[str, Model], folders: Sequence[str]
) -> Iterator[Finding]:
    name, version = step.model_name, step.model_version
    if step.model_namespace:
        return
    if name not in folders:
        yield model.found("ensemble-model", where, f"there is no model {name!r} in the repository")
    elif name in models and version not in (-1, *models[name].versions):
        there = ", ".join(map(str, models[name].versions)) or "none"
        yield model.found("ensemble-model", where, f"version {version} of {name!r} is not served; there is {there}")


def _reaches(start: str, goal: str, models: Mapping[str, Model]) -> bool:
    seen, open_ = set(), [start]
    while open_:
        name = open_.pop()
        if name == goal:
            return True
        if name not in seen and name in models:
            seen.add(name)
            open_ += [step.model_name for step in models[name].config.ensemble_scheduling.step]
    return False


def _mapped(model: Model, step: Any, where: str, part: Model) -> Iterator[Finding]:
    """The step's maps name the model's own tensors; each input that is not optional has one; the batch fits."""
    largest, wanted = part.config.max_batch_size, model.config.max_batch_size
    if 0 < largest < wanted:
        message = f"max_batch_size is {largest}, the ensemble's {wanted}"
        yield model.found("batch-size", where, message)
    for kind, given, tensors in (
        ("input", step.input_map, part.config.input),
        ("output", step.output_map, part.config.output),
    ):
        known = [tensor.name for tensor in tensors]
        for name in sorted(set(given) - set(known)):
            there = ", ".join(known) or "(none)"
            yield model.found("ensemble-tensor", where, f"{part.name} has no {kind} {name!r}; it has {there}")
    for tensor in part.config.input:
        if tensor.name not in step.input_map and not tensor.optional:
            yield model.found("ensemble-tensor", where, f"the input {tensor.name!r} of {part.name} is not mapped")


def _end(model: Model, tensor: Any) -> _End:
    return _End(model.name, tensor.data_type, full_dims(tensor, model.config.max_batch_size > 0))


def _ends_of(step: Any, part: Model) -> Iterator[tuple[str, _End]]:
    """The ensemble's tensors as a step's model has them; a reshape is that model's own affair."""
    batched = part.config.max_batch_size > 0
    for given, tensors in ((step.input_map, part.config.input), (step.output_map, part.config.output)):
        for tensor in tensors:
            if tensor.name in given:
                dims = (*([-1] if batched else []), *tensor.dims)
                yield given[tensor.name], _End(part.name, tensor.data_type, dims)


def _agree(model: Model, name: str, sides: Sequence[_End]) -> Iterator[Finding]:
    first, *others = sides
    known = first.dims
    for other in others:
        where = f"{CONFIG_FILE}: tensor {name!r}"
        if first.type != other.type:
            message = f"{type_name(first.type)} in {first.model}, {type_name(other.type)} in {other.model}"
            yield model.found("ensemble-type", where, message)
        if len(known) != len(other.dims) or any(
            at != to and -1 not in (at, to) for at, to in zip(known, other.dims, strict=True)
        ):
            message = f"{list(known)} in {first.model}, {list(other.dims)} in {other.model}"
            yield model.found("ensemble-type", where, message)
        else:
            known = tuple(max(at, to) for at, to in zip(known, other.dims, strict=True))
