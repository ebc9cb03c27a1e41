"""Rules on a config alone: what Triton's core refuses, as src/model_config_utils.cc has it, and what it lets pass."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from refine_export.deploy.preflight.repository_reader import MODEL_FILES, PLATFORMS, Model
from refine_export.deploy.preflight.rules_text import Finding
from refine_export.deploy.triton.names import CONFIG_FILE


def check_config(model: Model) -> Iterator[Finding]:
    """All of these."""
    for rule in (_name, _backend, _tensors, _batching, _instances, _served_by_others, _accelerators):
        yield from rule(model)


def full_dims(tensor: Any, batched: bool) -> tuple[int, ...]:
    """What the artifact sees: the dims or their reshape, with -1 for the batch in front."""
    dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
    return (*([-1] if batched else []), *dims)


def type_name(number: int) -> str:
    """`TYPE_FP32`"""
    from tritonclient.grpc import model_config_pb2

    known = model_config_pb2.DataType.values()
    return str(model_config_pb2.DataType.Name(number)) if number in known else f"type {number}"


def _at(field: str) -> str:
    return f"{CONFIG_FILE}: {field}"


def _name(model: Model) -> Iterator[Finding]:
    if model.config.name not in ("", model.name):
        yield model.found("model-name", _at("name"), f"it is {model.config.name!r}; expected {model.name!r}")


def _backend(model: Model) -> Iterator[Finding]:
    backend, platform = model.config.backend, model.config.platform
    if not model.backend:
        given = f"platform {platform!r} is not known" if platform else "neither backend nor platform is given"
        yield model.found("backend", _at("backend"), given)
    elif platform and backend and platform != backend:
        fits = next((name for name, of in PLATFORMS.items() if of == backend), platform)
        if platform != fits or platform == "ensemble":
            yield model.found("backend", _at("platform"), f"platform {platform!r} and backend {backend!r} do not fit")
    elif model.backend not in (*MODEL_FILES, "ensemble"):
        yield model.found("backend-unknown", _at("backend"), f"backend {backend!r}")


def _tensors(model: Model) -> Iterator[Finding]:
    for kind, tensors in (("input", model.config.input), ("output", model.config.output)):
        if not tensors:
            yield model.found("tensors", _at(kind), f"it has no {kind}s")
        for name, count in Counter(tensor.name for tensor in tensors).items():
            if count > 1:
                yield model.found("tensors", _at(kind), f"{count} {kind}s are called {name!r}")
        for tensor in tensors:
            where = _at(f"{kind} {tensor.name!r}")
            if not tensor.name:
                yield model.found("tensors", where, f"an {kind} without a name")
            if not tensor.data_type:
                yield model.found("tensors", where, "data_type is missing")
            if not tensor.dims or any(dim < 1 and dim != -1 for dim in tensor.dims):
                yield model.found("tensors", where, f"dims are {list(tensor.dims)}; expected sizes from 1, or -1")
            elif tensor.HasField("reshape"):
                yield from _reshape(model, where, tensor)


def _reshape(model: Model, where: str, tensor: Any) -> Iterator[Finding]:
    """The same number of elements on both sides, between each pair of free dimensions."""
    dims, shape = list(tensor.dims), list(tensor.reshape.shape)
    said = f"dims {dims} are reshaped to {shape}"
    if any(dim < 1 and dim != -1 for dim in shape):
        yield model.found("tensors", where, f"{said}; expected sizes from 1, or -1")
    elif not shape and model.config.max_batch_size <= 0:
        yield model.found("tensors", where, f"{said}; expected some dims where max_batch_size is 0")
    elif _counts(dims) != _counts(shape):
        yield model.found("tensors", where, f"{said}; expected as many elements")


def _counts(dims: Sequence[int]) -> list[int]:
    counts = [1]
    for dim in dims:
        if dim == -1:
            counts.append(1)
        else:
            counts[-1] = math.prod((counts[-1], dim))
    return counts


def _batching(model: Model) -> Iterator[Finding]:
    largest = model.config.max_batch_size
    if largest < 0:
        yield model.found("batch-size", _at("max_batch_size"), f"it is {largest}; expected 0 or more")
    if not model.config.HasField("dynamic_batching"):
        return
    where = _at("dynamic_batching")
    if largest == 0:
        yield model.found("dynamic-batching", where, "max_batch_size is 0")
    for size in model.config.dynamic_batching.preferred_batch_size:
        if largest > 0 and not 0 < size <= largest:
            message = f"preferred_batch_size {size}; expected 1 to max_batch_size, {largest}"
            yield model.found("dynamic-batching", where, message)


def _instances(model: Model) -> Iterator[Finding]:
    kinds = {0: "KIND_AUTO", 1: "KIND_GPU", 2: "KIND_CPU", 3: "KIND_MODEL"}
    for number, group in enumerate(model.config.instance_group):
        where, kind = _at(f"instance_group {number}"), kinds.get(group.kind, str(group.kind))
        if group.gpus and kind in ("KIND_CPU", "KIND_MODEL"):
            yield model.found("instance-group", where, f"{kind} with gpus {list(group.gpus)}")
        if any(gpu < 0 for gpu in group.gpus) or group.count < 0:
            yield model.found("instance-group", where, f"count {group.count}, gpus {list(group.gpus)}: below 0")
        if model.backend == "tensorrt" and kind in ("KIND_CPU", "KIND_MODEL"):
            yield model.found("instance-group", where, f"{kind} for a TensorRT plan; expected KIND_GPU")
        if group.profile and model.backend not in ("tensorrt", "ensemble"):
            yield model.found(
                "instance-group", where, f"profile {list(group.profile)} for {model.backend or 'no plan'}"
            )
        for profile in group.profile:
            if not re.fullmatch(r"[0-9]{1,9}", profile):
                message = f'profile {profile!r}; expected the number of one, such as "0"'
                yield model.found("instance-group", where, message)


def _served_by_others(model: Model) -> Iterator[Finding]:
    if model.config.response_cache.enable:
        yield model.found("response-cache", _at("response_cache"), "it is on")
    if model.config.HasField("sequence_batching"):
        yield model.found("not-served", _at("sequence_batching"), "the model keeps state from request to request")
    if model.config.model_transaction_policy.decoupled:
        yield model.found("not-served", _at("model_transaction_policy"), "a request can have many answers, or none")


def _accelerators(model: Model) -> Iterator[Finding]:
    for accelerator in model.config.optimization.execution_accelerators.gpu_execution_accelerator:
        mode = accelerator.parameters.get("precision_mode", "FP32")
        if accelerator.name == "tensorrt" and mode.upper() != "FP32":
            where = _at("optimization: gpu_execution_accelerator tensorrt")
            yield model.found("accelerator-fp16", where, f"precision_mode is {mode!r}")
