"""Rules on a config against the inputs and outputs that its artifact has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refine_export.deploy.preflight.repository_reader import Model
from refine_export.deploy.preflight.rules_config import full_dims, type_name
from refine_export.deploy.preflight.rules_text import Finding
from refine_export.deploy.triton.names import CONFIG_FILE


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of an artifact."""

    types: tuple[str, ...]
    """The types that it may have, such as `TYPE_FP32`; none where that is not known."""
    shape: tuple[int | None, ...] | None
    """None for a free dimension; None for a shape that is not known."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What a config has to agree with."""

    where: str
    """The file, such as `1/model.onnx`."""
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def compare(model: Model, artifact: Artifact) -> Iterator[Finding]:
    """Names, types, dims and the batch of each tensor in the config; outputs that it leaves out are never computed."""
    sides = (("input", model.config.input, artifact.inputs), ("output", model.config.output, artifact.outputs))
    for kind, given, there in sides:
        for tensor in given:
            where = f"{CONFIG_FILE}: {kind} {tensor.name!r}"
            if tensor.name not in there:
                names = ", ".join(there) or "(none)"
                yield model.found("tensor-names", where, f"{artifact.where} has the {kind}s {names}")
                continue
            yield from _types(model, where, tensor, there[tensor.name], artifact.where)
            yield from _dims(model, where, tensor, there[tensor.name], artifact.where)
    for name in artifact.inputs:
        if name not in {tensor.name for tensor in model.config.input}:
            yield model.found("tensor-names", f"{CONFIG_FILE}: input", f"{artifact.where} needs the input {name!r} too")


def _types(model: Model, where: str, given: Any, there: Tensor, artifact: str) -> Iterator[Finding]:
    if there.types and given.data_type and type_name(given.data_type) not in there.types:
        expected = " or ".join(there.types)
        yield model.found("tensor-types", where, f"it is {type_name(given.data_type)}, in {artifact} {expected}")


def _dims(model: Model, where: str, given: Any, there: Tensor, artifact: str) -> Iterator[Finding]:
    if there.shape is None:
        return
    batched = model.config.max_batch_size > 0
    dims, shape = full_dims(given, batched), there.shape
    said = f"in {artifact} it is [{', '.join('-1' if size is None else str(size) for size in shape)}]"
    largest = model.config.max_batch_size
    if batched and shape and shape[0] is not None and not _one_is_enough(model, shape[0]):
        yield model.found("batch-size", where, f"max_batch_size is {largest}; {said}, whose batch is fixed")
    first = 1 if batched else 0
    pairs = list(zip(dims, shape, strict=False))[first:]
    fits = len(dims) == len(shape) and all(size in (None, dim) for dim, size in pairs)
    if not fits:
        batch = ", with the batch in front" if batched else ""
        yield model.found("tensor-dims", where, f"dims are {list(dims)}{batch}; {said}")


def _one_is_enough(model: Model, batch: int) -> bool:
    """Whether batches of 1 may be promised for a fixed one: not by ONNX Runtime's backend, which wants a free one."""
    return batch == model.config.max_batch_size == 1 and model.backend != "onnxruntime"
