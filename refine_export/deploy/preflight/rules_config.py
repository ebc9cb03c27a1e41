"""Rules on configs: what Triton's core accepts (src/model_config_utils.cc) and then does wrong.

Triton checks ensembles itself (BuildEnsembleGraph there, ValidateEnsembleConfig in src/ensemble_utils.cc), but accepts
[4] for [N, 4] where one side has a batch and the other has not, and then requests fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refine_export.deploy.preflight.findings import RepositoryFinding
from refine_export.deploy.preflight.repository_reader import MODEL_FILES, PLATFORMS, Model

_End = tuple[str, str, tuple[int, ...]]
"""One side of a tensor: model, data type, and dims with the batch in front where there is one."""


def check_config(model: Model) -> Iterator[RepositoryFinding]:
    """Check backend, tensors, batching, instances, features that our clients lack, accelerators and warm-up."""
    config = model.config
    if model.backend not in (*MODEL_FILES, "ensemble"):
        yield model.in_config("backend-unknown", "backend", f"backend {model.backend!r}, platform {config.platform!r}")
    if config.backend and config.platform and config.backend not in (config.platform, PLATFORMS.get(config.platform)):
        yield model.in_config("backend", "platform", f"platform {config.platform!r} with backend {config.backend!r}")
    for kind, tensors in (("input", config.input), ("output", config.output)):
        for name, count in Counter(tensor.name for tensor in tensors).items():
            if count > 1:
                yield model.in_config("tensors", kind, f"{count} {kind}s have the name {name!r}")
    if config.HasField("dynamic_batching") and not model.batched:
        yield model.in_config("dynamic-batching", "dynamic_batching", f"max_batch_size is {config.max_batch_size}")
    for number, group in enumerate(config.instance_group):
        if group.count < 0:
            yield model.in_config("instance-group", f"instance_group {number}", f"count is {group.count}")
    if config.response_cache.enable:
        yield model.in_config("response-cache", "response_cache", "it is on")
    if config.HasField("sequence_batching"):
        yield model.in_config("not-served", "sequence_batching", "the model keeps state from request to request")
    if config.model_transaction_policy.decoupled:
        yield model.in_config("not-served", "model_transaction_policy", "a request can have many answers, or none")
    for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator:
        mode = accelerator.parameters.get("precision_mode", "FP32")
        if accelerator.name == "tensorrt" and mode.upper() != "FP32":
            field = "optimization: gpu_execution_accelerator tensorrt"
            yield model.in_config("accelerator-fp16", field, f"precision_mode is {mode!r}")
    for number, sample in enumerate(config.model_warmup):
        yield from _warm_up(model, sample, f"model_warmup {sample.name or number!r}")


def _warm_up(model: Model, sample: Any, field: str) -> Iterator[RepositoryFinding]:
    largest = max(1, model.config.max_batch_size)
    if not 1 <= sample.batch_size <= largest:
        message = f"batch_size is {sample.batch_size or '0, or left out'}; expected 1 to {largest}"
        yield model.in_config("warmup-batch", field, message)
    for tensor in model.config.input:
        if tensor.name not in sample.inputs:
            continue  # Triton refuses it, with the reason
        given = sample.inputs[tensor.name]
        where = f"{field}: {tensor.name!r}"
        if given.data_type != tensor.data_type:
            message = f"{_type_name(given)}; expected {_type_name(tensor)}"
            yield model.in_config("warmup-tensor", where, message)
        dims, expected = list(given.dims), list(tensor.dims)
        fits = len(dims) == len(expected) and all(
            dim >= 1 and size in (-1, dim) for dim, size in zip(dims, expected, strict=True)
        )
        if not fits:
            yield model.in_config("warmup-tensor", where, f"dims are {dims}; expected {expected}, a number for each -1")


def check_ensemble(model: Model, models: Mapping[str, Model]) -> Iterator[RepositoryFinding]:
    """Check the tensors of an ensemble against the models of its steps."""
    ends: dict[str, list[_End]] = {}
    for tensor in (*model.config.input, *model.config.output):
        ends.setdefault(tensor.name, []).append((model.name, _type_name(tensor), full_dims(tensor, model)))
    for step in model.config.ensemble_scheduling.step:
        if (part := models.get(step.model_name)) is None:
            continue
        for names, tensors in ((step.input_map, part.config.input), (step.output_map, part.config.output)):
            for tensor in tensors:
                if tensor.name in names:
                    ends.setdefault(names[tensor.name], []).append(_end_of_step(part, tensor))
    for name, sides in ends.items():
        yield from _compare_ends(model, name, sides)


def _end_of_step(part: Model, tensor: Any) -> _End:
    # Without the reshape, which is the model's own affair.
    return part.name, _type_name(tensor), (*([-1] if part.batched else []), *tensor.dims)


def _compare_ends(model: Model, name: str, sides: Sequence[_End]) -> Iterator[RepositoryFinding]:
    (first, data_type, dims), *others = sides
    for other, other_type, other_dims in others:
        if data_type != other_type:
            message = f"{data_type} in {first}, {other_type} in {other}"
            yield model.in_config("ensemble-type", f"tensor {name!r}", message)
        pairs = list(zip(dims, other_dims, strict=False))
        if len(dims) != len(other_dims) or any(a != b and -1 not in (a, b) for a, b in pairs):
            message = f"{list(dims)} in {first}, {list(other_dims)} in {other}"
            yield model.in_config("ensemble-type", f"tensor {name!r}", message)
        else:
            dims = tuple(max(a, b) for a, b in pairs)  # a number that one side fixes holds for the others


def full_dims(tensor: Any, model: Model) -> tuple[int, ...]:
    """Return what the artifact receives: the dims or their reshape, with -1 for the batch in front."""
    dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
    return (*([-1] if model.batched else []), *dims)


def _type_name(tensor: Any) -> str:
    """Return the `data_type` of a message as a name, such as `TYPE_FP32`; through its descriptor, without an import."""
    known = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    number = tensor.data_type
    return str(known[number].name) if number in known else f"type {number}"
