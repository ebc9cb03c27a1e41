"""Rules on a config against the inputs and outputs of its artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refine_export.deploy.preflight.findings import Finding
from refine_export.deploy.preflight.repository_reader import Model


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of an artifact."""

    types: tuple[str, ...]
    """Types that it may have, such as `TYPE_FP32`; empty where that is not known."""
    shape: tuple[int | None, ...] | None
    """None for a free dimension; None for a shape that is not known."""


@dataclass(frozen=True, kw_only=True)
class ArtifactTensors:
    """Inputs and outputs that a config has to agree with."""

    where: str
    """File, such as `1/model.onnx`."""
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def full_dims(tensor: Any, model: Model) -> tuple[int, ...]:
    """Return what the artifact receives: the dims or their reshape, with -1 for the batch in front."""
    dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
    return (*([-1] if model.batched else []), *dims)


def type_name(tensor: Any) -> str:
    """Return the `data_type` of a message as a name, such as `TYPE_FP32`; through its descriptor, without an import."""
    known = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    number = tensor.data_type
    return str(known[number].name) if number in known else f"type {number}"


def compare_tensors(model: Model, artifact: ArtifactTensors) -> Iterator[Finding]:
    """Compare names, types, dims and batch; the config may leave out outputs, which then are not computed."""
    for kind, configured, known in (
        ("input", model.config.input, artifact.inputs),
        ("output", model.config.output, artifact.outputs),
    ):
        for tensor in configured:
            field = f"{kind} {tensor.name!r}"
            if tensor.name not in known:
                names = ", ".join(known) or "(none)"
                yield model.in_config("tensor-names", field, f"{artifact.where} has the {kind}s {names}")
                continue
            types = known[tensor.name].types
            if types and tensor.data_type and type_name(tensor) not in types:
                message = f"it is {type_name(tensor)}, in {artifact.where} {' or '.join(types)}"
                yield model.in_config("tensor-types", field, message)
            yield from _compare_dims(model, field, tensor, known[tensor.name].shape, artifact.where)
    configured_names = {tensor.name for tensor in model.config.input}
    for name in artifact.inputs.keys() - configured_names:
        yield model.in_config("tensor-names", "input", f"{artifact.where} needs the input {name!r} too")


def _compare_dims(
    model: Model, field: str, tensor: Any, shape: tuple[int | None, ...] | None, artifact: str
) -> Iterator[Finding]:
    if shape is None:
        return
    dims, largest = full_dims(tensor, model), model.config.max_batch_size
    actual = f"in {artifact} it is [{', '.join('-1' if size is None else str(size) for size in shape)}]"
    # Only ONNX Runtime's backend insists on a free dimension where every batch is 1.
    one_fits = shape[:1] == (1,) and largest == 1 and model.backend != "onnxruntime"
    if model.batched and shape and shape[0] is not None and not one_fits:
        yield model.in_config("batch-size", field, f"max_batch_size is {largest}; {actual}, whose batch is fixed")
    pairs = list(zip(dims, shape, strict=False))[1 if model.batched else 0 :]
    if len(dims) != len(shape) or any(size not in (None, dim) for dim, size in pairs):
        batch = ", with the batch in front" if model.batched else ""
        yield model.in_config("tensor-dims", field, f"dims are {list(dims)}{batch}; {actual}")
