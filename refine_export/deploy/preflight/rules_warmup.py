"""Rules on warm-up samples. The server skips one of batch 0 without a word, and others can end the server itself.

Seen on Triton 24.10: a sample of batch 3 for a model with max_batch_size 0 ended it with a segmentation fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from refine_export.deploy.preflight.repository_reader import MODEL_BYTES, Model, unreadable
from refine_export.deploy.preflight.rules_config import type_name
from refine_export.deploy.preflight.rules_text import Finding
from refine_export.deploy.triton.names import CONFIG_FILE

_BYTES: Final = {"BOOL": 1, "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8} | {
    f"{sign}INT{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64)
}


def check_warmup(model: Model) -> Iterator[Finding]:
    """All of these, for each sample."""
    if model.backend == "ensemble":
        return  # `ensemble` says it
    for number, sample in enumerate(model.config.model_warmup):
        where = f"{CONFIG_FILE}: model_warmup {sample.name or number!r}"
        yield from _batch(model, sample, where)
        known = {tensor.name: tensor for tensor in model.config.input}
        for name in sorted(set(sample.inputs) - set(known)):
            yield model.found("warmup-input", where, f"{name!r} is none of the inputs {', '.join(known) or '(none)'}")
        for name, tensor in known.items():
            if name in sample.inputs:
                yield from _tensor(model, tensor, sample, f"{where}: {name!r}")
            elif not tensor.optional:
                yield model.found("warmup-input", where, f"the input {name!r} is missing")


def _batch(model: Model, sample: Any, where: str) -> Iterator[Finding]:
    if sample.batch_size == 0:
        yield model.found("warmup-batch", where, "batch_size is 0, or left out")
    elif sample.batch_size > max(1, model.config.max_batch_size):
        largest = model.config.max_batch_size
        yield model.found("warmup-batch", where, f"batch_size is {sample.batch_size}, max_batch_size {largest}")


def _tensor(model: Model, tensor: Any, sample: Any, where: str) -> Iterator[Finding]:
    given = sample.inputs[tensor.name]
    dims, expected = list(given.dims), list(tensor.dims)
    if given.data_type != tensor.data_type:
        message = f"{type_name(given.data_type)}; expected {type_name(tensor.data_type)}"
        yield model.found("warmup-tensor", where, message)
    if any(dim < 1 for dim in dims):
        yield model.found("warmup-tensor", where, f"dims are {dims}; expected numbers from 1")
        return
    if len(dims) != len(expected) or any(0 < at != dim for dim, at in zip(dims, expected, strict=True)):
        yield model.found("warmup-tensor", where, f"dims are {dims}; expected {expected}, a number for each -1")
        return
    source = given.WhichOneof("input_data_type")
    if source == "input_data_file":
        path = model.folder / "warmup" / given.input_data_file
        if problem := unreadable(path, model.root, MODEL_BYTES):
            yield model.found("warmup-data", where, f"{model.where(path)}: {problem}")
            return
        wanted = math.prod(dims) * _BYTES.get(type_name(given.data_type).removeprefix("TYPE_"), 0)
        if (size := path.stat().st_size) < wanted:
            message = f"{model.where(path)} has {size} bytes; expected {wanted} at least"
            yield model.found("warmup-data", where, message)
    elif source is None or not getattr(given, source):
        yield model.found("warmup-data", where, "none of zero_data, random_data and input_data_file is given")
